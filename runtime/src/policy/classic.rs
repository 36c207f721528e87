//! The static partition: rows stay at their homes.

use super::{Decision, Rule, Wish};

pub(super) struct Classic;

impl Rule for Classic {
    fn decide(&mut self, _: &Wish<'_>) -> Decision {
        Decision::Refuse { uses: u16::MAX }
    }
}
