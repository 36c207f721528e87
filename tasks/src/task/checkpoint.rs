//! A run on disk, to go on from.
//!
//! ```text
//! FOLDER/latest                       the name of the newest complete checkpoint
//! FOLDER/epoch-0005-example-0/        epochs done, and examples done in the one under way
//!     manifest.json                   place, settings, history, and how tables are cut
//!     entity-00000.npy ..             whole rows (values, then optimizer state) of a range of keys
//!     relation-00000.npy ..
//! ```
//!
//! Shards are ranges of keys of one size, so a job of any number of nodes and workers reads what
//! another wrote; the folder must be one that all of them see. A checkpoint is written under
//! another name, renamed when it is complete, and named in `latest` after that: whenever a job
//! ends, `latest` names a whole one.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sterna::{Table, Worker};

use super::config::FREE;
use super::{Digest, Quality, Share, Task, TaskError, npy};

const VERSION: u32 = 2;
const LATEST: &str = "latest";
const SAVING: &str = "saving.tmp";
const MANIFEST: &str = "manifest.json";
/// Shards are about this large: many enough to share out, few enough to list.
const SHARD_BYTES: usize = 32 << 20;

/// How far training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Epochs that are complete.
    pub(super) epochs: u32,
    /// Phases of the next epoch that are complete.
    pub(super) phases: u32,
    /// Examples of the next phase, in its order, that are done.
    pub(super) examples: usize,
}

/// What a run remembers beside its rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct History {
    pub(super) epoch_seconds: Vec<f64>,
    pub(super) loss: Vec<f64>,
    pub(super) validations: Vec<Validation>,
    /// The best validation figure, and how many validations did not reach it since.
    pub(super) best: Option<f64>,
    pub(super) worse: u32,
}

/// One validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Validation {
    pub(super) epoch: u32,
    pub(super) seconds: f64,
    pub(super) quality: Quality,
}

/// `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    /// What a run must have in common with the one that wrote this.
    identity: Map<String, Value>,
    place: Place,
    history: History,
    tables: Vec<TableShape>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TableShape {
    name: String,
    keys: u64,
    /// Floats of a row: values and optimizer state.
    row_len: usize,
    keys_per_shard: u64,
}

/// The checkpoints of one run.
#[derive(Debug)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    identity: Map<String, Value>,
}

/// A checkpoint that was found, to be read by all workers.
#[derive(Debug)]
pub(super) struct Found {
    folder: PathBuf,
    manifest: Manifest,
}

impl Checkpoints {
    /// Checkpoints in `folder` of the training with this [`identity`].
    pub(super) fn new(folder: &Path, identity: Map<String, Value>) -> Self {
        Self { folder: folder.to_path_buf(), identity }
    }

    /// The newest checkpoint, none if none was written yet.
    pub(super) fn latest(&self) -> Result<Option<Found>, TaskError> {
        let latest = self.folder.join(LATEST);
        let name = match fs::read_to_string(&latest) {
            Ok(name) => name,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TaskError::io("read", &latest)(error)),
        };
        let folder = self.folder.join(name.trim());
        let path = folder.join(MANIFEST);
        let text = fs::read(&path).map_err(TaskError::io("read", &path))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| refused(&path, format!("not a manifest: {error}")))?;
        if manifest.version != VERSION {
            let reason =
                format!("layout {} is not the {VERSION} of this program", manifest.version);
            return Err(refused(&path, reason));
        }
        if let Some(difference) = difference(&manifest.identity, &self.identity) {
            let reason = format!(
                "{difference}; continue with the same data and settings, or choose another folder"
            );
            return Err(refused(&path, reason));
        }
        Ok(Some(Found { folder, manifest }))
    }

    /// Makes room for a checkpoint. One worker of the job calls it before any writes a shard.
    pub(super) fn begin(&self) -> Result<(), TaskError> {
        let saving = self.folder.join(SAVING);
        // What an earlier run left when it was killed.
        if saving.exists() {
            fs::remove_dir_all(&saving).map_err(TaskError::io("remove", &saving))?;
        }
        fs::create_dir_all(&saving).map_err(TaskError::io("create", &saving))
    }

    /// Writes this worker's share of the rows.
    pub(super) fn write_share(
        &self,
        worker: &mut Worker,
        tables: &[Table],
        share: Share,
    ) -> Result<(), TaskError> {
        let saving = self.folder.join(SAVING);
        let mut rows = Vec::new();
        for table in tables {
            for (number, range) in share.shards(table.keys(), table.row_len()) {
                let path = saving.join(shard_name(table.name(), number));
                let keys: Vec<u64> = range.collect();
                rows.resize(keys.len() * table.row_len(), 0.0);
                worker.pull_rows(table, &keys, &mut rows)?;
                write_file(&path, |file| {
                    npy::write_header(file, keys.len() as u64, table.row_len())?;
                    npy::write_rows(file, &rows)
                })?;
            }
        }
        Ok(())
    }

    /// Completes the checkpoint, when all shards are written; called by the one that began it.
    /// Returns its folder.
    pub(super) fn publish(
        &self,
        place: Place,
        history: &History,
        tables: &[Table],
    ) -> Result<PathBuf, TaskError> {
        let manifest = Manifest {
            version: VERSION,
            identity: self.identity.clone(),
            place,
            history: history.clone(),
            tables: tables.iter().map(TableShape::of).collect(),
        };
        let saving = self.folder.join(SAVING);
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain data");
        write_file(&saving.join(MANIFEST), |file| file.write_all(&text))?;

        let previous = fs::read_to_string(self.folder.join(LATEST)).ok();
        let phase =
            if place.phases > 0 { format!("-phase-{}", place.phases) } else { String::new() };
        let base = format!("epoch-{:04}{phase}-example-{}", place.epochs, place.examples);
        let free = |name: &String| !self.folder.join(name).exists();
        let name = std::iter::once(base.clone())
            .chain((2..).map(|again: u64| format!("{base}-{again}")))
            .find(free)
            .expect("some number is free");
        let folder = self.folder.join(&name);
        fs::rename(&saving, &folder).map_err(TaskError::io("rename", &saving))?;
        let pointer = self.folder.join("latest.tmp");
        write_file(&pointer, |file| file.write_all(name.as_bytes()))?;
        fs::rename(&pointer, self.folder.join(LATEST))
            .map_err(TaskError::io("rename", &pointer))?;
        // Only a folder of the form that this function makes, whatever the pointer said.
        if let Some(previous) = previous.filter(|p| p.starts_with("epoch-") && !p.contains('/')) {
            let previous = self.folder.join(previous.trim());
            fs::remove_dir_all(&previous).map_err(TaskError::io("remove", &previous))?;
        }
        Ok(folder)
    }
}

