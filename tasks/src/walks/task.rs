//! Node embeddings as a task: what a batch is, and what its step does.

use serde_json::Value;
use sterna::TableSpec;
use sterna::sampling::Sampling;

use super::{Evaluation, Graph, Walker, WalksConfig, visits};
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};
use crate::words::step::{Plan, Planner, Step};
use crate::words::{INPUT, Subsample, Trainer, export_vectors};

/// The streams of a batch's walks and of its draws.
const WALKS: u64 = 3;
const DRAWS: u64 = 4;

/// Training on a graph.
#[derive(Debug)]
pub struct Walks {
    graph: Graph,
    config: WalksConfig,
    trainer: Trainer,
    evaluation: Option<Evaluation>,
}

/// A worker's buffers.
#[derive(Debug)]
pub struct State {
    planner: Planner,
    step: Step,
    /// The walks of a batch, one behind the other, and where each ends.
    walks: Vec<u32>,
    ends: Vec<usize>,
}

impl Walks {
    /// Trains on `graph` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work; more than 2^32 walks.
    pub fn new(graph: Graph, config: WalksConfig) -> Result<Self, TaskError> {
        config.check()?;
        let walks = graph.nodes.len() as u64 * u64::from(config.walks);
        if walks > u64::from(u32::MAX) {
            let reason = "makes more than 2^32 walks an epoch: take more epochs of fewer";
            return Err(TaskError::setting("walks", &config.walks, reason));
        }
        let counts = visits(&graph, config.length).into_iter();
        // Walks visit hubs often, and none of these visits is dropped.
        let subsample = Subsample::new(&[], 0.0);
        let negatives = (config.power, config.sampling);
        let trainer = Trainer::new(config.shape(), config.rate(), counts, negatives, subsample)?;
        Ok(Self { graph, config, trainer, evaluation: None })
    }

    /// The same with an evaluation of its vectors: at the end, and every
    /// [`RunConfig::valid_every`] epochs.
    #[must_use]
    pub fn evaluated_by(mut self, evaluation: Evaluation) -> Self {
        self.evaluation = Some(evaluation);
        self
    }

    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

impl Task for Walks {
    type Batch = Plan;
    type State = State;

    fn describe(&self) -> Description {
        #[expect(clippy::cast_precision_loss, reason = "a length is small")]
        let nodes = self.config.length as f64;
        let goal = Goal::Maximise("micro_f1");
        Description::new("walks", self.config.model(), self.graph.name.clone(), goal)
            .unit("nodes", nodes)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch", "sampling", "vectors"]
    }

    fn digest(&self, digest: &mut Digest) {
        self.graph.digest(digest);
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.trainer.tables()
    }

    fn data_bytes(&self) -> u64 {
        self.graph.bytes() + self.trainer.bytes()
    }

    fn examples(&self) -> usize {
        self.graph.nodes.len() * self.config.walks as usize
    }

    fn batch_len(&self, _workers: usize) -> usize {
        self.config.walks_per_batch()
    }

    fn state(&self, _: Share) -> State {
        let shape = self.trainer.shape();
        State {
            planner: Planner::new(shape, self.trainer.words()),
            step: Step::new(shape),
            walks: Vec::new(),
            ends: Vec::new(),
        }
    }

    fn draw(&self, state: &mut State, part: &Part<'_>, plan: &mut Plan) {
        let walker = Walker::new(&self.graph, self.config.p, self.config.q);
        let nodes = u32::try_from(self.graph.nodes.len()).expect("nodes are u32");
        let mut random = part.random(WALKS);
        state.walks.clear();
        state.ends.clear();
        for &example in part.examples {
            walker.walk(example % nodes, self.config.length, &mut random, &mut state.walks);
            state.ends.push(state.walks.len());
        }
        let starts = [0].iter().chain(&state.ends);
        let walks = starts.zip(&state.ends).map(|(&start, &end)| &state.walks[start..end]);
        state.planner.plan(walks, self.trainer.subsample(), &mut part.random(DRAWS), plan);
    }

    fn keys(&self, plan: &Plan, keys: &mut [Vec<u64>]) {
        self.trainer.keys(plan, keys);
    }

    fn samples(&self) -> Vec<(usize, Sampling)> {
        self.trainer.samples()
    }

    fn sample_len(&self, plan: &Plan, _: usize) -> usize {
        self.trainer.sample_len(plan)
    }

    fn step(
        &self,
        state: &mut State,
        plan: &mut Plan,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        let State { planner, step, .. } = state;
        self.trainer.step((planner, step), plan, moment, parameters)
    }

    /// There is one evaluation. In the course of a training it is for people to look at; stopping
    /// early by it would be choosing by the test.
    fn has(&self, split: Split) -> bool {
        let wanted = split == Split::Test || self.config.run.valid_every > 0;
        self.evaluation.is_some() && wanted
    }

    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        _: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        match &self.evaluation {
            Some(evaluation) => evaluation.evaluate(parameters, share),
            None => Ok(Quality::default()),
        }
    }

    /// Input vectors in word2vec's own form, both matrices, and the nodes in their order.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        export.all_tables();
        export.names("nodes", self.graph.nodes.names())?;
        export_vectors(export, self.config.vectors, INPUT, || self.graph.nodes.names())
    }
}
