//! A worker's samples: drawing, and getting rows.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::ahead;
use super::pool::Pool;
use super::scheme::POOL_KEYS_MAX;
use super::{Sampling, Scheme};
use crate::error::{Error, Result};
use crate::table::Table;
use crate::worker::Worker;

/// Draws for each key after which `local` takes keys that are not here.
const LOCAL_DRAWS_MAX: usize = 256;

/// Draws that are remembered for the share of local keys; then older ones count half.
const SHARE_DRAWS: u64 = 1 << 16;

/// Draws before repetitions are avoided by adding up what is left, at least.
const DRAWS_MIN: u64 = 64;

/// A worker's source of samples of one table, with a generator of its own: the same seed of the node, worker and order of samplers give the
/// same keys (where the scheme does not depend on what is local).
#[derive(Debug)]
pub struct Sampler {
    number: u64,
    table: Table,
    sampling: Sampling,
    random: Xoshiro256PlusPlus,
    pool: Pool,
    /// Where keys may be put off: keys that are drawn and announced, and those of them whose rows were not here when it was their turn.
    queue: VecDeque<u64>,
    postponed: VecDeque<u64>,
    /// Draws of `local`, and how many were of keys that were here.
    tried: u64,
    found: u64,
}

/// A sample that is prepared. Dropping it forgets what was not pulled.
#[derive(Debug)]
pub struct Sample {
    sampler: u64,
    left: usize,
    /// Keys that are chosen already.
    queue: VecDeque<u64>,
    /// Keys that it has, if none may come twice.
    taken: HashSet<u64>,
}

impl Sample {
    /// Keys that may still be pulled.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }
}

impl Worker {
    /// A source of samples.
    ///
    /// # Errors
    /// [`Error::Sampling`] for keys that the table does not have and pools of no or too many keys.
    pub fn sampler(&mut self, table: &Table, sampling: Sampling) -> Result<Sampler> {
        static SAMPLERS: AtomicU64 = AtomicU64::new(0);
        let keys = sampling.distribution.keys();
        if keys.end > table.keys() {
            let reason =
                format!("keys {}..{} of a table of {}", keys.start, keys.end, table.keys());
            return Err(refuse(table, reason));
        }
        if let Scheme::Pool { keys, reuse, .. } = sampling.scheme
            && (reuse == 0 || !(1..=POOL_KEYS_MAX).contains(&keys))
        {
            let reason = format!(
                "a pool of {keys} keys, each used {reuse} times: 1 to {POOL_KEYS_MAX} keys, at least once"
            );
            return Err(refuse(table, reason));
        }
        Ok(Sampler {
            number: SAMPLERS.fetch_add(1, Ordering::Relaxed),
            table: table.clone(),
            sampling,
            random: Xoshiro256PlusPlus::seed_from_u64(self.next_stream(table)),
            pool: Pool::default(),
            queue: VecDeque::new(),
            postponed: VecDeque::new(),
            tried: 0,
            found: 0,
        })
    }

    /// Prepares a sample of `count` keys, to be pulled from clock `clocks.start` on and before `clocks.end`.
    ///
    /// # Errors
    /// [`Error::Sampling`] for more keys without replacement than there are; as [`Worker::intent`].
    pub fn prepare_sample(
        &mut self,
        sampler: &mut Sampler,
        count: usize,
        clocks: Range<u64>,
    ) -> Result<Sample> {
        let support = sampler.sampling.distribution.support();
        if !sampler.sampling.replacement && count as u64 > support {
            let reason = format!("a sample of {count} different keys of {support}");
            return Err(refuse(&sampler.table, reason));
        }
        let mut sample = Sample {
            sampler: sampler.number,
            left: count,
            queue: VecDeque::new(),
            taken: HashSet::new(),
        };
        match sampler.sampling.scheme {
            Scheme::Naive | Scheme::Local => {}
            Scheme::Preloc | Scheme::Pool { postpone: false, .. } => {
                let keys: Vec<u64> = (0..count).map(|_| sampler.draw(&mut sample.taken)).collect();
                ahead::announce(self, &sampler.table, &keys, clocks)?;
                sample.queue = keys.into();
            }
            Scheme::Pool { .. } => {
                let keys = sampler.stock(count);
                ahead::announce(self, &sampler.table, &keys, clocks)?;
            }
        }
        Ok(sample)
    }

    /// The next `keys.len()` keys of a sample and the values of their rows (`keys.len() * dim` floats), as [`Worker::pull`] gives them.
    ///
    /// # Errors
    /// [`Error::Sampling`] for more keys than are left and a sample of another sampler; as [`Worker::pull`].
    pub fn pull_sample(
        &mut self,
        sampler: &mut Sampler,
        sample: &mut Sample,
        keys: &mut [u64],
        values: &mut [f32],
    ) -> Result<()> {
        sampler.table.check_len(keys.len(), sampler.table.dim(), values.len())?;
        self.take_sample(sampler, sample, keys, values)
    }

