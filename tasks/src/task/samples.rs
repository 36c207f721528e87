//! Keys that batches draw at random, chosen by the parameter manager.
//!
//! A task says from which distributions its batches draw and how many keys each needs; the driver prepares a sample when the
//! batch is drawn, with the clocks of its step, and the step asks for the keys ([`Parameters::sample`](super::Parameters::sample)). Which keys
//! come is the business of the [`Scheme`](sterna::sampling::Scheme): schemes that choose ahead announce them, others choose among rows that are there.
//!
//! Every batch has random numbers of its own, so that drawing ahead and resuming change nothing, and on one node `naive`,
//! `preloc` and `local` are the same.

use std::ops::Range;

use sterna::sampling::{Sample, Sampler};
use sterna::{Table, Worker};

use super::{Part, Task, TaskError};

/// The stream of a batch's first sample; those of others have their number above.
const SAMPLES: u64 = 2;

/// A worker's sources of samples, in the order of [`Task::samples`].
#[derive(Debug, Default)]
pub(super) struct Sources(Vec<Sampler>);

/// What a batch draws.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    samples: Vec<Sample>,
    seeds: Vec<u64>,
}

/// Samples at hand in a step.
#[derive(Debug)]
pub(super) struct Choices<'a> {
    samplers: &'a mut [Sampler],
    samples: &'a mut [Sample],
}

impl Sources {
    /// Those of a task.
    pub(super) fn new<T: Task>(
        task: &T,
        worker: &mut Worker,
        tables: &[Table],
    ) -> Result<Self, TaskError> {
        let all = task.samples().into_iter();
        let samplers = all.map(|(table, sampling)| worker.sampler(&tables[table], sampling));
        Ok(Self(samplers.collect::<Result<_, _>>()?))
    }

    /// Prepares what a batch will draw in a step at these clocks.
    pub(super) fn prepare<T: Task>(
        &mut self,
        task: &T,
        (batch, part): (&T::Batch, &Part<'_>),
        worker: &mut Worker,
        clocks: Range<u64>,
    ) -> Result<Prepared, TaskError> {
        let mut prepared = Prepared::default();
        for (number, sampler) in self.0.iter_mut().enumerate() {
            let seed = part.seed(SAMPLES | (number as u64) << 32);
            sampler.reseed(seed);
            let count = task.sample_len(batch, number);
            prepared.samples.push(worker.prepare_sample(sampler, count, clocks.clone())?);
            prepared.seeds.push(seed);
        }
        Ok(prepared)
    }

    /// What the step of a batch chooses from.
    pub(super) fn choices<'a>(&'a mut self, prepared: &'a mut Prepared) -> Choices<'a> {
        for (sampler, &seed) in self.0.iter_mut().zip(&prepared.seeds) {
            sampler.reseed(seed);
        }
        Choices { samplers: &mut self.0, samples: &mut prepared.samples }
    }
}

impl Choices<'_> {
    /// The next keys of the sample with this number.
    pub(super) fn choose(
        &mut self,
        worker: &mut Worker,
        number: usize,
        keys: &mut [u64],
    ) -> sterna::Result<()> {
        worker.choose_sample(&mut self.samplers[number], &mut self.samples[number], keys)
    }
}

/// A scheme in settings, by its name: `#[serde(with = "crate::task::scheme_name")]`.
pub mod scheme_name {
    use serde::{Deserialize, Deserializer, Serializer};
    use sterna::sampling::Scheme;

    /// Writes the name.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(scheme: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(scheme)
    }

    /// Reads a name.
    ///
    /// # Errors
    /// What is no scheme.
    pub fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Scheme, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}
