//! Names and their numbers.

use rustc_hash::FxHashMap;

/// Names and their numbers, counted from 0 in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    names: Vec<String>,
    numbers: FxHashMap<String, u32>,
}

impl Vocabulary {
    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name with this number.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }

    /// The number of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// All names, by number.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The name's number, given now if it is new; none if there are 2^32 names already.
    pub fn number_or_add(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.number(name) {
            return Some(number);
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }
}
