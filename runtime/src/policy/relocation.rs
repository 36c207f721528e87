//! Always move (Lapse): the main copy goes to who asked last.

use super::{Decision, Rule, Wish, forced};

pub(super) struct Relocation;

impl Rule for Relocation {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        forced(wish)
    }
}
