//! A digest of data, which tells whether a run resumes on the same.

use sha2::{Digest as _, Sha256};

/// SHA-256 of what it is fed.
#[derive(Clone, Debug, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// Feeds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Feeds a name, so that two names are not one longer name.
    pub fn name(&mut self, name: &str) {
        self.0.update(name.as_bytes());
        self.0.update(b"\n");
    }

    /// Feeds a number.
    pub fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    /// Feeds numbers.
    pub fn numbers(&mut self, numbers: &[u32]) {
        for number in numbers {
            self.0.update(number.to_le_bytes());
        }
    }

    /// Feeds the bits of floats.
    pub fn floats(&mut self, floats: &[f32]) {
        for float in floats {
            self.0.update(float.to_le_bytes());
        }
    }

    /// The sum in hexadecimal digits.
    #[must_use]
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first 40 bits: few enough for a sum over many workers to be exact in a float.
    pub(super) fn finish_40(self) -> f64 {
        self.0.finalize()[..5].iter().fold(0.0, |number, &byte| number * 256.0 + f64::from(byte))
    }
}
