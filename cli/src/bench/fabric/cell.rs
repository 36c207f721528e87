//! One line of the table: an operation of one size and depth over one provider.

use serde::Serialize;

use crate::probe::{Spread, Times};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Operation {
    /// One-sided READs.
    #[serde(rename = "READ")]
    Read,
    /// Records there and back.
    #[serde(rename = "record")]
    Record,
    /// Records in one direction.
    #[serde(rename = "stream")]
    Stream,
}

impl Operation {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Record => "record",
            Self::Stream => "stream",
        }
    }
}

/// What stands beside a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Bare {
    /// The median of single operations.
    P50Us(f64),
    /// The rate of many at a time.
    MegabytesPerSecond(f64),
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    pub(super) provider: &'static str,
    pub(super) operation: Operation,
    pub(super) bytes: usize,
    /// Operations on their way at a time; 0: as many as fit.
    pub(super) depth: usize,
    #[serde(flatten)]
    pub(super) spread: Spread,
    /// What the bare equivalent took or moved.
    pub(super) bare: Option<Bare>,
    /// Of times: the median over that of the bare equivalent, so less is better; of rates: this rate over its, so more is better.
    pub(super) ratio: Option<f64>,
    /// Upper ends of steps in us, and the operations in each.
    pub(super) histogram: Vec<(f64, u64)>,
}

impl Cell {
    pub(super) fn new(
        provider: &'static str,
        operation: Operation,
        bytes: usize,
        depth: usize,
        times: &Times,
        bare: Option<Bare>,
    ) -> Self {
        let spread = times.spread();
        let ratio = bare.and_then(|bare| match bare {
            Bare::P50Us(us) => (us > 0.0).then(|| spread.p50_us / us),
            Bare::MegabytesPerSecond(rate) => {
                (rate > 0.0).then(|| spread.megabytes_per_second / rate)
            }
        });
        let histogram = times.steps();
        Self { provider, operation, bytes, depth, spread, bare, ratio, histogram }
    }

    pub(super) fn line(&self) -> String {
        let Spread { count, p50_us, p99_us, p999_us, max_us, megabytes_per_second, .. } =
            self.spread;
        let (name, bytes) = (self.operation.name(), self.bytes);
        let bare = match self.bare {
            None => "-".to_owned(),
            Some(Bare::P50Us(us)) => format!("{us:.2} us"),
            Some(Bare::MegabytesPerSecond(rate)) => format!("{rate:.1} MB/s"),
        };
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        if self.operation == Operation::Stream {
            let millions = megabytes_per_second / to_float(bytes as u64);
            let nothing = "-";
            return format!(
                "{name:<6} {bytes:>6} {:>5} {nothing:>9} {nothing:>9} {nothing:>9} {nothing:>9} {bare:>12} {ratio:>6} {millions:>8.3} {megabytes_per_second:>8.1}",
                "full"
            );
        }
        format!(
            "{name:<6} {bytes:>6} {:>5} {p50_us:>9.2} {p99_us:>9.2} {p999_us:>9.1} {max_us:>9.1} {bare:>12} {ratio:>6} {:>8.3} {megabytes_per_second:>8.1}  {}",
            self.depth,
            self.spread.per_second / 1e6,
            shape(&self.histogram, count),
        )
    }
}

/// Names of the columns.
pub(super) fn heading() -> String {
    format!(
        "{:<6} {:>6} {:>5} {:>9} {:>9} {:>9} {:>9} {:>12} {:>6} {:>8} {:>8}  {:<W$}",
        "",
        "bytes",
        "depth",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "beside",
        "ratio",
        "M/s",
        "MB/s",
        "0.1 us 1us   10us  0.1ms 1ms",
        W = COLUMNS
    )
}

/// The first column of a shape ends here; each next one is twice as far.
const SHAPE_FROM_US: f64 = 0.064;

/// Columns of a shape: to 16 ms.
const COLUMNS: usize = 19;

/// The distribution in one line: a column for each doubling of the time, as high as its part of all operations (in logarithm, so that
/// one in ten thousand shows).
fn shape(histogram: &[(f64, u64)], count: u64) -> String {
    const HEIGHTS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut columns = [0_u64; COLUMNS];
    for &(end_us, operations) in histogram {
        let doublings = (end_us / SHAPE_FROM_US).log2().ceil();
        let column = (0..COLUMNS - 1).find(|&column| doublings <= to_float(column as u64));
        columns[column.unwrap_or(COLUMNS - 1)] += operations;
    }
    let height = |operations: u64| match operations {
        0 => ' ',
        some => {
            let part = to_float(some) / to_float(count);
            // All: 8; each tenth: two less; never less than 1.
            let eighths = (8.0 + 2.0 * part.log10()).round().clamp(1.0, 8.0);
            let at = (1..8).find(|&at| to_float(at as u64) >= eighths).unwrap_or(8);
            HEIGHTS[at]
        }
    };
    columns.iter().map(|&operations| height(operations)).collect::<String>().trim_end().to_owned()
}

fn to_float(number: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    let float = number as f64;
    float
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_shows_where_operations_lie_and_rare_ones_too() {
        let histogram = [(0.25, 9_990), (1.0, 9), (20_000.0, 1)];
        let shape = shape(&histogram, 10_000);
        let columns: Vec<char> = shape.chars().collect();
        assert_eq!(columns.len(), COLUMNS);
        assert_eq!(columns[2], '█', "0.128 to 0.256 us: {shape:?}");
        assert_eq!(columns[4], '▂', "0.512 to 1.024 us: {shape:?}");
        assert_eq!(columns[COLUMNS - 1], '▁', "all above: {shape:?}");
        assert_eq!(columns.iter().filter(|&&c| c != ' ').count(), 3, "{shape:?}");
    }

    #[test]
    fn a_cell_puts_its_median_beside_that_of_the_bare_equivalent() {
        let mut own = Times::new();
        let long_ago = |us: u64| {
            std::time::Instant::now()
                .checked_sub(std::time::Duration::from_micros(us))
                .expect("uptime")
        };
        own.record(long_ago(40_000), 1);
        own.moved(512, std::time::Duration::from_millis(40));
        let bare = Some(Bare::P50Us(20_000.0));
        let cell = Cell::new("tcp", Operation::Read, 512, 1, &own, bare);
        assert!((1.9..2.5).contains(&cell.ratio.expect("both were measured")), "{cell:?}");
        // 512 bytes in 40 ms are 0.0128 MB/s.
        let rate = Some(Bare::MegabytesPerSecond(0.0256));
        let rate = Cell::new("tcp", Operation::Stream, 512, 0, &own, rate);
        assert!((rate.ratio.expect("both were measured") - 0.5).abs() < 1e-6, "{rate:?}");
        assert_eq!(cell.histogram.iter().map(|step| step.1).sum::<u64>(), 1);
        assert!(cell.line().starts_with("READ      512     1"), "{}", cell.line());
        let alone = Cell::new("tcp", Operation::Stream, 512, 0, &own, None);
        assert!(alone.ratio.is_none() && alone.line().contains("full"), "{}", alone.line());
    }
}
