//! Always share: the main copy stays, who wants the row gets a replica.

use super::{Decision, Rule, Wish, forced};

pub(super) struct Replication;

impl Rule for Replication {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        if wish.acquire.force { forced(wish) } else { Decision::Share }
    }
}
