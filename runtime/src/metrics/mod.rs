//! What a node measures about itself: counts always, times of whole calls.
//!
//! A call of [`TIMED_KEYS_MIN`] keys and more is timed as a whole; of shorter ones, one in [`SAMPLE_EVERY`] is: reading the
//! clock twice costs as much as a few rows. Counts are exact. Each worker measures for itself and hands over
//! what it has at collective calls and when it ends, so that no memory is shared on the way of an access.

mod report;

use std::os::unix::thread::JoinHandleExt as _;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

pub use report::{Latency, OperationReport, PathReport, Paths, REPORT_VERSION, Report};

/// Calls with at least so many keys are always timed.
pub const TIMED_KEYS_MIN: usize = 64;

/// One in so many shorter calls is timed.
pub const SAMPLE_EVERY: u32 = 256;

/// The longest time that a histogram tells apart: longer ones count as this.
const NANOSECONDS_MAX: u64 = 60_000_000_000;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Pull,
    Push,
    Add,
    Set,
    /// A pull of an evaluation, which is no access of the training.
    Evaluate,
}

impl Operation {
    pub(crate) const ALL: [Self; 5] =
        [Self::Pull, Self::Push, Self::Add, Self::Set, Self::Evaluate];

    /// Those of training.
    pub(crate) const TRAINING: [Self; 4] = [Self::Pull, Self::Push, Self::Add, Self::Set];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Add => "add",
            Self::Set => "set",
            Self::Evaluate => "evaluate",
        }
    }
}

/// How a key was reached. A call counts where its slowest key was: remote before local before replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Local,
    Replica,
    Remote,
}

impl Path {
    pub(crate) const ALL: [Self; 3] = [Self::Local, Self::Replica, Self::Remote];
}

/// Keys of a call by how they were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) local: usize,
    pub(crate) replica: usize,
    pub(crate) remote: usize,
}

/// Counts and times of one operation on one path.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) keys: u64,
    pub(crate) calls: u64,
    pub(crate) times: Histogram<u64>,
}

impl Meter {
    fn new() -> Self {
        let times = Histogram::new_with_bounds(1, NANOSECONDS_MAX, 2);
        Self { keys: 0, calls: 0, times: times.expect("the bounds are valid") }
    }

    /// Keys, calls, and the histogram's buckets: numbers that add up over nodes.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn to_numbers(&self) -> Vec<f64> {
        let mut numbers = vec![self.keys as f64, self.calls as f64];
        numbers.extend(self.times.iter_all().map(|bucket| bucket.count_at_value() as f64));
        numbers
    }

    /// The opposite; the largest time is then known to the width of its bucket.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counts")]
    fn from_numbers(numbers: &[f64]) -> Self {
        let mut meter = Self::new();
        (meter.keys, meter.calls) = (numbers[0] as u64, numbers[1] as u64);
        let empty = meter.times.clone();
        for (bucket, &count) in empty.iter_all().zip(&numbers[2..]) {
            if count > 0.0 {
                meter.times.saturating_record_n(bucket.value_iterated_to(), count as u64);
            }
        }
        meter
    }

    fn merge(&mut self, other: &Self) {
        self.keys += other.keys;
        self.calls += other.calls;
        self.times.add(&other.times).expect("equal bounds");
    }
}

