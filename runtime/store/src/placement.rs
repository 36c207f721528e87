//! Where each key of a table is at home, by arithmetic alone.
//!
//! Keys are grouped in blocks of a power of two, a multiplication modulo the number of blocks
//! scatters the blocks (a bijection, so it can be undone), and the scattered number gives one of
//! 4,096 partitions and an index in it. A versioned map names each partition's home. Since all
//! nodes hold the same map, each computes the same prefix sums and so the same *home slot* of every
//! key; nobody asks and nothing is hashed or stored per key.
//!
//! ```text
//! key    = block << shift | offset
//! p      = (A * block) mod n            n odd, A coprime to n and near 0.618 n
//! slot   = base[p mod 4096] + ((p div 4096) << shift | offset)        at home map[p mod 4096]
//! ```
//! `n` is the number of blocks rounded up to an odd one: then the low bits of `p` depend on all bits
//! of the block, and keys at a distance of a power of two do not share a partition. The filling
//! block and the last one's missing keys are holes, at most two blocks in a table.

use sterna_protocol::{Key, Rank, SlotId};
use thiserror::Error;

/// The number of partitions of every table.
pub const PARTITIONS: usize = 4096;

const PARTITION_BITS: u32 = PARTITIONS.trailing_zeros();
/// Keys of a block where the table is neither small nor huge: what one page walk may cover.
const BLOCK_SHIFT: u32 = 6;
/// A table with fewer blocks than this gets smaller ones, so that homes stay balanced.
const BLOCKS_WANTED: u64 = 1024;
/// Products of two block numbers fit into 64 bits.
const BLOCKS_MAX: u64 = 1 << 31;
/// The widest key of a table.
const KEYS_MAX: u64 = 1 << 48;

/// Why a table cannot be placed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PlacementError {
    /// Slots are numbered by 32 bits at each node.
    #[error(
        "{home} would be home of {slots} keys of one table, the limit is {limit}: use more nodes"
    )]
    TooManySlots {
        /// The fullest home.
        home: Rank,
        /// What it would hold.
        slots: u64,
        /// What it can hold.
        limit: u64,
    },
    /// More keys than any table can have.
    #[error("a table of {keys} keys: the limit is 2^48")]
    TooManyKeys {
        /// What was asked for.
        keys: u64,
    },
    /// A map with a wrong number of partitions, or of no nodes or too many.
    #[error("a partition map needs 4096 homes below 4096, this one has {partitions}")]
    BadMap {
        /// How many entries it had.
        partitions: usize,
    },
}

/// The home of each partition; changes of the job's membership raise the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMap {
    version: u32,
    homes: Box<[Rank]>,
}

impl PartitionMap {
    /// The map at the start of a job of `size` nodes, the same on every node.
    ///
    /// Every `size` partitions in a row have all nodes as homes, each once, in an order that differs
    /// from group to group: balanced for any number of blocks, and regular keys do not pick a home.
    ///
    /// # Panics
    /// If `size` is not within 1 to 4,096.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "ranks are below 4,096")]
    pub fn even(size: usize) -> Self {
        assert!((1..=PARTITIONS).contains(&size), "a job has 1 to 4,096 nodes");
        let mut random = 0x5354_4552_4e41_u64;
        let mut homes = Vec::with_capacity(PARTITIONS + size);
        while homes.len() < PARTITIONS {
            let group = homes.len();
            homes.extend((0..size).map(|rank| Rank(rank as u16)));
            for left in (1..size).rev() {
                random = split_mix(random);
                homes.swap(group + left, group + (random % (left as u64 + 1)) as usize);
            }
        }
        homes.truncate(PARTITIONS);
        Self { version: 1, homes: homes.into() }
    }

    /// A map that was agreed on.
    ///
    /// # Errors
    /// If it does not name 4,096 possible homes.
    pub fn new(version: u32, homes: Vec<Rank>) -> Result<Self, PlacementError> {
        if homes.len() != PARTITIONS || homes.iter().any(|home| home.index() >= Rank::COUNT_MAX) {
            return Err(PlacementError::BadMap { partitions: homes.len() });
        }
        Ok(Self { version, homes: homes.into() })
    }

    /// Which of the maps that the job has had.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The homes by partition.
    #[must_use]
    pub fn homes(&self) -> &[Rank] {
        &self.homes
    }
}

