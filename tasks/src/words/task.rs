//! Word vectors as a task: what a batch is, and what its step does.

use serde_json::Value;
use sterna::TableSpec;
use sterna::sampling::Sampling;

use super::step::{Plan, Planner, Step};
use super::trainer::{INPUT, Trainer};
use super::{Corpus, Evaluation, Subsample, WordsConfig, export};
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};

/// The stream of a batch's draws.
const DRAWS: u64 = 3;

/// Training on a text.
#[derive(Debug)]
pub struct Words {
    corpus: Corpus,
    config: WordsConfig,
    trainer: Trainer,
    evaluation: Option<Evaluation>,
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
        let negatives = (config.power, config.sampling);
        let trainer = Trainer::new(config.shape(), config.rate(), counts, negatives, subsample)?;
        Ok(Self { corpus, config, trainer, evaluation: None })
    }

    /// The same with an evaluation of its vectors: at the end, and every
    /// [`RunConfig::valid_every`] epochs.
    #[must_use]
    pub fn evaluated_by(mut self, evaluation: Evaluation) -> Self {
        self.evaluation = Some(evaluation);
        self
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
        let goal = self.evaluation.as_ref().map_or(Goal::Maximise("analogy_30k"), Evaluation::goal);
        Description::new("words", model, dataset, goal).unit("words", words)
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
        state.planner.plan(chunks, self.trainer.subsample(), &mut part.random(DRAWS), plan);
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

    fn evaluated(&self, _: Split, _: Share, keys: &mut [Vec<u64>]) {
        if let Some(evaluation) = &self.evaluation {
            keys[INPUT].extend(evaluation.words());
        }
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

    /// Input vectors in word2vec's own form, both matrices, and the words with their counts.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        export.all_tables();
        export.names("words", self.corpus.words.names())?;
        export::vectors(export, self.config.vectors, INPUT, || self.corpus.words.names())
    }
}