/// What one worker, or all of a node, measured.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    meters: Vec<Meter>,
    /// CPU time of the worker threads.
    pub(crate) cpu: Duration,
    /// The part of it that went into evaluations.
    pub(crate) evaluation_cpu: Duration,
    /// Rows copied or changed here, in bytes.
    pub(crate) local_bytes: u64,
    /// Keys of all accesses of training since the start, which no clearing forgets.
    pub(crate) used: u64,
    calls_until_sample: u32,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let meters = Operation::ALL.len() * Path::ALL.len();
        Self {
            meters: (0..meters).map(|_| Meter::new()).collect(),
            cpu: Duration::ZERO,
            evaluation_cpu: Duration::ZERO,
            local_bytes: 0,
            used: 0,
            calls_until_sample: SAMPLE_EVERY,
        }
    }

    pub(crate) fn meter(&self, operation: Operation, path: Path) -> &Meter {
        &self.meters[operation as usize * Path::ALL.len() + path as usize]
    }

    fn meter_mut(&mut self, operation: Operation, path: Path) -> &mut Meter {
        &mut self.meters[operation as usize * Path::ALL.len() + path as usize]
    }

    /// Called at the begin of a call: the time, if this one is measured.
    #[inline]
    pub(crate) fn start(&mut self, keys: usize) -> Option<Instant> {
        if keys < TIMED_KEYS_MIN {
            self.calls_until_sample -= 1;
            if self.calls_until_sample > 0 {
                return None;
            }
            self.calls_until_sample = SAMPLE_EVERY;
        }
        Some(Instant::now())
    }

    /// Called at the end of a call.
    #[inline]
    pub(crate) fn finish(
        &mut self,
        operation: Operation,
        reached: Reached,
        started: Option<Instant>,
    ) {
        let Reached { local, replica, remote } = reached;
        if operation != Operation::Evaluate {
            self.used += (local + replica + remote) as u64;
        }
        let mut slowest = Path::Replica;
        for (path, keys) in [(Path::Replica, replica), (Path::Local, local), (Path::Remote, remote)]
        {
            if keys > 0 {
                self.meter_mut(operation, path).keys += keys as u64;
                slowest = path;
            }
        }
        let path = slowest;
        let meter = self.meter_mut(operation, path);
        meter.calls += 1;
        if let Some(started) = started {
            let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            meter.times.saturating_record(nanoseconds.max(1));
        }
    }

    /// Sums the measurements of all nodes; `reduce` is a collective sum.
    pub(crate) fn reduce<E>(
        &mut self,
        mut reduce: impl FnMut(&mut [f64]) -> Result<(), E>,
    ) -> Result<(), E> {
        for meter in &mut self.meters {
            let mut numbers = meter.to_numbers();
            reduce(&mut numbers)?;
            *meter = Meter::from_numbers(&numbers);
        }
        Ok(())
    }

    /// Forgets what was measured.
    pub(crate) fn clear(&mut self) {
        for meter in self.meters.iter_mut().filter(|meter| meter.calls > 0 || meter.keys > 0) {
            *meter = Meter::new();
        }
        self.cpu = Duration::ZERO;
        self.evaluation_cpu = Duration::ZERO;
        self.local_bytes = 0;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.meters.iter_mut().zip(&other.meters) {
            mine.merge(theirs);
        }
        self.cpu += other.cpu;
        self.evaluation_cpu += other.evaluation_cpu;
        self.local_bytes += other.local_bytes;
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or(Duration::ZERO)
}

/// CPU time of another thread of this process; zero if it has ended or the system does not tell.
pub(crate) fn cpu_of<T>(thread: &JoinHandle<T>) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the handle keeps the thread's number valid, as it has neither been joined nor detached; both calls only write to
    // the given places, and the second one fails for the clock of a thread that has ended.
    let failed = unsafe {
        libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    if failed { Duration::ZERO } else { Duration::new(seconds, nanoseconds) }
}

/// CPU time of this process.
pub(crate) fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_and_short_calls_are_sampled() {
        let mut metrics = Metrics::new();
        for _ in 0..SAMPLE_EVERY * 3 {
            let started = metrics.start(1);
            metrics.finish(Operation::Pull, Reached { local: 1, ..Reached::default() }, started);
        }
        for _ in 0..5 {
            let started = metrics.start(100);
            metrics.finish(Operation::Pull, Reached { local: 60, replica: 0, remote: 40 }, started);
        }
        let local = metrics.meter(Operation::Pull, Path::Local);
        assert_eq!((local.calls, local.times.len()), (u64::from(SAMPLE_EVERY) * 3, 3));
        assert_eq!(local.keys, u64::from(SAMPLE_EVERY) * 3 + 300);
        let remote = metrics.meter(Operation::Pull, Path::Remote).clone();
        assert_eq!((remote.calls, remote.keys, remote.times.len()), (5, 200, 5));
        metrics.finish(Operation::Push, Reached { local: 0, replica: 9, remote: 0 }, None);
        metrics.finish(Operation::Push, Reached { local: 2, replica: 7, remote: 0 }, None);
        let replica = metrics.meter(Operation::Push, Path::Replica);
        assert_eq!(
            (replica.calls, replica.keys),
            (1, 16),
            "the other call was no faster than a row"
        );
        let mut numbers = metrics.clone();
        numbers.reduce(|_| Ok::<(), ()>(())).expect("a sum of one");
        let same = numbers.meter(Operation::Pull, Path::Remote);
        assert_eq!((same.calls, same.keys, same.times.len()), (5, 200, 5));
        assert_eq!(same.times.value_at_quantile(0.5), remote.times.value_at_quantile(0.5));
        let mut sum = Metrics::new();
        sum.merge(&metrics);
        sum.merge(&metrics);
        assert_eq!(sum.meter(Operation::Pull, Path::Remote).times.len(), 10);
    }
}
