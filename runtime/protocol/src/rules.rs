//! The rules that tests switch off one at a time, to show that each is needed.

/// Which rules hold. The runtime always uses [`Rules::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(hidden)]
pub struct Rules {
    /// K2: no READ is posted while an Acquire is open, and none counts that one overtook.
    pub acquire_excludes: bool,
    /// K2: a READ counts only if the generation is unchanged.
    pub generation: bool,
    /// K1: a Release is an exchange: it is answered before its sender acquires again.
    pub release_is_exchange: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self =
        Self { acquire_excludes: true, generation: true, release_is_exchange: true };
}
