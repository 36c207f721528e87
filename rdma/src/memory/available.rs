//! Refuses what cannot be had: shared memory is given out page by page at first use, and a machine
//! that runs out then kills a process instead of returning an error.

use std::fs;

use crate::error::FabricError;

/// Smaller requests are not worth reading files for.
const CHECKED_FROM_BYTES: usize = 16 << 20;

/// An error if `bytes` for `what` are more than the machine has left or the control group may ever have.
pub(super) fn check(bytes: usize, what: &str) -> Result<(), FabricError> {
    if bytes < CHECKED_FROM_BYTES {
        return Ok(());
    }
    let out =
        |reason: String| Err(FabricError::OutOfMemory { bytes, what: what.to_owned(), reason });
    if let Some(left) = machine_bytes()
        && bytes as u64 > left
    {
        return out(format!(
            "this machine has {} MiB left; use fewer keys, smaller rows or more nodes",
            left >> 20
        ));
    }
    if let Some(limit) = group_bytes()
        && bytes as u64 > limit
    {
        return out(format!("the control group may use {} MiB: raise memory.max", limit >> 20));
    }
    Ok(())
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line[name.len()..].split_whitespace().next()?.parse().ok()
    };
    Some((kib("MemAvailable:")? + kib("SwapFree:").unwrap_or(0)) * 1024)
}

fn group_bytes() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = fs::read_to_string(format!("/sys/fs/cgroup/{group}/memory.max")).ok()?;
    limit.trim().parse().ok()
}
