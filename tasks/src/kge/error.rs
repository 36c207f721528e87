//! What can go wrong in a task, with where and what to do.

use std::path::{Path, PathBuf};

/// An error of the knowledge graph task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KgeError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The data folder lacks one of the three files.
    #[error(
        "{} has no file of {split} triples: expected {split}.txt or {split}.tsv, plain or with .gz, \
         .xz or .zst, one triple a line as head<TAB>relation<TAB>tail",
        folder.display()
    )]
    MissingSplit {
        /// The data folder.
        folder: PathBuf,
        /// `train`, `valid` or `test`.
        split: &'static str,
    },
    /// The same split is there twice.
    #[error("{} and {} both hold {split} triples: remove one of them", first.display(), second.display())]
    AmbiguousSplit {
        /// `train`, `valid` or `test`.
        split: &'static str,
        /// One candidate.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// A line is no triple.
    #[error("{}, line {line}: {reason}; expected head<TAB>relation<TAB>tail", path.display())]
    MalformedLine {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file holds no triple at all.
    #[error("{} holds no triples; expected one a line as head<TAB>relation<TAB>tail", path.display())]
    EmptySplit {
        /// The file.
        path: PathBuf,
    },
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
        "the loss became {loss} in epoch {epoch}, at learning rate {learning_rate}: lower the \
         learning rate or the initial scale"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u32,
        /// The mean loss of its queries.
        loss: f64,
        /// The learning rate at its end.
        learning_rate: f32,
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

impl KgeError {
    /// For `map_err`: an I/O error that names what was done to which file.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}
