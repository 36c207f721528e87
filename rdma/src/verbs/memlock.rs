//! Whether the memory that is about to be registered fits into this process's limit of locked memory.
//!
//! A device needs its memory to stay where it is, so registered memory counts as locked. The kernel says
//! no more than "out of memory" beyond the limit; here the sum is computed before.

use std::fs;

use super::error::VerbsError;

/// The capability that lifts the limit.
const CAP_IPC_LOCK: u32 = 14;

/// Checks that `bytes` more may be registered.
pub(super) fn check(bytes: u64, what: &str) -> Result<(), VerbsError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    judge(&status, limit(), bytes, what)
}

fn judge(status: &str, limit: Option<u64>, bytes: u64, what: &str) -> Result<(), VerbsError> {
    let Some(limit) = limit else { return Ok(()) };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()
    };
    let kibibytes = |name| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let capabilities = field("CapEff").and_then(|text| u64::from_str_radix(text, 16).ok());
    if capabilities.is_some_and(|all| all >> CAP_IPC_LOCK & 1 == 1) {
        return Ok(());
    }
    // Pinned memory alone counts against the limit of registrations.
    let needed = kibibytes("VmPin") * 1024 + bytes;
    if needed <= limit {
        return Ok(());
    }
    Err(VerbsError::Memlock { bytes, what: what.to_owned(), needed, limit })
}

/// RLIMIT_MEMLOCK in bytes, `None` if there is none.
fn limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call.
    let status = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (status == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tsterna\nVmLck:\t      64 kB\nVmPin:\t    4096 kB\nCapEff:\t0000000000000000\n";

    #[test]
    fn what_is_pinned_already_counts_and_the_message_has_the_sum_and_the_remedy() {
        let limit = Some(8 << 20);
        assert_eq!(judge(STATUS, limit, 4 << 20, "rows"), Ok(()));
        let error = judge(STATUS, limit, (4 << 20) + 1, "rows").expect_err("one byte too many");
        let text = error.to_string();
        for part in ["rows", "8388609", "8388608", "ulimit -l"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn without_a_limit_or_with_the_capability_everything_fits() {
        assert_eq!(judge(STATUS, None, 1 << 50, "rows"), Ok(()));
        let root = STATUS.replace("0000000000000000", "000001ffffffffff");
        assert_eq!(judge(&root, Some(65_536), 1 << 40, "rows"), Ok(()));
    }
}
