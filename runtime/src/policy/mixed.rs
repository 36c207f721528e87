//! A technique per key, fixed beforehand (`NuPS`): hot keys are replicated, the others move.

use super::{Decision, RowId, Rule, Wish, forced};

pub(super) struct Mixed<F> {
    pub(super) hot: F,
}

impl<F: Fn(RowId) -> bool> Rule for Mixed<F> {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        if (self.hot)(wish.row) && !wish.acquire.force { Decision::Share } else { forced(wish) }
    }
}
