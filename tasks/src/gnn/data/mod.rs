//! Graphs whose nodes have classes, and perhaps features, read from a folder.
//!
//! | form | files |
//! | --- | --- |
//! | svmlight | `nodes.svmlight`: line `i` is node `i`, `class feature:value ..`; `edges.tsv` (or `.txt`, `.csv`); perhaps `split.txt`: line `i` says `train`, `valid`, `test` or `none` |
//! | MUSAE | `target.csv` with a header, a line per node whose first field is its number and whose last its class; `edges.csv` with a header; perhaps `features.json`: lists of features by node |
//!
//! Names may have something before them, as in `musae_facebook_edges.csv`, and files may be packed. Edges
//! are undirected; loops and repeated ones are dropped. Features count from 0. Where there is no
//! `split.txt`, or another rule is asked for, a [`SplitRule`] draws who is trained on.

mod csv;
mod edges;
mod musae;
mod split;
mod svmlight;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::graph::Neighbours;
use crate::data::{DataError, plain_name, set_name};
use crate::sparse::SparseRows;

pub use split::{SplitRule, Splits};

/// The label of a node whose class nobody knows.
pub const NO_CLASS: u32 = u32::MAX;

/// A feature is a row of a weight: one that is this or larger is a mistake.
const FEATURES_MAX: u32 = 1 << 30;

const EXPECTED: &str =
    "a folder with nodes.svmlight and edges.tsv, or with target.csv and edges.csv";

/// A graph, what is known of its nodes, and who trains, validates and tests.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the set is called: the name of its folder.
    pub name: String,
    /// Who is whose neighbour.
    pub graph: Arc<Neighbours>,
    /// A row of features per node, if there are any.
    pub features: Option<SparseRows>,
    /// Each node's class, or [`NO_CLASS`].
    pub classes: Vec<u32>,
    /// What the classes are called.
    pub class_names: Vec<String>,
    /// The number that each node has in its files.
    pub numbers: Vec<u64>,
    /// Who trains, validates and tests.
    pub splits: Splits,
}

/// What the files of a folder say.
struct Read {
    edges: Vec<(u32, u32)>,
    features: Option<SparseRows>,
    classes: Vec<u32>,
    class_names: Vec<String>,
    numbers: Vec<u64>,
    given: Option<Splits>,
}

impl Dataset {
    /// Reads the set in `folder`. Without a rule the split of its `split.txt` is taken, or, if there
    /// is none, [`SplitRule::Many`] draws one by `split_seed`.
    ///
    /// # Errors
    /// A file that is missing, there twice, or malformed, with its line; a split that trains on nobody.
    pub fn read(
        folder: &Path,
        rule: Option<SplitRule>,
        split_seed: u64,
    ) -> Result<Self, DataError> {
        let read = match File::find(folder, "target", &["csv"])? {
            Some(target) => musae::read(folder, &target.0)?,
            None => svmlight::read(folder)?,
        };
        let splits = match (rule, read.given) {
            (None | Some(SplitRule::Given), Some(given)) => given,
            (Some(SplitRule::Given), None) => {
                return Err(DataError::refused(folder, "there is no split.txt", EXPECTED));
            }
            (rule, _) => {
                let rule = rule.unwrap_or(SplitRule::Many);
                Splits::draw(rule, split_seed, &read.numbers, &read.classes)
            }
        };
        if splits.train.is_empty() {
            return Err(DataError::refused(folder, "no node to train on", EXPECTED));
        }
        Ok(Self {
            name: set_name(folder),
            graph: Arc::new(Neighbours::new(read.classes.len(), &read.edges)),
            features: read.features,
            classes: read.classes,
            class_names: read.class_names,
            numbers: read.numbers,
            splits,
        })
    }

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.classes.len()
    }

    /// How many of the nodes with a class are trained on.
    #[must_use]
    pub fn trained_share(&self) -> f64 {
        let known = self.classes.iter().filter(|&&class| class != NO_CLASS).count();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = self.splits.train.len() as f64 / known.max(1) as f64;
        share
    }
}

/// A file of a data folder.
struct File(PathBuf);

impl File {
    /// The file called `name.ENDING` or `.._name.ENDING`, plain or packed.
    fn find(
        folder: &Path,
        name: &'static str,
        endings: &[&str],
    ) -> Result<Option<Self>, DataError> {
        let io = || DataError::io("read the data folder", folder);
        let mut found: Option<PathBuf> = None;
        for entry in std::fs::read_dir(folder).map_err(io())? {
            let path = entry.map_err(io())?.path();
            let plain = plain_name(&path);
            let fits = endings.iter().any(|ending| {
                let stem = plain.strip_suffix(ending).and_then(|stem| stem.strip_suffix('.'));
                let before = stem.and_then(|stem| stem.strip_suffix(name));
                before.is_some_and(|before| before.is_empty() || before.ends_with('_'))
            });
            if !fits || !path.is_file() {
                continue;
            }
            if let Some(first) = found {
                return Err(DataError::Ambiguous { name, first, second: path });
            }
            found = Some(path);
        }
        Ok(found.map(Self))
    }

    /// The same, and there must be one.
    fn needed(folder: &Path, name: &'static str, endings: &[&str]) -> Result<Self, DataError> {
        Self::find(folder, name, endings)?.ok_or_else(|| {
            let reason = format!("there is no {name}.{}", endings.join(" or ."));
            DataError::refused(folder, reason, EXPECTED)
        })
    }
}

#[cfg(test)]
mod tests;
