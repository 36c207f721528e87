//! The ports' own counters: what went wrong in the network, since the device came up and during this run.

use std::collections::BTreeMap;
use std::path::Path;

use super::report::Check;
use super::system::System;

/// Counters that should not move, and what to look at when they do.
const BAD: [(&str, &str); 17] = [
    ("out_of_sequence", "packets lost or reordered: switch counters, PFC and ECN at every hop"),
    ("packet_seq_err", "packets lost: switch counters, PFC and ECN at every hop"),
    ("out_of_seq_request", "packets lost or reordered on the way here"),
    ("rcvd_seq_err", "the peer missed packets"),
    ("local_ack_timeout_err", "a peer did not answer: lost packets, a dead peer, a wrong GID"),
    (
        "retry_exceeded_err",
        "a peer never answered: a dead peer, a wrong GID, a firewall on UDP 4791",
    ),
    ("req_cqe_error", "requests ended in errors"),
    ("rnr_nak_retry_err", "the receiver had no buffer posted; credits should prevent it"),
    ("retry_rnr_exceeded_err", "the receiver never had a buffer posted; credits should prevent it"),
    ("out_of_buffer", "packets dropped for want of receive requests"),
    ("symbol_error", "a bad cable or plug"),
    ("link_error_recovery", "the link was retrained: a bad cable or plug"),
    ("link_downed", "the link was lost: a bad cable or plug, or a restarted switch"),
    ("port_rcv_errors", "damaged packets: a bad cable or plug"),
    ("port_xmit_discards", "packets dropped before they were sent: congestion, a slow receiver"),
    ("np_ecn_marked_roce_packets", "packets marked as congested: the network is loaded"),
    ("rp_cnp_handled", "this port was asked to send more slowly: the network is loaded"),
];

/// Counters by "device port counter".
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// As they stand now.
    pub(crate) fn read(system: &System) -> Self {
        let mut all = BTreeMap::new();
        let devices = Path::new("sys/class/infiniband");
        for device in system.names(devices) {
            let ports = devices.join(&device).join("ports");
            for port in system.names(&ports) {
                for (name, _) in BAD {
                    let files = ["hw_counters", "counters"]
                        .map(|folder| ports.join(&port).join(folder).join(name));
                    if let Some(value) = files.iter().find_map(|file| system.number(file)) {
                        all.insert(format!("{device} port {port} {name}"), value);
                    }
                }
            }
        }
        Self(all)
    }

    /// What has moved between `self` and `after`, and what had before.
    pub(crate) fn check(&self, after: &Self) -> Vec<Check> {
        if after.0.is_empty() {
            return Vec::new();
        }
        let moved: Vec<String> = after
            .0
            .iter()
            .filter_map(|(key, value)| {
                let more = value.saturating_sub(*self.0.get(key)?);
                (more > 0).then(|| format!("{key}: {more} more ({})", meaning(key)))
            })
            .collect();
        let old: Vec<String> = self
            .0
            .iter()
            .filter(|&(_, &value)| value > 0)
            .map(|(key, value)| format!("{key}: {value} ({})", meaning(key)))
            .collect();
        let during = if moved.is_empty() {
            Check::pass("counters during these checks", "no error, loss or congestion was counted")
        } else {
            Check::warn(
                "counters during these checks",
                format!("{} moved", moved.len()),
                "see each; rdma statistic show watches them",
            )
            .with_details(moved)
        };
        let before = if old.is_empty() {
            "none of loss, errors or congestion since the devices came up".to_owned()
        } else {
            format!("{} are not zero since the devices came up", old.len())
        };
        vec![during, Check::pass("counters before", before).with_details(old)]
    }
}

fn meaning(key: &str) -> &'static str {
    BAD.iter().find(|(name, _)| key.ends_with(name)).map_or("", |(_, meaning)| meaning)
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    #[test]
    fn counters_that_move_during_the_checks_warn_with_their_meaning() {
        let at = |value: &str| {
            let machine = Machine::new(&[
                ("sys/class/infiniband/rxe0/ports/1/hw_counters/retry_exceeded_err", value),
                ("sys/class/infiniband/rxe0/ports/1/hw_counters/rcvd_pkts", "99999"),
                ("sys/class/infiniband/rxe0/ports/1/counters/symbol_error", "2"),
            ]);
            Counters::read(&machine.system)
        };
        let checks = at("1").check(&at("4"));
        assert_eq!(checks[0].level, Level::Warn);
        assert!(
            checks[0].details[0].contains("3 more") && checks[0].details[0].contains("UDP 4791")
        );
        assert_eq!(checks[1].details.len(), 2);
        let quiet = at("0").check(&at("0"));
        assert_eq!((quiet[0].level, quiet[1].details.len()), (Level::Pass, 1));
        assert!(Counters::default().check(&Counters::default()).is_empty(), "no device");
    }
}
