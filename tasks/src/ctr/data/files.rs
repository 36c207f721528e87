//! Which files hold which examples, and in which form.

use std::path::{Path, PathBuf};

use crate::data::{DataError, Lines, plain_name};

/// The files of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// A folder with a file for each set, or one file of all examples.
    pub data: Option<PathBuf>,
    /// The file of training examples, instead of `data`'s.
    pub train: Option<PathBuf>,
    /// The file of validation examples, instead of `data`'s.
    pub valid: Option<PathBuf>,
    /// The file of test examples, instead of `data`'s.
    pub test: Option<PathBuf>,
}

/// The form of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// To be found out from the first line.
    Auto,
    /// Criteo: a label, 13 integers, 26 categories, separated by tabs, no header.
    Criteo,
    /// Avazu: comma separated, with a header.
    Avazu,
    /// libFM or LIBSVM: `label feature:value ..`.
    Libfm,
    /// Delimited text as this schema says.
    Schema(PathBuf),
}

/// The files of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) train: PathBuf,
    pub(super) valid: Option<PathBuf>,
    pub(super) test: Option<PathBuf>,
}

/// Words in a file's name that tell its set.
const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training", "tr"]),
    ("valid", &["valid", "validation", "val", "dev", "va"]),
    ("test", &["test", "testing", "te"]),
];

impl Files {
    /// Finds the files.
    pub(super) fn find(&self) -> Result<Found, DataError> {
        let inside = match &self.data {
            None => [None, None, None],
            Some(path) if path.is_dir() => in_folder(path)?,
            Some(path) => [Some(path.clone()), None, None],
        };
        let [train, valid, test] = inside;
        let Some(train) = self.train.clone().or(train) else {
            let folder = self.data.clone().unwrap_or_default();
            return Err(DataError::refused(
                &folder,
                "no file of training examples",
                "a file with `train` in its name, or --train FILE",
            ));
        };
        Ok(Found { train, valid: self.valid.clone().or(valid), test: self.test.clone().or(test) })
    }
}

/// The file of each set in a folder, by words in their names.
fn in_folder(folder: &Path) -> Result<[Option<PathBuf>; 3], DataError> {
    let read = |error| DataError::io("read the data folder", folder)(error);
    let mut found: [Option<PathBuf>; 3] = Default::default();
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let path = entry.map_err(read)?.path();
        // Caches that other tools leave beside the text are none of ours.
        if path.extension().is_some_and(|ending| ending == "bin") {
            continue;
        }
        let name = plain_name(&path).to_ascii_lowercase();
        let mut words = name.split(|character: char| !character.is_ascii_alphanumeric());
        let set =
            WORDS.iter().position(|(_, known)| words.clone().any(|word| known.contains(&word)));
        let Some(set) = set.filter(|_| path.is_file() && words.next().is_some()) else { continue };
        if let Some(first) = found[set].take() {
            let (first, second) = if first < path { (first, path) } else { (path, first) };
            return Err(DataError::Ambiguous { name: WORDS[set].0, first, second });
        }
        found[set] = Some(path);
    }
    Ok(found)
}

impl Format {
    /// The form itself, found out from a file's first line if it has to be.
    pub(super) fn found_out(self, path: &Path) -> Result<Self, DataError> {
        const KNOWN: &str = "Criteo, Avazu or libFM text, or a --schema";
        if self != Self::Auto {
            return Ok(self);
        }
        let mut lines = Lines::open(path, KNOWN)?.line_bytes_max(1 << 24);
        let Some(line) = lines.next_filled()? else {
            return Err(lines.refused("it holds no example"));
        };
        let columns = 40;
        if line.text.split('\t').count() == columns {
            Ok(Self::Criteo)
        } else if line.text.starts_with("id,click,hour,") {
            Ok(Self::Avazu)
        } else if line.text.split_ascii_whitespace().nth(1).is_some_and(|field| field.contains(':'))
        {
            Ok(Self::Libfm)
        } else {
            Err(line.error_at(1, "a form that is not known"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Files, Format};

    #[test]
    fn sets_are_found_by_words_in_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in [
            "x.train.libfm",
            "x.train.libfm.bin",
            "x.validation.libfm.gz",
            "test.csv",
            "README",
            "latest.csv",
        ] {
            fs::write(path(name), "").unwrap();
        }
        let files = Files { data: Some(folder.path().into()), ..Files::default() };
        let found = files.find().unwrap();
        assert_eq!(found.train, path("x.train.libfm"));
        assert_eq!(found.valid, Some(path("x.validation.libfm.gz")));
        assert_eq!(found.test, Some(path("test.csv")));
        let elsewhere = Files { train: Some("t".into()), ..files.clone() };
        assert_eq!(elsewhere.find().unwrap().train.to_str(), Some("t"));
        fs::write(path("dev.csv"), "").unwrap();
        let error = files.find().unwrap_err().to_string();
        assert!(error.contains("dev.csv") && error.contains("both hold the valid data"), "{error}");
    }

    #[test]
    fn a_folder_without_training_examples_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { data: Some(folder.path().into()), ..Files::default() };
        let error = files.find().unwrap_err().to_string();
        assert!(error.contains("no file of training examples"), "{error}");
    }

    #[test]
    fn forms_are_found_out_from_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for (text, expected) in [
            ("1\t".to_owned() + &"\t".repeat(38), Format::Criteo),
            ("id,click,hour,C1\n".into(), Format::Avazu),
            ("-1 7:1 9:0.5\n".into(), Format::Libfm),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(Format::Auto.found_out(&path).unwrap(), expected);
        }
        fs::write(&path, "a,b\n").unwrap();
        assert!(Format::Auto.found_out(&path).is_err());
        assert_eq!(Format::Avazu.found_out(&path).unwrap(), Format::Avazu);
    }
}