/// Where a key is at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its partition, below 4,096.
    pub partition: u16,
    /// The node that keeps its directory word and a slot for it.
    pub home: Rank,
    /// That slot.
    pub slot: SlotId,
}

/// The placement of one table's keys on the nodes of a job.
#[derive(Clone, Debug)]
pub struct Placement {
    keys: u64,
    shift: u32,
    blocks: Modulus,
    scatter: u64,
    gather: u64,
    /// `home << 32 | base slot` by partition: one word, one line.
    parts: Box<[u64; PARTITIONS]>,
    /// Partitions sorted by (home, base); `first[h]..first[h + 1]` are those of home `h`.
    by_home: Box<[u16]>,
    first: Box<[u32]>,
    slots: Box<[u32]>,
}

impl Placement {
    /// Places `keys` keys, `0..keys`, by a map.
    ///
    /// # Errors
    /// If the table or one home's part of it is too large.
    pub fn new(keys: u64, map: &PartitionMap) -> Result<Self, PlacementError> {
        if keys > KEYS_MAX {
            return Err(PlacementError::TooManyKeys { keys });
        }
        let shift = block_shift(keys);
        let blocks = keys.div_ceil(1 << shift) | 1;
        let scatter = coprime_near(blocks, golden_share(blocks));
        let size = map.homes.iter().map(|home| home.index()).max().map_or(1, |last| last + 1);
        let mut slots = vec![0_u64; size];
        let mut parts = Box::new([0_u64; PARTITIONS]);
        let mut by_home: Vec<u16> = (0..4096).collect();
        by_home.sort_by_key(|&partition| map.homes[usize::from(partition)]);
        let mut first = vec![0_u32; size + 1];
        for &partition in &by_home {
            let home = map.homes[usize::from(partition)].index();
            parts[usize::from(partition)] = (home as u64) << 32 | (slots[home] & 0xFFFF_FFFF);
            slots[home] += blocks_of(blocks, partition) << shift;
            first[home + 1] += 1;
        }
        for home in 0..size {
            first[home + 1] += first[home];
        }
        let limit = u64::from(SlotId::UNDISCLOSED.0);
        let slots = slots
            .iter()
            .zip(0_u16..)
            .map(|(&slots, home)| {
                u32::try_from(slots).ok().filter(|&slots| u64::from(slots) < limit).ok_or(
                    PlacementError::TooManySlots { home: Rank(home), slots, limit: limit - 1 },
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            shift,
            blocks: Modulus::new(blocks),
            scatter,
            gather: inverse(scatter, blocks),
            parts,
            by_home: by_home.into(),
            first: first.into(),
            slots,
        })
    }

    /// How many keys the table has.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many slots a home reserves, holes among them: slots `0..slots(home)`.
    #[must_use]
    pub fn slots(&self, home: Rank) -> u32 {
        self.slots.get(home.index()).copied().unwrap_or(0)
    }

    /// Where a key is at home, or nothing if the table has no such key.
    #[must_use]
    #[inline]
    pub fn locate(&self, key: Key) -> Option<Location> {
        (key.0 < self.keys).then(|| self.locate_known(key))
    }

    /// Where a key of the table is at home.
    ///
    /// For a key that the table does not have the answer means nothing, but it is still an answer.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "partitions and slots fit by construction")]
    pub fn locate_known(&self, key: Key) -> Location {
        let p = self.blocks.times(self.scatter, key.0 >> self.shift);
        let partition = p as usize % PARTITIONS;
        let offset = key.0 & ((1 << self.shift) - 1);
        let index = ((p >> PARTITION_BITS) << self.shift) | offset;
        let part = self.parts[partition];
        Location {
            partition: partition as u16,
            home: Rank((part >> 32) as u16),
            slot: SlotId((part as u32).wrapping_add(index as u32)),
        }
    }

    /// The key whose home slot this is, or nothing for a hole.
    #[must_use]
    pub fn key_of(&self, home: Rank, slot: SlotId) -> Option<Key> {
        if slot.0 >= self.slots(home) {
            return None;
        }
        let mine = self.partitions(home);
        let at = mine.partition_point(|&partition| self.base(partition) <= slot.0);
        // Partitions without blocks share their successor's base; the last of equals has the slot.
        let partition = mine[at.checked_sub(1)?];
        self.key_at(partition, slot.0 - self.base(partition))
    }

    /// A home's keys with their slots, in the order of slots.
    pub fn keys_at(&self, home: Rank) -> impl Iterator<Item = (SlotId, Key)> + '_ {
        let blocks = self.blocks.n;
        self.partitions(home).iter().flat_map(move |&partition| {
            let base = self.base(partition);
            #[expect(clippy::cast_possible_truncation, reason = "below the home's slots")]
            let slots = (blocks_of(blocks, partition) << self.shift) as u32;
            (0..slots).filter_map(move |index| {
                Some((SlotId(base + index), self.key_at(partition, index)?))
            })
        })
    }

