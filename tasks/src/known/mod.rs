//! The data sets of the field: what they hold, under which terms, where they come from, and whether
//! a copy is the one that published figures were measured on.
//!
//! Most may not travel with this program. It knows their sums, so that a copy from elsewhere can be
//! checked: [`KnownSet::check`].

mod check;
mod sets;

pub use check::{Checked, State};

/// A data set of the field.
#[derive(Clone, Copy, Debug)]
pub struct KnownSet {
    /// What it is called in papers.
    pub name: &'static str,
    /// The task that trains on it: `kge`.
    pub task: &'static str,
    /// What it holds, in figures.
    pub size: &'static str,
    /// What its origin lets one do with it.
    pub terms: &'static str,
    /// Where to get it.
    pub origin: &'static str,
    /// What else to know about it, and how to make it if nobody offers it in this form.
    pub notes: &'static str,
    /// How to use it.
    pub usage: &'static str,
}

/// A file of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownFile {
    /// Its place in the set's folder.
    pub path: &'static str,
    /// Its length in bytes, unpacked.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits, unpacked.
    pub sha256: &'static str,
}

const SUMS: &str = include_str!("../../data/SHA256SUMS");

impl KnownSet {
    /// All of them, by task.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        sets::ALL
    }

    /// The set of this name, in small or capital letters.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|set| set.name.eq_ignore_ascii_case(name))
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = KnownFile> + use<'_> {
        SUMS.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (sha256, bytes, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.strip_prefix(self.name)?.strip_prefix('/')?;
            Some(KnownFile { path, bytes: bytes.parse().ok()?, sha256 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{KnownSet, SUMS};

    #[test]
    fn every_sum_belongs_to_a_set_and_every_set_has_sums() {
        let lines = SUMS.lines().filter(|line| !line.starts_with('#')).count();
        let files: usize = KnownSet::all().iter().map(|set| set.files().count()).sum();
        assert_eq!(files, lines);
        for set in KnownSet::all() {
            assert!(set.files().count() > 0, "{}", set.name);
            assert!(set.files().all(|file| file.sha256.len() == 64 && file.bytes > 0));
            let found = KnownSet::by_name(&set.name.to_lowercase());
            assert_eq!(found.map(|set| set.name), Some(set.name));
        }
    }
}
