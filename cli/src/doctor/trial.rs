//! The self-test: two parties in this process read from and write to each other over each provider, and what arrives is compared.

use std::time::Duration;

use sterna_rdma::verbs::Wish;
use sterna_rdma::{FabricConfig, ProviderChoice, Rank};

use super::Plan;
use super::report::{Check, Level};
use crate::probe::{EchoPlan, Party, ReadPlan, Spread, in_one_process};

/// How long each operation is tried.
const DURATION: Duration = Duration::from_millis(60);

/// A READ of this size takes a few microseconds on any network card.
const SMALL_BYTES: usize = 512;

/// Median of a small READ over a network card above which something is wrong with it.
const HARDWARE_READ_US_MAX: f64 = 10.0;

/// READs as (bytes, READs at a time): single ones of three sizes, and batches of 16 as one chain.
const READS: [(usize, usize); 4] = [(64, 1), (SMALL_BYTES, 1), (64 << 10, 1), (SMALL_BYTES, 16)];

/// Records as (bytes, records at a time): one that is sent inline, one that is not, a long one, and several at once.
const RECORDS: [(usize, usize); 4] = [(32, 1), (4 << 10, 1), (128 << 10, 1), (SMALL_BYTES, 16)];

/// What was found over one provider.
struct Found {
    /// How the parties reached each other.
    described: String,
    lines: Vec<String>,
    small_read: Spread,
}

/// `config` says which device verbs goes over, if one is forced; `hardware` says whether verbs goes over a network card; `None` without any device.
pub(crate) fn check(plan: &Plan, config: &FabricConfig, hardware: Option<bool>) -> Vec<Check> {
    let trial = |name, hardware| trial(name, &config.rdma, hardware);
    let mut checks = vec![trial("shm", None), trial("tcp", None)];
    if hardware.is_some() || plan.wants_verbs {
        checks.push(trial("verbs", hardware));
    }
    checks
}

fn trial(name: &'static str, wish: &Wish, hardware: Option<bool>) -> Check {
    let outcome = ProviderChoice::parse(name)
        .map_err(anyhow::Error::from)
        .and_then(|choice| in_one_process(choice, wish, run));
    let found = match outcome {
        Ok(found) => found,
        Err(error) => return Check::fail(name, format!("{error:#}"), remedy(name)),
    };
    judge(name, hardware, found)
}

fn run(party: &mut Party) -> anyhow::Result<Found> {
    let peer = Rank(1);
    let mut lines = Vec::new();
    let mut small_read = Spread::default();
    for (bytes, depth) in READS {
        let plan = ReadPlan { peer, bytes, depth, duration: DURATION, check: true };
        let spread = party.read(&plan)?.spread();
        if (bytes, depth) == (SMALL_BYTES, 1) {
            small_read = spread;
        }
        lines.push(line("READ", bytes, depth, &spread));
    }
    for (bytes, depth) in RECORDS {
        let plan = EchoPlan { peer, bytes, depth, duration: DURATION };
        lines.push(line("record", bytes, depth, &party.echo(&plan)?.spread()));
    }
    let stream = party.stream(peer, 64 << 10, DURATION)?.spread();
    lines.push(format!("records in one direction: {:.0} MB/s", stream.megabytes_per_second));
    Ok(Found { described: party.fabric().describe(), lines, small_read })
}

fn line(operation: &str, bytes: usize, depth: usize, spread: &Spread) -> String {
    format!(
        "{operation:<6} {bytes:>6} bytes x{depth:<2}: p50 {:.2}  p99 {:.2}  p99.9 {:.1}  max {:.1} us  ({} tried)",
        spread.p50_us, spread.p99_us, spread.p999_us, spread.max_us, spread.count
    )
}

fn judge(name: &str, hardware: Option<bool>, found: Found) -> Check {
    let Found { described, lines, small_read } = found;
    let text = format!("every byte arrived as it was sent; {described}");
    let check = match hardware {
        Some(true) if small_read.p50_us > HARDWARE_READ_US_MAX => Check::warn(
            name,
            format!(
                "right, but a READ of {SMALL_BYTES} bytes takes {:.1} us, where network cards take 2 to 5",
                small_read.p50_us
            ),
            "the slot, the IOMMU and the NUMA domain above; power saving of the CPUs and of PCIe (ASPM)",
        ),
        Some(false) => {
            Check::pass(name, format!("{text} (in software: the times say nothing of RDMA)"))
        }
        _ => Check::pass(name, text),
    };
    debug_assert!(check.level < Level::Fail);
    check.with_details(lines)
}

fn remedy(name: &str) -> &'static str {
    match name {
        "shm" => {
            "--fabric tcp works without; a container's seccomp profile may forbid memfd_create, or its limit of memory be too low"
        }
        "tcp" => "ip link set lo up; a firewall rule on the interface lo",
        _ => {
            "the checks of devices, ports and limits above; dmesg | tail; --fabric tcp works without"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_providers_that_every_host_has_pass_with_their_distributions() {
        for name in ["shm", "tcp"] {
            let check = trial(name, &Wish::default(), None);
            assert_eq!(check.level, Level::Pass, "{check:?}");
            assert_eq!(check.details.len(), READS.len() + RECORDS.len() + 1);
            assert!(check.reason.contains(&format!("{name} to 1")), "{check:?}");
        }
    }

    #[test]
    fn a_slow_network_card_warns_and_software_is_not_judged_by_its_speed() {
        let found = || Found {
            described: "verbs to 1".into(),
            lines: vec!["x".into()],
            small_read: Spread { p50_us: 40.0, ..Spread::default() },
        };
        assert_eq!(judge("verbs", Some(true), found()).level, Level::Warn);
        let software = judge("verbs", Some(false), found());
        assert_eq!(software.level, Level::Pass);
        assert!(software.reason.contains("software"));
    }
}
