//! A node's measurements as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Meter, Metrics, Operation, Path};

/// Raised when a field of the report changes its meaning.
pub const REPORT_VERSION: u32 = 1;

/// What happened since the node started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// Ranks that the report covers.
    pub nodes: usize,
    /// Accesses by path, all operations together but those of evaluations.
    pub paths: Paths,
    /// Accesses by operation, then path.
    pub operations: BTreeMap<String, OperationReport>,
    /// Bytes by purpose: `local_rows` in place, `remote_reads`, of them `reads_of_refreshes`, `records_sent`, of them `records_of_updates`,
    /// `records_of_moves` and `records_of_shares`.
    pub bytes: BTreeMap<String, u64>,
    /// CPU seconds by role: `workers` (with the engine steps that they run while they wait), of these `evaluation`, `engine` (its own
    /// threads), `processes` (all of them, with what is not Sterna's).
    pub cpu_seconds: BTreeMap<String, f64>,
    /// What the manager did with rows: `moved` to another node, `shared` (replicas set up), `refreshed` (replicas read anew), `offered` to
    /// the last node that wanted them, requests `refused`, and `dropped` for want of memory; and keys of intents that were `declined`: not
    /// acted on, because that is, or was on trial, faster.
    #[serde(default)]
    pub management: BTreeMap<String, u64>,
    /// How old replicas were at most when a change was read, in the mean: from the look at the owner's board before, in microseconds.
    #[serde(default)]
    pub staleness_us: f64,
}

/// One entry for each way to a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Paths {
    /// Rows whose main copy is at the worker's node.
    pub local: PathReport,
    /// Rows of which the worker has a private copy (hot rows), or its node one.
    pub replica: PathReport,
    /// Rows of other nodes.
    pub remote: PathReport,
}

/// An operation's accesses.
pub type OperationReport = Paths;

/// Accesses on one path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    /// Keys accessed.
    pub count: u64,
    /// Calls; a call counts where its slowest key was.
    pub calls: u64,
    /// Times of the calls that were measured.
    #[serde(flatten)]
    pub latency: Latency,
}

/// Times of whole calls in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Calls measured.
    pub timed: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
}

impl Report {
    pub(crate) fn of(metrics: &Metrics, nodes: usize) -> Self {
        let mut operations = BTreeMap::new();
        for operation in Operation::ALL {
            let paths = Paths::of(&[operation], metrics);
            if paths.count() > 0 {
                operations.insert(operation.name().to_owned(), paths);
            }
        }
        Self {
            version: REPORT_VERSION,
            nodes,
            paths: Paths::of(&Operation::TRAINING, metrics),
            operations,
            bytes: BTreeMap::new(),
            cpu_seconds: BTreeMap::new(),
            management: BTreeMap::new(),
            staleness_us: 0.0,
        }
    }

    /// Share of the accesses that were served at the worker's node; 1 if there were none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    pub fn local_share(&self) -> f64 {
        let all = self.paths.count();
        if all == 0 { 1.0 } else { 1.0 - self.paths.remote.count as f64 / all as f64 }
    }
}

impl Paths {
    fn of(operations: &[Operation], metrics: &Metrics) -> Self {
        let path = |path: Path| {
            let mut sum = Meter::new();
            operations.iter().for_each(|&operation| sum.merge(metrics.meter(operation, path)));
            PathReport::of(&sum)
        };
        Self { local: path(Path::Local), replica: path(Path::Replica), remote: path(Path::Remote) }
    }

    /// Keys accessed on all paths.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.local.count + self.replica.count + self.remote.count
    }
}

impl PathReport {
    fn of(meter: &Meter) -> Self {
        let at = |quantile: f64| meter.times.value_at_quantile(quantile);
        let latency = Latency {
            timed: meter.times.len(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: meter.times.max(),
        };
        Self { count: meter.keys, calls: meter.calls, latency }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:<8} {:>13} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "path", "keys", "calls", "p50 us", "p90 us", "p99 us", "p99.9 us", "max us"
        )?;
        for (name, paths) in &self.operations {
            let rows =
                [("local", &paths.local), ("replica", &paths.replica), ("remote", &paths.remote)];
            for (path, row) in rows.into_iter().filter(|(_, row)| row.count > 0) {
                let times = &row.latency;
                write!(f, "{name:<8} {path:<8} {:>13} {:>11}", row.count, row.calls)?;
                for ns in [times.p50_ns, times.p90_ns, times.p99_ns, times.p999_ns, times.max_ns] {
                    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
                    write!(f, " {:>9.1}", ns as f64 / 1000.0)?;
                }
                writeln!(f)?;
            }
        }
        write!(f, "local {:.2} % of accesses", 100.0 * self.local_share())?;
        for (role, seconds) in &self.cpu_seconds {
            write!(f, ", CPU of {role} {seconds:.1} s")?;
        }
        for (index, (what, count)) in self.management.iter().filter(|(_, n)| **n > 0).enumerate() {
            let separator = if index == 0 { "\nrows:" } else { "," };
            write!(f, "{separator} {what} {count}")?;
        }
        if self.staleness_us > 0.0 {
            write!(f, "; replicas at most {:.0} us old when read anew", self.staleness_us)?;
        }
        for (index, (purpose, &bytes)) in self.bytes.iter().enumerate() {
            let separator = if index == 0 { "\nbytes:" } else { "," };
            #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
            let mib = bytes as f64 / f64::from(1 << 20);
            write!(f, "{separator} {} {mib:.1} MiB", purpose.replace('_', " "))?;
        }
        Ok(())
    }
}
