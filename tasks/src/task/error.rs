//! What can go wrong in a training, with where and what to do.

use std::path::{Path, PathBuf};

use crate::data::DataError;

/// An error of a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Data, or another file, that cannot be read or written.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A setting that cannot work.
    #[error("setting {name} = {value}: {reason}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A checkpoint that cannot be continued from.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// Its manifest or shard.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The model left the finite numbers.
    #[error(
        "the loss became {loss} in epoch {epoch}: lower the learning rate or the initial scale"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The mean loss of the epoch.
        loss: f64,
    },
    /// The tables do not fit.
    #[error(
        "this training needs about {needed_mib} MiB on this host and {available_mib} MiB are \
         free: choose a smaller model, more hosts, or let it try with --no-memory-check"
    )]
    Memory {
        /// What the nodes of this host need, in MiB.
        needed_mib: u64,
        /// What the host has, in MiB.
        available_mib: u64,
    },
    /// The nodes are not about to do the same.
    #[error(
        "the nodes of the job differ in data, settings or checkpoint: start all with the same \
         arguments, and with a checkpoint folder that all of them see"
    )]
    Disagreement,
    /// Another worker failed, and says how in its own error.
    #[error("another worker of the job failed; its own message says why")]
    OtherWorker,
    /// The parameter manager failed.
    #[error(transparent)]
    Manager(#[from] sterna::Error),
}

impl TaskError {
    /// For `map_err`: an I/O error that names what was done to which file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Data(DataError::io(action, path)(source))
    }

    /// A setting that cannot work.
    #[must_use]
    pub fn setting(name: &'static str, value: &dyn ToString, reason: &'static str) -> Self {
        Self::Setting { name, value: value.to_string(), reason }
    }
}
