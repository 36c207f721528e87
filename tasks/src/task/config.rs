//! The settings that all tasks have.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::TaskError;

/// How long to train, and what to keep; to be flattened into a task's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConfig {
    /// Passes over the training examples.
    pub epochs: u32,
    /// Seed of everything random: initial rows, order, samples.
    pub seed: u64,
    /// Epochs from one validation to the next; 0 validates only at the end.
    pub valid_every: u32,
    /// Validations without a better figure after which training stops and returns to the best;
    /// 0 never stops early, and saves the memory of a second copy of the values.
    pub patience: u32,
    /// Whether a training that goes its whole way also returns to the rows of its best validation.
    pub keep_best: bool,
    /// Batches whose keys are announced before their step; 0 announces none.
    pub ahead: usize,
    /// Where checkpoints go; none writes none.
    pub checkpoint: Option<PathBuf>,
    /// Epochs from one checkpoint to the next; 0 saves only when the run is stopped.
    pub checkpoint_every: u32,
    /// Continue from the latest checkpoint.
    pub resume: bool,
    /// Where the model goes after training; none writes none.
    pub export: Option<PathBuf>,
    /// In which format.
    pub export_format: ExportFormat,
}

/// The files of an exported model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// A `.npy` for each matrix.
    #[default]
    Npy,
    /// One `model.safetensors`.
    Safetensors,
    /// Both.
    Both,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            seed: 1,
            valid_every: 1,
            patience: 0,
            keep_best: false,
            ahead: 8,
            checkpoint: None,
            checkpoint_every: 0,
            resume: false,
            export: None,
            export_format: ExportFormat::Npy,
        }
    }
}

/// Settings that may change from one run to the next: how often it validates or saves.
pub(super) const FREE: [&str; 9] = [
    "valid_every",
    "patience",
    "keep_best",
    "ahead",
    "checkpoint",
    "checkpoint_every",
    "resume",
    "export",
    "export_format",
];

impl RunConfig {
    /// Whether a copy of the best rows is kept.
    #[must_use]
    pub fn keeps_best(&self) -> bool {
        self.patience > 0 || self.keep_best
    }

    /// Whether a validation is due after so many epochs; there is one at the end in any case.
    #[must_use]
    pub fn validates(&self, epochs: u32) -> bool {
        self.valid_every > 0 && epochs.is_multiple_of(self.valid_every)
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        const NO_FOLDER: &str = "needs a checkpoint folder";
        const AHEAD_MAX: usize = 1 << 16;
        if self.epochs == 0 {
            return Err(TaskError::setting("epochs", &self.epochs, "must be at least 1"));
        }
        if self.ahead > AHEAD_MAX {
            return Err(TaskError::setting("ahead", &self.ahead, "is more than 65536 batches"));
        }
        if self.checkpoint.is_none() {
            if self.resume {
                return Err(TaskError::setting("resume", &true, NO_FOLDER));
            }
            if self.checkpoint_every > 0 {
                let value = &self.checkpoint_every;
                return Err(TaskError::setting("checkpoint_every", value, NO_FOLDER));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{FREE, RunConfig, TaskError};

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Change = fn(&mut RunConfig);
        let cases: [(&str, Change); 4] = [
            ("epochs", |c| c.epochs = 0),
            ("ahead", |c| c.ahead = 1 << 20),
            ("resume", |c| c.resume = true),
            ("checkpoint_every", |c| c.checkpoint_every = 1),
        ];
        assert!(RunConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = RunConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn free_settings_are_settings() {
        let all = serde_json::json!(RunConfig::default());
        assert!(FREE.iter().all(|name| all.get(name).is_some()));
    }
}
