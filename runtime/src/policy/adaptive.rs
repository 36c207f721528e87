//! A technique per key and moment, from intents: the main copy goes to the only node that wants the row, a replica to each of several.
//!
//! A wish comes ahead of its accesses, so a copy costs nobody's time, while an access from afar costs a worker's; so every wish but a
//! single read is granted. When all but one have lost interest, that one is offered the row.

use super::{Decision, Rule, Wish, forced};

pub(super) struct Adaptive;

impl Rule for Adaptive {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        let acquire = wish.acquire;
        if acquire.force {
            return forced(wish);
        }
        if acquire.uses == 1 && !acquire.writes {
            // One READ costs no more than the row would on its way.
            return Decision::Refuse { uses: 1 };
        }
        if wish.alone() && !wish.wanted_here && !wish.fresh {
            Decision::Move
        } else {
            Decision::Share
        }
    }

    fn offers(&self) -> bool {
        true
    }
}
