//! Reading click logs: Criteo's and Avazu's forms, libFM and LIBSVM, and any delimited text with a [`schema`].
//!
//! Delimited text becomes one feature per field: categories by their text, numbers by their bucket. Features get numbers
//! by [`FeatureIds`]: in order of appearance, or hashed. libFM text brings its own numbers.

mod delimited;
mod examples;
mod export;
mod files;
mod libfm;
mod numbering;
pub mod schema;

use std::path::PathBuf;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

pub use examples::Examples;
pub(super) use export::export;
pub use files::{Files, Format};
pub use numbering::{FeatureIds, Features};
pub use schema::Schema;

use crate::data::{DataError, set_name};
use crate::task::Split;
use numbering::Numbering;

/// Of twenty examples of a set that is not there, so many are taken from the training file.
const TAKEN_OF_20: u32 = 2;

/// Where clicks come from, and how they are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The files.
    pub files: Files,
    /// Their form.
    pub format: Format,
    /// How features of delimited text get their numbers.
    pub ids: FeatureIds,
    /// Chooses the examples for validation and test, if there are no files of them.
    pub seed: u64,
}

impl Source {
    /// A folder with files of training, validation and test examples, or one file of all. The form is found out; features
    /// that occur once share one.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let files = Files { data: Some(path.into()), ..Files::default() };
        Self { files, format: Format::Auto, ids: FeatureIds::Enumerated { min_count: 2 }, seed: 1 }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Files that are missing or cannot be read, and lines that are not of their form.
    pub fn read(&self) -> Result<Clicks, DataError> {
        let found = self.files.find()?;
        let format = self.format.clone().found_out(&found.train)?;
        let paths = [Some(&found.train), found.valid.as_ref(), found.test.as_ref()];
        let mut sets: [Examples; 3] = Default::default();
        let mut given = 0;
        let schema = match &format {
            Format::Libfm | Format::Auto => None,
            Format::Criteo => Some(Schema::criteo()),
            Format::Avazu => Some(Schema::avazu()),
            Format::Schema(path) => Some(Schema::read(path)?),
        };
        let fields = schema.as_ref().map(Schema::fields).unwrap_or_default();
        let mut numbering = Numbering::new(self.ids, &fields);
        for (set, path) in sets.iter_mut().zip(paths) {
            let Some(path) = path else { continue };
            *set = match &schema {
                Some(schema) => delimited::read(path, schema, &mut numbering)?,
                None => {
                    let (examples, count) = libfm::read(path)?;
                    given = given.max(count);
                    examples
                }
            };
        }
        self.fill(&mut sets);
        let features = if schema.is_some() {
            numbering.finish(&mut sets).ok_or_else(|| {
                let reason = "more than 2^32 features";
                DataError::refused(&found.train, reason, "fewer, or hashed ones")
            })?
        } else {
            Features { count: given, names: Vec::new() }
        };
        if features.count == 0 {
            return Err(DataError::refused(&found.train, "no example has a feature", "some"));
        }
        let [train, valid, test] = sets;
        let same = |set: &Examples| set.is_empty() || set.fields() == train.fields();
        let fields = train.fields().filter(|_| same(&valid) && same(&test));
        let name = set_name(self.files.data.as_ref().unwrap_or(&found.train));
        Ok(Clicks {
            name,
            features: features.count,
            names: features.names,
            fields,
            train,
            valid,
            test,
        })
    }

    /// Takes validation and test examples from those to train on, if there are none.
    fn fill(&self, sets: &mut [Examples; 3]) {
        let missing = [sets[1].is_empty(), sets[2].is_empty()];
        if missing == [false, false] {
            return;
        }
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let [valid, test] = sets[0].deal(|| match random.random_range(0..20) / TAKEN_OF_20 {
            0 if missing[0] => 1,
            1 if missing[1] => 2,
            _ => 0,
        });
        for (set, dealt) in sets[1..].iter_mut().zip([valid, test]) {
            if set.is_empty() {
                *set = dealt;
            }
        }
    }
}

/// A data set in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clicks {
    /// Its name.
    pub name: String,
    /// Features are `0..features`.
    pub features: usize,
    /// `field=category` of each feature, if they have names.
    pub names: Vec<String>,
    /// Features of each example, if all have the same number.
    pub fields: Option<usize>,
    /// Examples to train on.
    pub train: Examples,
    /// Examples to steer by.
    pub valid: Examples,
    /// Examples to report on.
    pub test: Examples,
}

impl Clicks {
    /// The examples of a split.
    #[must_use]
    pub fn split(&self, split: Split) -> &Examples {
        match split {
            Split::Valid => &self.valid,
            Split::Test => &self.test,
        }
    }
}

/// What a label says: clicked if it is 1, not if it is 0 or -1.
fn label(text: &str) -> Option<bool> {
    match text {
        "1" | "+1" => Some(true),
        "0" | "-1" => Some(false),
        _ => match text.parse::<f32>() {
            // Some writers give labels as floats.
            Ok(1.0) => Some(true),
            Ok(0.0 | -1.0) => Some(false),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests;
