//! The pair test: every two hosts of a job read from each other; rank 0 asks, compares and reports.

use std::io::BufRead as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sterna_rdma::topology::Topology;
use sterna_rdma::{FabricConfig, Rank};

use super::matrix::{self, Pair};
use super::report::Check;
use super::system::System;
use crate::probe::{Party, ReadPlan, Waiting};
use crate::reach::ReachArgs;

/// How long each of a pair's two measurements takes.
const DURATION: Duration = Duration::from_millis(60);

/// Rank 0 looks at its own host first, which takes some time on a slow one.
const LOCAL_LIMIT: Duration = Duration::from_secs(120);

/// A row, and a batch of long ones.
const LATENCY_BYTES: usize = 512;
const BANDWIDTH_BYTES: usize = 64 << 10;
const BANDWIDTH_DEPTH: usize = 16;

/// Up to so many parties every pair is measured; of more, each party measures those at distances of powers of two.
const ALL_PAIRS_MAX: usize = 12;

/// Clocks further apart than this make logs hard to put in order. Nothing in Sterna depends on them.
const CLOCK_APART_MAX: Duration = Duration::from_secs(1);

/// Variables by which ranks find each other: those of a doctor's peers come from it, and it has none.
const OWN_VARIABLES: [&str; 8] = [
    "STERNA_RANK",
    "STERNA_SIZE",
    "STERNA_ADDR",
    "STERNA_LOCAL_RANK",
    "STERNA_TOKEN",
    "STERNA_LISTEN_FD",
    "STERNA_BIND",
    "STERNA_GUEST",
];

/// What rank 0 asks a party.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    About,
    Measure { peer: u16 },
}

/// A party about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    host: String,
    version: String,
    kernel: String,
    /// Settings that should be the same everywhere: `NAME=value`, sorted.
    settings: Vec<String>,
    unix_ms: u64,
}

