//! Who takes which part of the work, and when.

use rand_xoshiro::Xoshiro256PlusPlus;

use super::order::{self, stream, stream_seed};

/// One worker's part of what all workers do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The worker, counted through the whole job.
    pub index: usize,
    /// Workers of the job.
    pub count: usize,
}

impl Share {
    /// This worker's items: every so many-th.
    pub fn of<T>(self, items: &[T]) -> impl Iterator<Item = &T> {
        items.iter().skip(self.index).step_by(self.count)
    }

    /// This worker's range of `0..count`; the ranges of all workers lie side by side.
    #[must_use]
    pub fn range(self, count: usize) -> std::ops::Range<usize> {
        let bound = |index: usize| {
            let (count, index, workers) = (count as u128, index as u128, self.count as u128);
            usize::try_from(count * index / workers).expect("at most count")
        };
        bound(self.index)..bound(self.index + 1)
    }
}

/// Which phase of which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The epoch, from 0.
    pub number: u32,
    /// The phase in it, from 0.
    pub phase: u32,
    /// The run's seed.
    pub seed: u64,
    /// The asking worker.
    pub share: Share,
}

impl Epoch {
    /// Random numbers that are the same for all workers; `purpose` tells streams of one task apart
    /// (0 and 1 are taken).
    #[must_use]
    pub fn random(&self, purpose: u64) -> Xoshiro256PlusPlus {
        stream(self.seed, purpose, [u64::from(self.number), u64::from(self.phase), 0])
    }

    /// Writes `0..count` to `order`, shuffled anew for every epoch and the same for all workers.
    pub fn shuffled(&self, order: &mut Vec<u32>, count: usize) {
        order::shuffled(order, self, count);
    }
}

/// How a phase's examples reach the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dealt {
    /// All workers have the same list, and each takes its part of every round. A run can stop
    /// after any round, and go on with another number of workers.
    Shared,
    /// Every worker has a list of its own, which no other has. A run stops at the end of a phase.
    Own,
}

/// The examples of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Their numbers, in the order in which to take them.
    pub examples: &'a [u32],
    /// The phase.
    pub epoch: Epoch,
    /// Examples that came before: of the phase's list if it is shared, else of this worker's own.
    pub first: usize,
}

impl Part<'_> {
    /// The worker's own random numbers for this batch; `purpose` tells streams of one task apart
    /// (0 and 1 are taken, and 2 where the task has samples).
    #[must_use]
    pub fn random(&self, purpose: u64) -> Xoshiro256PlusPlus {
        stream(self.epoch.seed, purpose, self.place())
    }

    /// The seed of such numbers.
    pub(super) fn seed(&self, purpose: u64) -> u64 {
        stream_seed(self.epoch.seed, purpose, self.place())
    }

    fn place(&self) -> [u64; 3] {
        let epoch = u64::from(self.epoch.number) | u64::from(self.epoch.phase) << 32;
        [epoch, self.first as u64, self.epoch.share.index as u64]
    }
}

/// How far training is, for schedules of the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// The epoch, from 0.
    pub epoch: u32,
    /// The part of the whole training that is done: 0 at the first batch, 1 after the last.
    pub progress: f64,
}

/// A sum of losses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Their sum.
    pub sum: f64,
    /// How many.
    pub count: f64,
}

impl Loss {
    /// So many losses of this sum.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    pub fn of(sum: f64, count: usize) -> Self {
        Self { sum, count: count as f64 }
    }

    /// Adds one loss.
    #[inline]
    pub fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1.0;
    }

    /// Adds other losses.
    #[inline]
    pub fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    /// Their mean; 0 if there were none.
    #[must_use]
    pub fn mean(self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::Share;

    #[test]
    fn ranges_of_all_workers_lie_side_by_side() {
        for (count, workers) in [(10, 3), (2, 5), (0, 2), (1 << 40, 7)] {
            let mut next = 0;
            for index in 0..workers {
                let range = Share { index, count: workers }.range(count);
                assert_eq!(range.start, next);
                next = range.end;
            }
            assert_eq!(next, count);
        }
    }
}