    fn partitions(&self, home: Rank) -> &[u16] {
        if home.index() + 1 >= self.first.len() {
            return &[];
        }
        let (from, to) = (self.first[home.index()], self.first[home.index() + 1]);
        &self.by_home[from as usize..to as usize]
    }

    #[expect(clippy::cast_possible_truncation, reason = "the base is the low half")]
    fn base(&self, partition: u16) -> u32 {
        self.parts[usize::from(partition)] as u32
    }

    fn key_at(&self, partition: u16, index: u32) -> Option<Key> {
        let index = u64::from(index);
        let p = (index >> self.shift) << PARTITION_BITS | u64::from(partition);
        let block = self.blocks.times(self.gather, p);
        let key = block << self.shift | (index & ((1 << self.shift) - 1));
        (key < self.keys).then_some(Key(key))
    }
}

/// Multiplication modulo an odd number below 2^32 by a precomputed reciprocal.
#[derive(Clone, Copy, Debug)]
struct Modulus {
    n: u64,
    reciprocal: u64,
}

impl Modulus {
    fn new(n: u64) -> Self {
        assert!(n % 2 == 1 && n <= BLOCKS_MAX, "products of block numbers fit into 64 bits");
        // For n = 1 the reciprocal is 2^64 - 1 rather than 2^64: still short by less than one unit.
        Self { n, reciprocal: u64::MAX / n }
    }

    /// `a * b mod n`, for `a`, `b` below `n`.
    #[inline]
    fn times(self, a: u64, b: u64) -> u64 {
        let product = a.wrapping_mul(b);
        let quotient = ((u128::from(product) * u128::from(self.reciprocal)) >> 64) as u64;
        // The quotient is right or one too small: reciprocal > 2^64 / n - 1 and product < 2^62.
        let rest = product.wrapping_sub(quotient.wrapping_mul(self.n));
        rest.min(rest.wrapping_sub(self.n))
    }
}

fn block_shift(keys: u64) -> u32 {
    let for_balance = (keys / BLOCKS_WANTED).checked_ilog2().unwrap_or(0).min(BLOCK_SHIFT);
    let for_arithmetic =
        (0..).find(|&shift| keys.div_ceil(1 << shift) < BLOCKS_MAX).expect("keys are below 2^48");
    for_balance.max(for_arithmetic)
}

fn blocks_of(blocks: u64, partition: u16) -> u64 {
    (blocks + PARTITIONS as u64 - 1 - u64::from(partition)) / PARTITIONS as u64
}

/// The golden section of `n`: multiples of it modulo `n` spread as evenly as any.
fn golden_share(n: u64) -> u64 {
    n * 618_033_989 / 1_000_000_000
}