impl About {
    fn this() -> Self {
        let system = System::this();
        let mut settings: Vec<String> = std::env::vars()
            .filter(|(name, _)| {
                name.starts_with("STERNA_") && !OWN_VARIABLES.contains(&name.as_str())
            })
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        settings.sort_unstable();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            host: system.text("proc/sys/kernel/hostname").unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: system.kernel(),
            settings,
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Is one of the peers of another doctor, which gives the job's token by the standard input.
pub(crate) fn member(reach: &ReachArgs) -> anyhow::Result<()> {
    let mut token = String::new();
    std::io::stdin().lock().read_line(&mut token).context("reading the job's token")?;
    let mut config = FabricConfig::from_variables(&|name| match name {
        "STERNA_TOKEN" => Some(token.trim().to_owned()),
        _ => std::env::var(name).ok(),
    })?;
    reach.apply(&mut config)?;
    serve(config)
}

/// Answers rank 0 until it has finished.
pub(crate) fn serve(mut config: FabricConfig) -> anyhow::Result<()> {
    config.join_timeout = config.join_timeout.max(LOCAL_LIMIT);
    let waiting = waiting(&config);
    let mut party = Party::join(config, waiting)?;
    while let Some((from, question)) = party.serve()? {
        let answer = match serde_json::from_slice(&question).context("a question of rank 0")? {
            Question::About => serde_json::to_vec(&About::this())?,
            Question::Measure { peer } => serde_json::to_vec(&measured(&mut party, Rank(peer)))?,
        };
        party.message(from, &answer)?;
    }
    Ok(())
}

/// The checks of rank 0 of a job that something else has started.
pub(crate) fn of_job(config: FabricConfig) -> Vec<Check> {
    let waiting = waiting(&config);
    match Party::join(config, waiting).and_then(|mut party| check(&mut party)) {
        Ok(checks) => checks,
        Err(error) => vec![failed(&error)],
    }
}

/// When the hosts do not meet, or lose each other.
pub(crate) fn failed(error: &anyhow::Error) -> Check {
    Check::fail(
        "meeting",
        format!("{error:#}"),
        "the same program and token everywhere; a firewall between the hosts (TCP, and UDP 4791 for RoCE); \
         STERNA_ADDR or --address with an address that all can reach",
    )
}

fn waiting(config: &FabricConfig) -> Waiting {
    Waiting::for_parties(&Topology::read(), config.local_size.unwrap_or(1))
}

/// All checks, asked by rank 0.
pub(crate) fn check(party: &mut Party) -> anyhow::Result<Vec<Check>> {
    let mut abouts = vec![About::this()];
    let mut apart = Vec::new();
    for peer in party.peers() {
        let begun = Instant::now();
        let about: About = ask(party, peer, &Question::About)?;
        // The answer was made somewhere between the question and now.
        let doubt = begun.elapsed();
        let distance = about.unix_ms.abs_diff(About::this().unix_ms);
        apart.push((peer, Duration::from_millis(distance).saturating_sub(doubt)));
        abouts.push(about);
    }
    let mut checks =
        vec![met(party, &abouts), versions(&abouts), settings(&abouts), clocks(&apart)];
    let mut pairs = Vec::new();
    for (from, to) in plan(party.size()) {
        let pair = if from == party.rank() {
            measured(party, to)
        } else {
            ask(party, from, &Question::Measure { peer: to.0 })?
        };
        pairs.push((from, to, pair));
    }
    party.stop_all();
    checks.extend(matrix::check(party.size(), &pairs));
    Ok(checks)
}

fn ask<T: for<'de> Deserialize<'de>>(
    party: &mut Party,
    peer: Rank,
    question: &Question,
) -> anyhow::Result<T> {
    party.message(peer, &serde_json::to_vec(question)?)?;
    let answer = party.answer(peer)?;
    serde_json::from_slice(&answer).with_context(|| format!("the answer of {peer}"))
}

/// Measures a peer from here. What goes wrong is part of the answer.
fn measured(party: &mut Party, peer: Rank) -> Result<Pair, String> {
    let mut measure = || -> anyhow::Result<Pair> {
        let plan =
            ReadPlan { peer, bytes: LATENCY_BYTES, depth: 1, duration: DURATION, check: true };
        let single = party.read(&plan)?.spread();
        let plan = ReadPlan { bytes: BANDWIDTH_BYTES, depth: BANDWIDTH_DEPTH, ..plan };
        let batch = party.read(&plan)?.spread();
        Ok(Pair {
            provider: party.fabric().provider(peer).name().to_owned(),
            read_us: single.p50_us,
            megabytes_per_second: batch.megabytes_per_second,
        })
    };
    measure().map_err(|error| format!("{error:#}"))
}

/// Who measures whom.
fn plan(size: usize) -> Vec<(Rank, Rank)> {
    let distances: Vec<usize> = if size <= ALL_PAIRS_MAX {
        (1..size).collect()
    } else {
        std::iter::successors(Some(1), |distance| Some(distance * 2))
            .take_while(|&d| d < size)
            .collect()
    };
    (0..size)
        .flat_map(|from| distances.iter().map(move |distance| (from, (from + distance) % size)))
        .map(|(from, to)| (Rank::from_index(from), Rank::from_index(to)))
        .collect()
}

fn met(party: &Party, abouts: &[About]) -> Check {
    let hosts = (0..).zip(abouts).map(|(rank, about): (u16, _)| {
        format!("rank {rank}: {}, Linux {}, sterna {}", about.host, about.kernel, about.version)
    });
    Check::pass("meeting", party.fabric().describe()).with_details(hosts.collect())
}

fn versions(abouts: &[About]) -> Check {
    if abouts.iter().all(|about| about.version == abouts[0].version) {
        return Check::pass("versions", format!("sterna {} everywhere", abouts[0].version));
    }
    Check::fail(
        "versions",
        "the hosts have different versions of sterna",
        "install the same one everywhere",
    )
}

fn settings(abouts: &[About]) -> Check {
    let mut different: Vec<String> = Vec::new();
    for (rank, about) in abouts.iter().enumerate() {
        for setting in &about.settings {
            if let Some(other) = abouts.iter().position(|other| !other.settings.contains(setting)) {
                different.push(format!("rank {rank} has {setting}, rank {other} does not"));
            }
        }
    }
    if different.is_empty() {
        return Check::pass("settings", "STERNA_* are the same everywhere");
    }
    Check::warn(
        "settings",
        format!("{} of STERNA_* are not the same everywhere", different.len()),
        "export them at all hosts (ssh: in ~/.ssh/environment or the command; Slurm: --export=ALL)",
    )
    .with_details(different)
}

fn clocks(apart: &[(Rank, Duration)]) -> Check {
    let worst = apart.iter().max_by_key(|(_, distance)| *distance);
    match worst {
        Some((rank, distance)) if *distance > CLOCK_APART_MAX => Check::warn(
            "clocks",
            format!(
                "that of {rank} is {:.1} s away: logs cannot be put in order",
                distance.as_secs_f64()
            ),
            "chronyc makestep there, or: timedatectl set-ntp true",
        ),
        _ => Check::pass("clocks", "within a second of each other"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::*;

    fn about(version: &str, settings: &[&str]) -> About {
        About {
            host: "a".into(),
            version: version.into(),
            kernel: "6.1".into(),
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            unix_ms: 0,
        }
    }

    #[test]
    fn differences_between_hosts_are_named() {
        let same = [about("1", &["STERNA_FABRIC=tcp"]), about("1", &["STERNA_FABRIC=tcp"])];
        assert_eq!((versions(&same).level, settings(&same).level), (Level::Pass, Level::Pass));
        let other = [about("1", &["STERNA_FABRIC=tcp"]), about("2", &[])];
        assert_eq!(versions(&other).level, Level::Fail);
        assert_eq!(settings(&other).details, ["rank 0 has STERNA_FABRIC=tcp, rank 1 does not"]);
        let far = [(Rank(1), Duration::from_secs(3)), (Rank(2), Duration::ZERO)];
        assert!(clocks(&far).reason.contains("rank 1 is 3.0 s"));
        assert_eq!(clocks(&far[1..]).level, Level::Pass);
    }

    #[test]
    fn every_ordered_pair_of_few_hosts_is_measured_and_of_many_some_of_each() {
        let few = plan(4);
        assert_eq!(few.len(), 12);
        assert!(few.iter().all(|(from, to)| from != to));
        let many = plan(100);
        assert_eq!(many.len(), 700, "distances 1, 2, 4, .., 64");
        assert!(many.iter().all(|(from, to)| from != to));
    }
}
