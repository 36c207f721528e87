//! What a query's scores cost, and the gradients at them.
//!
//! Every loss sees the score of the right answer and those of a pool drawn uniformly with
//! replacement, shared by all queries of a batch. Other true answers in the pool stay in, as they
//! do in a softmax over all entities.

mod arithmetic;
mod logistic;
mod softmax;

use serde::{Deserialize, Serialize};

use super::KgeConfig;
pub use logistic::{logistic, self_adversarial};
pub use softmax::{correction, sampled_softmax};

/// Which loss the scores of a query have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// Cross entropy of a softmax over the right answer and the pool.
    Softmax,
    /// Logistic loss of the right answer and the mean one of the pool.
    Logistic,
    /// The same with the pool weighed by how high it scores.
    SelfAdversarial,
}

impl LossKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Softmax, Self::Logistic, Self::SelfAdversarial];

    /// The name in settings and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Logistic => "logistic",
            Self::SelfAdversarial => "self-adversarial",
        }
    }
}

/// The loss of a step's queries.
#[derive(Debug)]
pub(crate) struct Loss {
    kind: LossKind,
    margin: f32,
    temperature: f32,
    correct: bool,
    entities: usize,
    /// For each candidate: what its score gets added, or how much it weighs.
    candidates: Vec<f32>,
}

impl Loss {
    pub(crate) fn new(config: &KgeConfig, entities: usize) -> Self {
        Self {
            kind: config.loss,
            margin: config.margin,
            temperature: config.temperature,
            correct: config.correction && !config.one_vs_all,
            entities,
            candidates: Vec::new(),
        }
    }

    /// Takes a pool: how often each candidate was drawn.
    pub(crate) fn prepare(&mut self, draws: &[u32]) {
        let drawn = draws.iter().map(|&draws| draws as usize).sum();
        let correction = if self.correct { correction(self.entities, drawn) } else { 0.0 };
        self.candidates.clear();
        #[expect(clippy::cast_precision_loss, reason = "pools are small")]
        self.candidates.extend(draws.iter().map(|&draws| match self.kind {
            LossKind::Softmax => correction + (draws as f32).ln(),
            LossKind::Logistic => draws as f32 / drawn as f32,
            LossKind::SelfAdversarial => (draws as f32).ln(),
        }));
    }

    /// Turns one query's scores into `scale` times their gradients, but for the candidate `target`,
    /// which is the right answer itself. Returns the loss, and the gradient at the right answer.
    #[inline(always)]
    pub(crate) fn of_query(
        &self,
        positive: f32,
        scores: &mut [f32],
        target: Option<usize>,
        scale: f32,
    ) -> (f32, f32) {
        let (candidates, margin) = (&self.candidates, self.margin);
        match self.kind {
            LossKind::Softmax => sampled_softmax(positive, scores, candidates, target, scale),
            LossKind::Logistic => logistic(positive, scores, candidates, margin, target, scale),
            LossKind::SelfAdversarial => {
                let settings = (margin, self.temperature);
                self_adversarial(positive, scores, candidates, settings, target, scale)
            }
        }
    }
}