fn coprime_near(n: u64, near: u64) -> u64 {
    (near.max(1)..).find(|&candidate| gcd(candidate, n) == 1).expect("a prime is coming") % n
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The inverse of `a` modulo `n`, by the extended Euclidean algorithm.
#[expect(clippy::cast_possible_wrap, reason = "below 2^32")]
fn inverse(a: u64, n: u64) -> u64 {
    let (mut old, mut new) = ((a as i64, 1_i64), (n as i64, 0_i64));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    old.1.rem_euclid(n as i64) as u64
}

fn split_mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn ranks(size: usize) -> impl Iterator<Item = Rank> {
        (0..size).map(|rank| Rank(u16::try_from(rank).unwrap()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_key_has_a_slot_of_its_own_and_the_slot_gives_the_key_back(
            keys in 0_u64..20_000, size in 1_usize..40,
        ) {
            let placement = Placement::new(keys, &PartitionMap::even(size)).unwrap();
            let mut seen = HashSet::new();
            for key in (0..keys).map(Key) {
                let at = placement.locate(key).unwrap();
                prop_assert!(at.slot.0 < placement.slots(at.home));
                prop_assert!(seen.insert((at.home, at.slot)));
                prop_assert_eq!(placement.key_of(at.home, at.slot), Some(key));
            }
            prop_assert_eq!(placement.locate(Key(keys)), None);
            let listed: Vec<_> = ranks(size)
                .flat_map(|home| placement.keys_at(home).map(move |(slot, key)| (key, home, slot)))
                .collect();
            prop_assert_eq!(listed.len() as u64, keys);
            for (key, home, slot) in listed {
                let at = placement.locate_known(key);
                prop_assert_eq!((at.home, at.slot), (home, slot));
            }
        }

        #[test]
        fn huge_tables_neither_overflow_nor_lose_the_inverse(
            keys in 1_u64 << 30..=1 << 40, size in 300_usize..=4096, picks in any::<[u64; 64]>(),
        ) {
            let placement = Placement::new(keys, &PartitionMap::even(size)).unwrap();
            for key in picks.into_iter().map(|pick| Key(pick % keys)).chain([Key(keys - 1)]) {
                let at = placement.locate(key).unwrap();
                prop_assert!(at.slot.0 < placement.slots(at.home));
                prop_assert_eq!(placement.key_of(at.home, at.slot), Some(key));
            }
        }

        #[test]
        fn reciprocal_multiplication_is_the_remainder(
            half in 0_u64..1 << 30, a in any::<u64>(), b in any::<u64>(),
        ) {
            let modulus = Modulus::new(half * 2 + 1);
            let (a, b) = (a % modulus.n, b % modulus.n);
            prop_assert_eq!(modulus.times(a, b), a * b % modulus.n);
        }
    }

    #[test]
    fn homes_differ_by_a_few_percent_of_keys_at_most() {
        for keys in [5_000_u64, 40_943, 1 << 20, 10_000_000] {
            for size in [2, 3, 4, 7, 8, 16] {
                let placement = Placement::new(keys, &PartitionMap::even(size)).unwrap();
                let fair = keys.div_ceil(size as u64);
                for home in ranks(size) {
                    let slots = u64::from(placement.slots(home));
                    assert!(slots * 100 <= fair * 105 + 200, "{keys} keys, {size} nodes: {slots}");
                }
            }
        }
    }

    #[test]
    fn keys_in_regular_steps_do_not_pick_a_home() {
        for size in [2, 4, 8] {
            let placement = Placement::new(1 << 24, &PartitionMap::even(size)).unwrap();
            for step in [1_u64, 64, 128, 1 << 10, 1 << 13, 1 << 16] {
                let mut count = vec![0_u64; size];
                let picks = ((1 << 24) / step).min(1 << 14);
                for pick in 0..picks {
                    count[placement.locate_known(Key(pick * step)).home.index()] += 1;
                }
                let fair = picks / size as u64;
                assert!(
                    count.iter().all(|&count| count * 3 >= fair && count <= fair * 3),
                    "step {step}, {size} nodes: {count:?}"
                );
            }
        }
    }

    #[test]
    fn tiny_tables_are_spread_over_the_nodes() {
        let placement = Placement::new(2, &PartitionMap::even(2)).unwrap();
        let homes: HashSet<_> = [Key(0), Key(1)].map(|key| placement.locate_known(key).home).into();
        assert_eq!(homes.len(), 2);
        let none = Placement::new(0, &PartitionMap::even(2)).unwrap();
        assert_eq!(none.locate(Key(0)), None);
        assert_eq!(none.keys_at(Rank(0)).count() + none.keys_at(Rank(1)).count(), 0);
    }

    #[test]
    fn a_home_with_more_keys_than_slot_numbers_is_an_error() {
        let one = PartitionMap::even(1);
        assert!(matches!(
            Placement::new(1 << 33, &one),
            Err(PlacementError::TooManySlots { home: Rank(0), .. })
        ));
        assert!(matches!(Placement::new(1 << 50, &one), Err(PlacementError::TooManyKeys { .. })));
        assert!(PartitionMap::new(2, vec![Rank(0); 7]).is_err());
    }
}
