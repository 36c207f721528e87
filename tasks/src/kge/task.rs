//! Knowledge graph embeddings as a task: what a batch is, and what its step does.

use std::ops::Range;

use rand::Rng;
use serde_json::Value;
use sterna::TableSpec;
use sterna::sampling::{Distribution, Sampling};

use super::filter::Filter;
use super::step::{Step, backward_row, keys_of_row};
use super::{Graph, KgeConfig, ModelKind, Triple, tables};
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};

/// The table of entities.
pub const ENTITY: usize = 0;
/// The table of relations, with the reciprocal ones behind if there are any.
pub const RELATION: usize = 1;

/// The stream of what a batch's dropout drops.
const DROPOUT: u64 = 3;

/// Training on a graph.
#[derive(Debug)]
pub struct Kge {
    pub(super) graph: Graph,
    pub(super) config: KgeConfig,
    pub(super) filter: Filter,
    valid: Vec<Triple>,
    negatives: Distribution,
}

/// Triples, and entities drawn for all their queries.
#[derive(Debug, Default)]
pub struct Batch {
    triples: Vec<Triple>,
    pool: Vec<u64>,
    dropout_seed: u64,
}

impl Kge {
    /// Trains on `graph` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work, a graph without entities.
    pub fn new(graph: Graph, config: KgeConfig) -> Result<Self, TaskError> {
        config.check()?;
        let wanted = if config.valid_max == 0 { graph.valid.len() } else { config.valid_max };
        let stride = graph.valid.len().div_ceil(wanted.max(1)).max(1);
        let valid = graph.valid.iter().step_by(stride).copied().collect();
        let filter = Filter::new(&graph);
        let negatives = Distribution::uniform(0..graph.entities.len() as u64)?;
        Ok(Self { graph, config, filter, valid, negatives })
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &KgeConfig {
        &self.config
    }

    /// The keys of the relation rows that a triple's tail query and its head query read.
    pub(super) fn relation_keys(&self, triple: &Triple) -> [Range<u64>; 2] {
        let parts = self.config.model.relation_parts(self.config.dim);
        let backward = backward_row(&self.config, self.graph.relations.len(), triple.relation);
        [triple.relation, backward].map(|row| keys_of_row(u64::from(row), parts))
    }

    /// The learning rate: from the start's, straight down to 0 at the end.
    fn learning_rate(&self, moment: Moment) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a learning rate needs no f64")]
        let rate = (f64::from(self.config.learning_rate) * (1.0 - moment.progress)) as f32;
        rate
    }
}

impl Task for Kge {
    type Batch = Batch;
    type State = Step;

    fn describe(&self) -> Description {
        let (model, dataset) = (self.config.model.name(), self.graph.name.clone());
        Description::new("kge", model, dataset, Goal::Maximise("mrr")).unit("triples", 1.0)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch", "sampling", "valid_max"]
    }

    fn digest(&self, digest: &mut Digest) {
        let graph = &self.graph;
        for name in graph.entities.names().chain(["\0"]).chain(graph.relations.names()) {
            digest.name(name);
        }
        for triples in [&graph.train, &graph.valid, &graph.test] {
            digest.number(triples.len() as u64);
            for triple in triples {
                digest.numbers(&[triple.head, triple.relation, triple.tail]);
            }
        }
    }

    fn tables(&self) -> Vec<TableSpec> {
        tables::specs(&self.graph, &self.config).into()
    }

    fn data_bytes(&self) -> u64 {
        let graph = &self.graph;
        // The triples, and the filter's two sorted lists of them.
        (3 * size_of::<Triple>() * (graph.train.len() + graph.valid.len() + graph.test.len()))
            as u64
    }

    fn examples(&self) -> usize {
        self.graph.train.len()
    }

    fn batch_len(&self, workers: usize) -> usize {
        self.config.batch_for(workers)
    }

    fn state(&self, _: Share) -> Step {
        Step::new(&self.config, self.graph.entities.len(), self.graph.relations.len())
    }

    fn draw(&self, _: &mut Step, part: &Part<'_>, batch: &mut Batch) {
        batch.triples.clear();
        let triples = part.examples.iter().map(|&number| self.graph.train[number as usize]);
        batch.triples.extend(triples);
        batch.dropout_seed = part.random(DROPOUT).random();
        batch.pool.clear();
        if self.config.one_vs_all {
            batch.pool.extend(self.negatives.keys());
        }
    }

    fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
        keys[ENTITY].extend(&batch.pool);
        for triple in &batch.triples {
            keys[ENTITY].extend([triple.head, triple.tail].map(u64::from));
            keys[RELATION].extend(self.relation_keys(triple).into_iter().flatten());
        }
    }

    fn samples(&self) -> Vec<(usize, Sampling)> {
        vec![(ENTITY, Sampling::new(self.negatives.clone()).scheme(self.config.sampling))]
    }

    fn sample_len(&self, _: &Batch, _: usize) -> usize {
        if self.config.one_vs_all { 0 } else { self.config.negatives }
    }

    fn check_job(&self, nodes: usize, _: usize) -> Result<(), TaskError> {
        if self.config.one_vs_all && nodes > 1 {
            let reason = "needs a single node, as every step would touch every row: take --negatives, or --nodes 1 with more --workers";
            return Err(TaskError::setting("one_vs_all", &true, reason));
        }
        Ok(())
    }

    fn step(
        &self,
        step: &mut Step,
        batch: &mut Batch,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        if !self.config.one_vs_all {
            batch.pool.resize(self.config.negatives, 0);
            parameters.sample(0, &mut batch.pool)?;
        }
        step.plan(&batch.triples, &batch.pool, batch.dropout_seed);
        let (keys, rows) = step.entities.pull_into();
        parameters.pull(ENTITY, keys, rows)?;
        let (keys, rows) = step.relations.pull_into();
        parameters.pull(RELATION, keys, rows)?;
        let sum = step.gradients();
        let rate = self.learning_rate(moment);
        for (table, rows) in [(ENTITY, &step.entities), (RELATION, &step.relations)] {
            parameters.set_learning_rate(table, rate);
            let (keys, gradients) = rows.gradients();
            parameters.push(table, keys, gradients)?;
        }
        Ok(Loss::of(sum, 2 * batch.triples.len()))
    }

    fn has(&self, split: Split) -> bool {
        match split {
            Split::Valid => !self.valid.is_empty(),
            Split::Test => !self.graph.test.is_empty(),
        }
    }

    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let triples = match split {
            Split::Valid => &self.valid,
            Split::Test => &self.graph.test,
        };
        Ok(self.rank(parameters, triples, share)?.into())
    }

    /// Entities and relations with their names. A complex row is its real parts, then its imaginary
    /// parts; row `r * d + i` of RESCAL's relations is row `i` of matrix `r`. With reciprocal
    /// relations, row `R + r` belongs to the inverse of relation `r` of `R`.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        let [entity, relation] = tables::specs(&self.graph, &self.config);
        let columns = match self.config.model {
            ModelKind::Rescal => self.config.dim,
            model => model.relation_len(self.config.dim),
        };
        export.reshaped("entity", ENTITY, 0..entity.keys(), entity.dim());
        export.reshaped("relation", RELATION, 0..relation.keys(), columns);
        export.names("entity", self.graph.entities.names())?;
        export.names("relation", self.graph.relations.names())
    }
}