    /// The next `keys.len()` keys of a sample without their rows, for steps that pull them together with others. Keys that were chosen
    /// because their rows are here may have left until they are pulled; that costs time and nothing else.
    ///
    /// # Errors
    /// As [`Worker::pull_sample`].
    pub fn choose_sample(
        &mut self,
        sampler: &mut Sampler,
        sample: &mut Sample,
        keys: &mut [u64],
    ) -> Result<()> {
        self.take_sample(sampler, sample, keys, &mut [])
    }

    /// The next keys of a sample, with their rows where `values` is not empty.
    fn take_sample(
        &mut self,
        sampler: &mut Sampler,
        sample: &mut Sample,
        keys: &mut [u64],
        values: &mut [f32],
    ) -> Result<()> {
        let table = sampler.table.clone();
        let dim = if values.is_empty() { 0 } else { table.dim() };
        if sample.sampler != sampler.number {
            return Err(refuse(&table, "a sample of another sampler".to_owned()));
        }
        if keys.len() > sample.left {
            let reason = format!("{} keys of a sample that has {} left", keys.len(), sample.left);
            return Err(refuse(&table, reason));
        }
        match sampler.sampling.scheme {
            Scheme::Naive => {
                keys.fill_with(|| sampler.draw(&mut sample.taken));
                self.pull_wanted(&table, keys, values)?;
            }
            Scheme::Preloc | Scheme::Pool { postpone: false, .. } => {
                keys.fill_with(|| sample.queue.pop_front().expect("as many as are left"));
                self.pull_wanted(&table, keys, values)?;
            }
            Scheme::Pool { .. } => {
                let here = sampler.postpone(self, &mut sample.taken, keys, values)?;
                let (keys, values) = (&mut keys[here..], &mut values[here * dim..]);
                keys.fill_with(|| sampler.longest_waiting(&mut sample.taken));
                self.pull_wanted(&table, keys, values)?;
            }
            Scheme::Local => {
                let here = sampler.draw_here(self, &mut sample.taken, keys, values)?;
                let (keys, values) = (&mut keys[here..], &mut values[here * dim..]);
                keys.fill_with(|| sampler.draw(&mut sample.taken));
                self.pull_wanted(&table, keys, values)?;
            }
        }
        sample.left -= keys.len();
        Ok(())
    }

    fn pull_wanted(&mut self, table: &Table, keys: &[u64], values: &mut [f32]) -> Result<()> {
        if values.is_empty() { Ok(()) } else { self.pull(table, keys, values) }
    }

    /// Of these candidates, no more than `keys` has room for, keeps those whose rows are here and that are accepted, with their rows; lists
    /// those whose rows are not here as away. Gives how many are kept. Where `values` is empty, rows are looked for and not copied.
    fn keep_here(
        &mut self,
        table: &Table,
        candidates: &[u64],
        (keys, values): (&mut [u64], &mut [f32]),
        mut accept: impl FnMut(u64) -> bool,
        away: &mut Vec<u64>,
    ) -> Result<usize> {
        if values.is_empty() {
            let mut kept = 0;
            for &key in candidates {
                if !table.is_here(key) {
                    away.push(key);
                } else if accept(key) {
                    keys[kept] = key;
                    kept += 1;
                }
            }
            return Ok(kept);
        }
        let dim = table.dim();
        let missed = self.pull_here(table, candidates, &mut values[..candidates.len() * dim])?;
        let mut missed = missed.iter().peekable();
        let mut kept = 0;
        for (index, &key) in candidates.iter().enumerate() {
            if missed.next_if_eq(&&index).is_some() {
                away.push(key);
            } else if accept(key) {
                if kept < index {
                    values.copy_within(index * dim..(index + 1) * dim, kept * dim);
                }
                keys[kept] = key;
                kept += 1;
            }
        }
        Ok(kept)
    }
}

