//! Word vectors as a task: what a batch is, and what its step does.

use serde_json::Value;
use sterna::TableSpec;

use super::step::{Plan, Planner, Step};
use super::trainer::{INPUT, Trainer};
use super::{Corpus, Subsample, WordsConfig, export};
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};

/// The stream of a batch's draws.
const DRAWS: u64 = 2;

/// Training on a text.
#[derive(Debug)]
pub struct Words {
    corpus: Corpus,
    config: WordsConfig,
    trainer: Trainer,
}

/// A worker's buffers.
#[derive(Debug)]
pub struct State {
    planner: Planner,
    step: Step,
}

impl Words {
    /// Trains on `corpus` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(corpus: Corpus, config: WordsConfig) -> Result<Self, TaskError> {
        config.check()?;
        #[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
        let counts = corpus.counts.iter().map(|&count| count as f64);
        let subsample = Subsample::new(&corpus.counts, config.sample);
        let trainer = Trainer::new(config.shape(), config.rate(), counts, config.power, subsample);
        Ok(Self { corpus, config, trainer })
    }

    /// The text.
    #[must_use]
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }
}

impl Task for Words {
    type Batch = Plan;
    type State = State;

    fn describe(&self) -> Description {
        let (model, dataset) = (self.config.architecture.name(), self.corpus.name.clone());
        // Words as they were read, also those too rare to train on, as other programs count.
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let words = self.corpus.words_read as f64 / self.corpus.chunks() as f64;
        let goal = Goal::Maximise("analogy_30k");
        Description::new("words", model, dataset, goal).unit("words", words)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch", "vectors"]
    }

    fn digest(&self, digest: &mut Digest) {
        self.corpus.digest(digest);
    }

    fn tables(&self) -> Vec<TableSpec> {
        self.trainer.tables()
    }

    fn data_bytes(&self) -> u64 {
        self.corpus.bytes() + self.trainer.bytes()
    }

    fn examples(&self) -> usize {
        self.corpus.chunks()
    }

    fn batch_len(&self, _workers: usize) -> usize {
        self.config.chunks_per_batch()
    }

    fn state(&self, _: Share) -> State {
        let shape = self.trainer.shape();
        State { planner: Planner::new(shape, self.trainer.words()), step: Step::new(shape) }
    }

    fn draw(&self, state: &mut State, part: &Part<'_>, plan: &mut Plan) {
        let chunks = part.examples.iter().flat_map(|&chunk| self.corpus.chunk(chunk as usize));
        state.planner.plan(chunks, self.trainer.samplers(), &mut part.random(DRAWS), plan);
    }

    fn keys(&self, plan: &Plan, keys: &mut [Vec<u64>]) {
        self.trainer.keys(plan, keys);
    }

    fn step(
        &self,
        state: &mut State,
        plan: &mut Plan,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        self.trainer.step(&mut state.step, plan, moment, parameters)
    }

    fn has(&self, _: Split) -> bool {
        false
    }

    fn evaluate(&self, _: &mut Parameters<'_>, _: Split, _: Share) -> Result<Quality, TaskError> {
        Ok(Quality::default())
    }

    /// Input vectors in word2vec's own form, both matrices, and the words with their counts.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        export.all_tables();
        export.names("words", self.corpus.words.names())?;
        export::vectors(export, self.config.vectors, INPUT, || self.corpus.words.names())
    }
}
