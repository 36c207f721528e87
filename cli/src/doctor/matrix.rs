//! The figures of all pairs: a matrix for people, and those that stand out.

use serde::{Deserialize, Serialize};
use sterna_rdma::Rank;

use super::report::Check;

/// Columns of a matrix that fit on a screen.
const COLUMNS_MAX: usize = 16;

/// A pair this many times slower than the median of its kind stands out.
const SLOWER: f64 = 2.0;

/// Figures of fewer pairs have no median worth the name.
const PAIRS_MIN: usize = 4;

/// What one host measured of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair {
    pub(crate) provider: String,
    /// Median of a READ of 512 bytes.
    pub(crate) read_us: f64,
    /// READs of 64 KiB, 16 at a time.
    pub(crate) megabytes_per_second: f64,
}

/// One host's figures of another, or what went wrong.
pub(crate) type Measured = (Rank, Rank, Result<Pair, String>);

pub(crate) fn check(size: usize, pairs: &[Measured]) -> Vec<Check> {
    let mut checks: Vec<Check> = pairs
        .iter()
        .filter_map(|(from, to, pair)| {
            let error = pair.as_ref().err()?;
            Some(Check::fail(
                format!("{from} reads {to}"),
                error.clone(),
                "sterna doctor at both hosts; the network between them (ping, ib_read_lat)",
            ))
        })
        .collect();
    let good: Vec<(Rank, Rank, &Pair)> = pairs
        .iter()
        .filter_map(|(from, to, pair)| Some((*from, *to, pair.as_ref().ok()?)))
        .collect();
    if good.is_empty() {
        return checks;
    }
    let outliers = outliers(&good);
    let mut table =
        table(size, &good, "READ of 512 bytes, p50 in us; row reads from column", |pair| {
            format!("{:.1}", pair.read_us)
        });
    table.extend(self::table(size, &good, "READs of 64 KiB, 16 at a time, in MB/s", |pair| {
        format!("{:.0}", pair.megabytes_per_second)
    }));
    let text = format!("{} measured, every byte as it was at the other host", good.len());
    checks.push(if outliers.is_empty() {
        Check::pass("pairs", text).with_details(table)
    } else {
        table.extend(outliers.iter().cloned());
        Check::warn(
            "pairs",
            format!("{text}; {} stand out: {}", outliers.len(), outliers[0]),
            "sterna doctor at these hosts; cable, switch port and MTU between them",
        )
        .with_details(table)
    });
    checks
}

/// Pairs that are much slower than the median of those that are reached alike.
fn outliers(pairs: &[(Rank, Rank, &Pair)]) -> Vec<String> {
    let mut found = Vec::new();
    let mut providers: Vec<&str> =
        pairs.iter().map(|(_, _, pair)| pair.provider.as_str()).collect();
    providers.sort_unstable();
    providers.dedup();
    for provider in providers {
        let alike: Vec<_> = pairs.iter().filter(|(_, _, pair)| pair.provider == provider).collect();
        if alike.len() < PAIRS_MIN {
            continue;
        }
        let usual_us = median(alike.iter().map(|(_, _, pair)| pair.read_us));
        let usual_rate = median(alike.iter().map(|(_, _, pair)| pair.megabytes_per_second));
        for (from, to, pair) in alike {
            if pair.read_us > SLOWER * usual_us {
                found.push(format!(
                    "{from} reads {to} in {:.1} us, the median over {provider} is {usual_us:.1}",
                    pair.read_us
                ));
            }
            if pair.megabytes_per_second * SLOWER < usual_rate {
                found.push(format!(
                    "{from} reads {to} at {:.0} MB/s, the median over {provider} is {usual_rate:.0}",
                    pair.megabytes_per_second
                ));
            }
        }
    }
    found
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One figure of each pair. What does not fit on a screen is left out of the text; it is judged all the same.
fn table(
    size: usize,
    pairs: &[(Rank, Rank, &Pair)],
    title: &str,
    figure: impl Fn(&Pair) -> String,
) -> Vec<String> {
    let shown = size.min(COLUMNS_MAX);
    let left_out =
        if shown < size { format!(" (ranks 0 to {} of {size})", shown - 1) } else { String::new() };
    let mut lines = vec![format!("{title}{left_out}")];
    lines.push((0..shown).fold("     ".to_owned(), |line, column| format!("{line} {column:>8}")));
    for row in 0..shown {
        let mut line = format!("{row:>5}");
        for column in 0..shown {
            let pair =
                pairs.iter().find(|(from, to, _)| from.index() == row && to.index() == column);
            let text = pair.map_or_else(|| "-".to_owned(), |(_, _, pair)| figure(pair));
            line.push_str(&format!(" {text:>8}"));
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn pairs(slow: f64) -> Vec<Measured> {
        let mut all = Vec::new();
        for from in 0..3 {
            for to in (0..3).filter(|&to| to != from) {
                let read_us = if (from, to) == (2, 1) { slow } else { 3.0 };
                let pair = Pair {
                    provider: "verbs".into(),
                    read_us,
                    megabytes_per_second: 9000.0 / read_us,
                };
                all.push((Rank(from), Rank(to), Ok(pair)));
            }
        }
        all
    }

    #[test]
    fn alike_pairs_pass_and_the_matrix_has_every_one() {
        let checks = check(3, &pairs(3.5));
        assert_eq!((checks.len(), checks[0].level), (1, Level::Pass));
        let text = checks[0].details.join("\n");
        assert_eq!(text.matches("3.0").count(), 5, "{text}");
        assert!(text.contains("3.5") && text.contains("2571"), "{text}");
    }

    #[test]
    fn a_pair_that_is_slower_than_the_others_is_named() {
        let checks = check(3, &pairs(9.0));
        assert_eq!(checks[0].level, Level::Warn);
        assert!(
            checks[0].reason.contains("rank 2 reads rank 1 in 9.0 us"),
            "{:?}",
            checks[0].reason
        );
    }

    #[test]
    fn a_pair_that_cannot_read_fails_by_itself() {
        let mut all = pairs(3.0);
        all[0].2 = Err("no READ was answered".into());
        let checks = check(3, &all);
        assert_eq!((checks[0].level, checks[1].level), (Level::Fail, Level::Pass));
        assert!(checks[0].name.contains("rank 0 reads rank 1"), "{:?}", checks[0]);
    }
}