impl Sampler {
    /// What is sampled.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.sampling
    }

    /// Begins its random numbers anew, as a function of `seed` alone: what it draws next no longer depends on what it drew before (but for what
    /// pools still hold). So a training that is resumed draws what it would have drawn.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Xoshiro256PlusPlus::seed_from_u64(seed);
    }

    /// Under [`Scheme::Local`], the probability that a draw from the distribution is of a key at this node, as seen lately (of the last 65,536
    /// draws or so); 1 for other schemes and before the first draw. A key that is here is proposed with its probability divided by this.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn local_share(&self) -> f64 {
        if self.tried == 0 { 1.0 } else { self.found as f64 / self.tried as f64 }
    }

    /// The next key of a sample, one that it does not have if none may come twice.
    fn draw(&mut self, taken: &mut HashSet<u64>) -> u64 {
        if self.sampling.replacement {
            return self.draw_any();
        }
        // About as many draws as adding up what is left would cost.
        for _ in 0..self.sampling.distribution.support().max(DRAWS_MIN) {
            let key = self.draw_any();
            if taken.insert(key) {
                return key;
            }
        }
        let left = |key| !taken.contains(&key);
        let key = self.sampling.distribution.draw_among(&mut self.random, left);
        let key = key.expect("samples are no larger than the distribution");
        taken.insert(key);
        key
    }

    fn draw_any(&mut self) -> u64 {
        let distribution = &self.sampling.distribution;
        match self.sampling.scheme {
            Scheme::Pool { keys, reuse, .. } => {
                self.pool.next((keys, reuse), distribution, &mut self.random)
            }
            _ => distribution.draw(&mut self.random),
        }
    }

    /// Draws keys whose rows are here, with their rows; fewer than there is room for if that takes too many draws. Gives how many.
    fn draw_here(
        &mut self,
        worker: &mut Worker,
        taken: &mut HashSet<u64>,
        keys: &mut [u64],
        values: &mut [f32],
    ) -> Result<usize> {
        let (dim, replacement) = (floats_of_each(keys, values), self.sampling.replacement);
        let (mut filled, mut draws_left) = (0, keys.len().saturating_mul(LOCAL_DRAWS_MAX));
        let (mut candidates, mut away) = (Vec::new(), Vec::new());
        while filled < keys.len() && draws_left > 0 {
            candidates.clear();
            candidates.extend((filled..keys.len()).map(|_| self.draw_any()));
            away.clear();
            let room = (&mut keys[filled..], &mut values[filled * dim..]);
            let accept = |key| replacement || taken.insert(key);
            filled += worker.keep_here(&self.table, &candidates, room, accept, &mut away)?;
            draws_left = draws_left.saturating_sub(candidates.len());
            if self.tried >= SHARE_DRAWS {
                (self.tried, self.found) = (self.tried / 2, self.found / 2);
            }
            self.tried += candidates.len() as u64;
            self.found += (candidates.len() - away.len()) as u64;
        }
        Ok(filled)
    }

    /// Draws keys for `count` more places, so that as many as a pool has may be put off beside them; gives all that wait.
    fn stock(&mut self, count: usize) -> Vec<u64> {
        let wanted = count + self.sampling.scheme.postponed_max();
        let waiting = self.queue.len() + self.postponed.len();
        for _ in waiting..wanted {
            let key = self.draw_any();
            self.queue.push_back(key);
        }
        self.postponed.iter().chain(&self.queue).copied().collect()
    }

    /// Keys whose rows are here, with their rows: first those that were put off before, then the next that were drawn; of these the others are
    /// put off. Fewer than there is room for once as many are put off as may be. Gives how many.
    fn postpone(
        &mut self,
        worker: &mut Worker,
        taken: &mut HashSet<u64>,
        keys: &mut [u64],
        values: &mut [f32],
    ) -> Result<usize> {
        let (dim, replacement) = (floats_of_each(keys, values), self.sampling.replacement);
        let mut accept = |key| replacement || taken.insert(key);
        let mut away = Vec::new();
        let waiting = self.postponed.len().min(keys.len());
        let candidates: Vec<u64> = self.postponed.drain(..waiting).collect();
        let room = (&mut *keys, &mut *values);
        let mut filled =
            worker.keep_here(&self.table, &candidates, room, &mut accept, &mut away)?;
        away.drain(..).rev().for_each(|key| self.postponed.push_front(key));
        let most = self.sampling.scheme.postponed_max();
        while filled < keys.len() && self.postponed.len() < most && !self.queue.is_empty() {
            let room = (keys.len() - filled).min(most - self.postponed.len());
            let candidates: Vec<u64> = self.queue.drain(..room.min(self.queue.len())).collect();
            let room = (&mut keys[filled..], &mut values[filled * dim..]);
            filled += worker.keep_here(&self.table, &candidates, room, &mut accept, &mut away)?;
            self.postponed.extend(away.drain(..));
        }
        Ok(filled)
    }

    /// The key that was put off first, or drawn next, wherever its row is.
    fn longest_waiting(&mut self, taken: &mut HashSet<u64>) -> u64 {
        while let Some(key) = self.postponed.pop_front().or_else(|| self.queue.pop_front()) {
            if self.sampling.replacement || taken.insert(key) {
                return key;
            }
        }
        self.draw(taken)
    }
}

/// Floats of a key's row in `values`; 0 if no rows are wanted.
fn floats_of_each(keys: &[u64], values: &[f32]) -> usize {
    values.len() / keys.len().max(1)
}

fn refuse(table: &Table, reason: String) -> Error {
    Error::Sampling { table: table.name().to_owned(), reason }
}
