//! libibverbs and what belongs to it: found at run time, or told how to have it.

use std::fs;
use std::path::{Path, PathBuf};

use sterna_rdma::verbs::VerbsError;

use super::Plan;
use super::report::{Check, Level};
use super::system::System;

/// Where distributions keep the providers, the drivers' parts in user space.
const PROVIDER_FOLDERS: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu/libibverbs",
    "usr/lib/aarch64-linux-gnu/libibverbs",
    "usr/lib64/libibverbs",
    "usr/lib/libibverbs",
];

/// `missing` is why there are no devices, if there are none.
pub(crate) fn check(system: &System, plan: &Plan, missing: Option<&VerbsError>) -> Vec<Check> {
    // Without any RDMA on the host nothing is wrong, unless it was asked for.
    let level = if plan.wants_verbs { Level::Fail } else { Level::Pass };
    if let Some(error @ (VerbsError::NoLibrary { .. } | VerbsError::OldLibrary { .. })) = missing {
        let has_hardware = !system.names("sys/class/infiniband").is_empty();
        let level = if has_hardware { level.max(Level::Warn) } else { level };
        return vec![from_error("libibverbs", level, error)];
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let found = version(&maps).map_or_else(
        || "loaded".to_owned(),
        |(path, version)| format!("{version} ({})", path.display()),
    );
    let mut checks = vec![Check::pass("libibverbs", found)];
    checks.push(providers(system));
    if let Some(error) = missing {
        let name = match error {
            VerbsError::NoKernelSupport { .. } => "kernel",
            _ => "devices",
        };
        checks.push(from_error(name, level, error));
    }
    checks
}

/// An error's text is "what (why): what to do".
fn from_error(name: &str, level: Level, error: &VerbsError) -> Check {
    let text = error.to_string();
    let (reason, fix) = text.split_once(": ").unwrap_or((text.as_str(), ""));
    let reason = match level {
        Level::Pass => format!("{reason}; jobs use shm within a host and tcp between hosts"),
        _ => reason.to_owned(),
    };
    let fix = (!fix.is_empty()).then(|| fix.to_owned());
    Check { level, fix, ..Check::pass(name, reason) }
}

fn providers(system: &System) -> Check {
    let mut names: Vec<String> = PROVIDER_FOLDERS
        .iter()
        .flat_map(|folder| system.names(folder))
        .filter_map(|name| Some(name.strip_prefix("lib")?.split_once("-rdma")?.0.to_owned()))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Check::warn(
            "providers",
            "none found at the usual places: devices of this host may not be listed",
            "Debian, Ubuntu: apt-get install ibverbs-providers; Fedora, RHEL: dnf install libibverbs",
        );
    }
    Check::pass("providers", names.join(", "))
}

/// The library's file and its version, from the list of what this process has mapped.
fn version(maps: &str) -> Option<(PathBuf, String)> {
    let path = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        Path::new(path).file_name()?.to_str()?.starts_with("libibverbs.so").then_some(path)
    })?;
    // libibverbs.so.1.14.44.0 is interface 1.14 of rdma-core 44.0.
    let numbers: Vec<&str> = path.rsplit_once(".so.")?.1.split('.').collect();
    let version = match numbers.as_slice() {
        [_, _, core @ ..] if !core.is_empty() => format!("rdma-core {}", core.join(".")),
        _ => format!("version {}", numbers.join(".")),
    };
    Some((PathBuf::from(path), version))
}

#[cfg(test)]
mod tests {
    use super::super::system::fixture::Machine;
    use super::*;

    const MAPS: &str = "7f00-7f01 r--p 00000000 fe:01 77   /usr/lib/x86_64-linux-gnu/libc.so.6\n\
        7f02-7f03 r-xp 00000000 fe:01 78   /usr/lib/x86_64-linux-gnu/libibverbs.so.1.14.44.0\n";

    #[test]
    fn the_version_is_that_of_the_file_in_use() {
        let (path, version) = version(MAPS).expect("found");
        assert_eq!(version, "rdma-core 44.0");
        assert!(path.ends_with("libibverbs.so.1.14.44.0"));
        assert_eq!(super::version("nothing of it\n"), None);
    }

    #[test]
    fn what_is_missing_passes_unless_it_is_wanted_and_always_says_what_to_do() {
        let machine =
            Machine::new(&[("usr/lib/x86_64-linux-gnu/libibverbs/libmlx5-rdmav34.so", "")]);
        let plan = |wants_verbs| Plan { wants_verbs, ..Plan::example() };
        for error in [
            VerbsError::NoLibrary { reason: "no such file".into() },
            VerbsError::NoKernelSupport { reason: "not implemented".into() },
            VerbsError::NoDevice,
        ] {
            for (wanted, level) in [(false, Level::Pass), (true, Level::Fail)] {
                let checks = check(&machine.system, &plan(wanted), Some(&error));
                let last = checks.last().expect("a check");
                assert_eq!(last.level, level, "{error}");
                assert!(last.fix.is_some(), "{last:?}");
            }
        }
        let checks = check(&machine.system, &plan(false), Some(&VerbsError::NoDevice));
        assert_eq!(checks[1].reason, "mlx5");
    }

    #[test]
    fn a_device_without_the_library_is_a_warning() {
        let machine = Machine::new(&[("sys/class/infiniband/mlx5_0/node_type", "1: CA")]);
        let error = VerbsError::NoLibrary { reason: "no such file".into() };
        let checks = check(&machine.system, &Plan::example(), Some(&error));
        assert_eq!(checks[0].level, Level::Warn);
    }
}
