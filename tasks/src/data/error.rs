//! What can be wrong with a file, with where and what to do.

use std::path::{Path, PathBuf};

/// An error in data: a file that cannot be read, or one that does not say what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
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
    /// A place in a file does not have the form it should.
    #[error("{}:{line}:{column}: {reason}; expected {expected}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: u64,
        /// The byte in the line, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
        /// The form of the line.
        expected: &'static str,
    },
    /// A file as a whole is not what it should be.
    #[error("{}: {reason}; expected {expected}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A data folder lacks a file.
    #[error(
        "{} has no {name} file: expected {name}.{}, plain or with .gz, .xz or .zst, with {expected}",
        folder.display(),
        endings.join(&format!(" or {name}."))
    )]
    Missing {
        /// The data folder.
        folder: PathBuf,
        /// The file's name without ending: `train`.
        name: &'static str,
        /// The endings that it could have.
        endings: Vec<String>,
        /// What it should hold.
        expected: &'static str,
    },
    /// The same file is there twice.
    #[error("{} and {} both hold the {name} data: remove one of them", first.display(), second.display())]
    Ambiguous {
        /// The file's name without ending: `train`.
        name: &'static str,
        /// One candidate.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
}

impl DataError {
    /// For `map_err`: an I/O error that names what was done to which file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    /// A file that as a whole is not what it should be.
    #[must_use]
    pub fn refused(path: &Path, reason: impl Into<String>, expected: &'static str) -> Self {
        Self::Refused { path: path.to_path_buf(), reason: reason.into(), expected }
    }
}