impl Found {
    /// Where it lies.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where training goes on.
    pub(super) fn place(&self) -> Place {
        self.manifest.place
    }

    /// What the run remembers.
    pub(super) fn history(&self) -> History {
        self.manifest.history.clone()
    }

    /// Sets this worker's share of the rows.
    pub(super) fn read_share(
        &self,
        worker: &mut Worker,
        tables: &[Table],
        share: Share,
    ) -> Result<(), TaskError> {
        for table in tables {
            if !self.manifest.tables.contains(&TableShape::of(table)) {
                let name = table.name();
                let reason = format!("table {name} has another shape than in this program");
                return Err(refused(&self.folder.join(MANIFEST), reason));
            }
            for (number, range) in share.shards(table.keys(), table.row_len()) {
                let path = self.folder.join(shard_name(table.name(), number));
                let file = File::open(&path).map_err(TaskError::io("open", &path))?;
                let keys: Vec<u64> = range.collect();
                let rows = npy::read(&mut BufReader::new(file), keys.len() as u64, table.row_len())
                    .map_err(|error| refused(&path, error.to_string()))?;
                worker.set_rows(table, &keys, &rows)?;
            }
        }
        Ok(())
    }
}

impl TableShape {
    fn of(table: &Table) -> Self {
        Self {
            name: table.name().into(),
            keys: table.keys(),
            row_len: table.row_len(),
            keys_per_shard: keys_per_shard(table.row_len()),
        }
    }
}

impl Share {
    /// Numbers and key ranges of the shards of a table (`keys` rows of `row_len` floats) that fall
    /// to this worker. All workers together have every key once.
    pub fn shards(self, keys: u64, row_len: usize) -> impl Iterator<Item = (usize, Range<u64>)> {
        let size = keys_per_shard(row_len);
        (0..keys)
            .step_by(usize::try_from(size).expect("shards fit in memory"))
            .enumerate()
            .skip(self.index)
            .step_by(self.count)
            .map(move |(number, first)| (number, first..keys.min(first + size)))
    }
}

fn keys_per_shard(row_len: usize) -> u64 {
    (SHARD_BYTES / (4 * row_len)).max(1) as u64
}

fn shard_name(table: &str, number: usize) -> String {
    format!("{table}-{number:05}.npy")
}

/// Writes a file and waits until the disk has it, so that a rename never outruns its content.
pub(super) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), TaskError> {
    let file = File::create(path).map_err(TaskError::io("create", path))?;
    let mut file = BufWriter::with_capacity(1 << 18, file);
    write(&mut file)
        .and_then(|()| file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all())
        .map_err(TaskError::io("write", path))
}

/// The settings that decide what training does, and a digest of the data.
pub(super) fn identity<T: Task>(task: &T) -> Map<String, Value> {
    let mut identity = match task.settings() {
        Value::Object(settings) => settings,
        other => Map::from_iter([("settings".to_owned(), other)]),
    };
    let free = task.free_settings();
    identity.retain(|name, _| !FREE.contains(&name.as_str()) && !free.contains(&name.as_str()));
    let mut digest = Digest::default();
    task.digest(&mut digest);
    identity.insert("data_sha256".into(), digest.finish().into());
    let about = task.describe();
    identity.insert("task".into(), about.task.into());
    identity
}

/// A number that is equal, but for a chance of 2^-40, only if task, data, settings and place are.
pub(super) fn fingerprint(identity: &Map<String, Value>, place: Place) -> f64 {
    let mut digest = Digest::default();
    digest.bytes(&serde_json::to_vec(&(identity, place)).expect("plain data"));
    digest.finish_40()
}

/// The first setting that differs, in words.
fn difference(saved: &Map<String, Value>, now: &Map<String, Value>) -> Option<String> {
    let none = Value::Null;
    now.keys().chain(saved.keys()).find_map(|name| {
        let (saved, now) = (saved.get(name).unwrap_or(&none), now.get(name).unwrap_or(&none));
        (saved != now)
            .then(|| format!("it was written with {name} = {saved}, and this run has {now}"))
    })
}

fn refused(path: &Path, reason: String) -> TaskError {
    TaskError::Checkpoint { path: path.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn every_key_is_in_exactly_one_worker_s_shard_for_any_number_of_workers() {
        for count in [1, 3, 50] {
            let mut shards: Vec<_> =
                (0..count).flat_map(|index| Share { index, count }.shards(100_001, 1024)).collect();
            shards.sort_by_key(|(number, _)| *number);
            let mut next = 0;
            for (expected, (number, range)) in shards.into_iter().enumerate() {
                assert_eq!((expected, next), (number, range.start));
                next = range.end;
            }
            assert_eq!(next, 100_001);
        }
    }
}
