//! Node classification as a task: what a batch is, and what its step does.

use rand::RngCore;
use serde_json::Value;
use sterna::TableSpec;

use super::batch::Batch;
use super::config::GnnConfig;
use super::data::Dataset;
use super::evaluate::Evaluators;
use super::step::Step;
use super::tables::{DENSE, INPUT, Tables};
use crate::task::{
    Dealt, Description, Digest, Epoch, Export, Goal, Loss, Moment, Parameters, Part, Quality,
    RunConfig, Share, Split, Task, TaskError, settings_of,
};

/// The stream of a batch's neighbours and dropped values.
const DRAW: u64 = 2;

/// Training on a graph.
#[derive(Debug)]
pub struct Gnn {
    pub(super) data: Dataset,
    pub(super) config: GnnConfig,
    pub(super) tables: Tables,
    pub(super) evaluators: Evaluators,
}

impl Gnn {
    /// Trains on `data` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work, by themselves or for these data.
    pub fn new(mut data: Dataset, config: GnnConfig) -> Result<Self, TaskError> {
        config.check()?;
        if data.features.is_none() && config.embedding == 0 {
            let reason = "is none, and the data have no features: learn embeddings of some size";
            return Err(TaskError::setting("embedding", &0, reason));
        }
        if config.normalise
            && let Some(features) = &mut data.features
        {
            features.normalise_rows();
        }
        let tables = Tables::new(&data, &config);
        Ok(Self { data, config, tables, evaluators: Evaluators::default() })
    }

    /// The graph.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &GnnConfig {
        &self.config
    }

    pub(super) fn nodes_of(&self, split: Split) -> &[u32] {
        match split {
            Split::Valid => &self.data.splits.valid,
            Split::Test => &self.data.splits.test,
        }
    }

    /// Whether all steps of a worker are about the same nodes with the same neighbours.
    fn is_full_batch(&self) -> bool {
        self.config.batch == 0
    }
}

impl Task for Gnn {
    type Batch = Batch;
    type State = Step;

    fn describe(&self) -> Description {
        let (model, dataset) = (self.config.model.name(), self.data.name.clone());
        Description::new("gnn", model, dataset, Goal::Maximise("accuracy")).unit("nodes", 1.0)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch", "evaluate_batch"]
    }

    fn digest(&self, digest: &mut Digest) {
        let Dataset { graph, features, classes, splits, .. } = &self.data;
        (0..).take(graph.nodes()).for_each(|node| {
            digest.number(graph.of(node).len() as u64);
            digest.numbers(graph.of(node));
        });
        if let Some(features) = features {
            for row in 0..features.len() {
                let (columns, values) = features.row(row);
                digest.number(columns.len() as u64);
                digest.numbers(columns);
                digest.floats(values);
            }
        }
        for nodes in [classes, &splits.train, &splits.valid, &splits.test] {
            digest.number(nodes.len() as u64);
            digest.numbers(nodes);
        }
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.tables.specs(&self.config)
    }

    fn data_bytes(&self) -> u64 {
        let Dataset { graph, features, .. } = &self.data;
        let pairs = features.as_ref().map_or(0, crate::sparse::SparseRows::pairs);
        let (nodes, edges) = (graph.nodes(), graph.edges());
        // Validation sees nearly all nodes at once, and so does a full batch; the rows of each layer are there about
        // four times: as they are, before and after a product, and as gradients.
        let input = self.config.embedding;
        let layers: usize = self.tables.widths[1..].iter().sum();
        let rows = 4 * size_of::<f32>() * nodes * (input + layers);
        (nodes * 8 * size_of::<u64>() + 8 * edges + 8 * pairs + rows) as u64
    }

    fn examples(&self) -> usize {
        self.data.splits.train.len()
    }

    fn batch_len(&self, workers: usize) -> usize {
        if self.is_full_batch() { self.examples().div_ceil(workers) } else { self.config.batch }
    }

    /// A full batch is the same in every epoch, so that its blocks are built once.
    fn order(&self, epoch: &Epoch, order: &mut Vec<u32>) -> Dealt {
        if self.is_full_batch() {
            order.clear();
            order.extend((0..).zip(&self.data.splits.train).map(|(number, _): (u32, _)| number));
            Dealt::Shared
        } else {
            epoch.shuffled(order, self.examples());
            Dealt::Shared
        }
    }

    fn state(&self, _: Share) -> Step {
        Step::new(&self.data, &self.config, &self.tables)
    }

    fn start(&self, parameters: &mut Parameters<'_>, share: Share) -> Result<(), TaskError> {
        if share.index == 0 {
            self.tables.layout.start(self.config.run.seed, DENSE, parameters)?;
        }
        Ok(())
    }

    fn draw(&self, step: &mut Step, part: &Part<'_>, batch: &mut Batch) {
        let mut random = part.random(DRAW);
        batch.dropout_seed = random.next_u64();
        if !self.config.samples() && batch.examples == part.examples {
            return;
        }
        batch.examples.clear();
        batch.examples.extend_from_slice(part.examples);
        let train = &self.data.splits.train;
        let nodes: Vec<u32> =
            part.examples.iter().map(|&example| train[example as usize]).collect();
        step.builder.build(&self.data, &nodes, &self.config.fanouts(), &mut random, batch);
    }

    fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
        keys[INPUT].extend(&batch.keys);
        keys[DENSE].extend(Step::dense_keys(&self.tables));
    }

    fn step(
        &self,
        step: &mut Step,
        batch: &mut Batch,
        _: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        let sum = step.train(&self.tables, self.config.weight_decay, batch, parameters)?;
        Ok(Loss::of(sum, batch.labels.len()))
    }

    fn has(&self, split: Split) -> bool {
        !self.nodes_of(split).is_empty()
    }

    /// With all their neighbours, few nodes see nearly all of the graph.
    fn evaluated(&self, _: Split, _: Share, keys: &mut [Vec<u64>]) {
        for (keys, spec) in keys.iter_mut().zip(self.tables()) {
            keys.extend(0..spec.keys());
        }
    }

    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        self.quality(parameters, split, share)
    }

    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        self.write(export)
    }
}
