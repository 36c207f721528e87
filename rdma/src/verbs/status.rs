//! What a completion's status means: the cause, and what to do, in words.

use super::sys::bindings::*;

/// Why a work request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The name in the specification.
    pub(super) name: &'static str,
    /// What it means.
    pub(super) cause: &'static str,
    /// What to do about it.
    pub(super) remedy: &'static str,
}

impl Failure {
    /// As a sentence for an error message.
    pub(super) fn text(&self) -> String {
        format!("{} ({}): {}", self.cause, self.name, self.remedy)
    }
}

/// Only said once another request of the same queue pair has failed, whose status tells why.
pub(super) fn is_flush(status: ibv_wc_status) -> bool {
    status == IBV_WC_WR_FLUSH_ERR
}

const BUG: &str =
    "this is a fault of Sterna or of the device's driver: report it with this message";
const PATH: &str = "check that both devices are up, that the chosen GIDs are in networks that reach each \
                    other (UDP port 4791 for RoCE), and that the MTU passes; see `sterna doctor`";
const PEER: &str = "the peer's memory or queue pair is gone: look at the peer's own messages";
const DEVICE: &str = "see dmesg and the device's counters";

/// The meaning of a status that is not success.
pub(super) fn failure(status: ibv_wc_status) -> Failure {
    let (name, cause, remedy) = match status {
        IBV_WC_LOC_LEN_ERR => ("LOC_LEN_ERR", "a message did not fit where it was to go", BUG),
        IBV_WC_LOC_QP_OP_ERR => (
            "LOC_QP_OP_ERR",
            "the device could not carry a request out",
            "check that its port is up and still has its address (ip link, ip address), which software \
             devices find out only then; if so, report this message",
        ),
        IBV_WC_LOC_EEC_OP_ERR => ("LOC_EEC_OP_ERR", "an end-to-end context is inconsistent", BUG),
        IBV_WC_LOC_PROT_ERR => {
            ("LOC_PROT_ERR", "memory of this node is not registered as used", BUG)
        }
        IBV_WC_WR_FLUSH_ERR => (
            "WR_FLUSH_ERR",
            "the connection was in error before this request's turn",
            "the first failure of the connection says why",
        ),
        IBV_WC_MW_BIND_ERR => ("MW_BIND_ERR", "a memory window was not bound", BUG),
        IBV_WC_BAD_RESP_ERR => {
            ("BAD_RESP_ERR", "the peer's device sent an unexpected answer", DEVICE)
        }
        IBV_WC_LOC_ACCESS_ERR => {
            ("LOC_ACCESS_ERR", "a peer wrote where this node's memory does not allow it", BUG)
        }
        IBV_WC_REM_INV_REQ_ERR => {
            ("REM_INV_REQ_ERR", "the peer's device takes the request for invalid", BUG)
        }
        IBV_WC_REM_ACCESS_ERR => (
            "REM_ACCESS_ERR",
            "the peer's memory is not registered (any more) for this access",
            PEER,
        ),
        IBV_WC_REM_OP_ERR => {
            ("REM_OP_ERR", "the peer's device could not carry the request out", PEER)
        }
        IBV_WC_RETRY_EXC_ERR => {
            ("RETRY_EXC_ERR", "the peer's device did not acknowledge within all retries", PATH)
        }
        IBV_WC_RNR_RETRY_EXC_ERR => {
            ("RNR_RETRY_EXC_ERR", "the peer had no receive request, which credit rules out", BUG)
        }
        IBV_WC_LOC_RDD_VIOL_ERR => ("LOC_RDD_VIOL_ERR", "a domain of datagrams was violated", BUG),
        IBV_WC_REM_INV_RD_REQ_ERR => {
            ("REM_INV_RD_REQ_ERR", "the peer refused a reliable datagram", BUG)
        }
        IBV_WC_REM_ABORT_ERR => ("REM_ABORT_ERR", "the peer's device aborted the request", PEER),
        IBV_WC_INV_EECN_ERR => ("INV_EECN_ERR", "an end-to-end context has an invalid number", BUG),
        IBV_WC_INV_EEC_STATE_ERR => {
            ("INV_EEC_STATE_ERR", "an end-to-end context is in the wrong state", BUG)
        }
        IBV_WC_FATAL_ERR => ("FATAL_ERR", "the device failed", DEVICE),
        IBV_WC_RESP_TIMEOUT_ERR => ("RESP_TIMEOUT_ERR", "the peer did not answer in time", PATH),
        IBV_WC_TM_ERR => ("TM_ERR", "matching of tags failed", BUG),
        IBV_WC_TM_RNDV_INCOMPLETE => ("TM_RNDV_INCOMPLETE", "a rendezvous was not finished", BUG),
        IBV_WC_GENERAL_ERR => {
            ("GENERAL_ERR", "the device reports a failure of its own kind", DEVICE)
        }
        _ => (
            "unknown status",
            "the device reports a failure that is not in the specification",
            DEVICE,
        ),
    };
    Failure { name, cause, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_the_specification_is_told_with_its_own_name() {
        let statuses = IBV_WC_LOC_LEN_ERR..=IBV_WC_TM_RNDV_INCOMPLETE;
        let mut names: Vec<_> = statuses.clone().map(|status| failure(status).name).collect();
        assert!(!names.contains(&"unknown status"), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), statuses.count());
        assert_eq!(failure(77).name, "unknown status");
        assert!(failure(IBV_WC_RETRY_EXC_ERR).text().contains("4791"));
        assert!(is_flush(IBV_WC_WR_FLUSH_ERR) && !is_flush(IBV_WC_RETRY_EXC_ERR));
    }
}
