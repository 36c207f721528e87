//! How much memory a training needs, before it takes any.

use std::path::Path;

use super::{Task, TaskError};

/// What a training needs on one node, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Rows of the tables, with optimizer state and headers.
    pub tables: u64,
    /// The copy of the best values, if the training keeps one.
    pub best: u64,
    /// The order of an epoch, a list for each worker.
    pub order: u64,
    /// The data, as far as the task knows.
    pub data: u64,
}

/// Estimates what a job of `nodes` nodes with `workers` workers needs on each node.
///
/// # Errors
/// A table that cannot be made.
pub fn estimate<T: Task>(task: &T, nodes: usize, workers: usize) -> Result<Memory, TaskError> {
    let mut memory = Memory { data: task.data_bytes(), ..Memory::default() };
    for spec in task.tables() {
        let keys = spec.keys().div_ceil(nodes.max(1) as u64);
        memory.tables =
            memory.tables.saturating_add(keys.saturating_mul(spec.bytes_per_key()? as u64));
        if task.run().keeps_best() {
            let row = (size_of::<f32>() * spec.dim()) as u64;
            memory.best = memory.best.saturating_add(keys.saturating_mul(row));
        }
    }
    memory.order = (size_of::<u32>() * task.examples() * workers) as u64;
    Ok(memory)
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.tables, self.best, self.order, self.data].into_iter().fold(0, u64::saturating_add)
    }

    /// Refuses a training whose nodes on this host (`nodes_here`) need more than it has.
    ///
    /// # Errors
    /// [`TaskError::Memory`].
    pub fn check(&self, nodes_here: usize) -> Result<(), TaskError> {
        let Some(available) = available_bytes() else { return Ok(()) };
        let needed = self.total().saturating_mul(nodes_here as u64);
        if needed <= available {
            return Ok(());
        }
        Err(TaskError::Memory { needed_mib: needed >> 20, available_mib: available >> 20 })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{:.1} MiB (rows {:.1}", mib(self.total()), mib(self.tables))?;
        for (name, bytes) in [("best copy", self.best), ("order", self.order), ("data", self.data)]
        {
            if bytes > 0 {
                write!(f, ", {name} {:.1}", mib(bytes))?;
            }
        }
        write!(f, ")")
    }
}

/// What this host, or the control group that holds this process, can still give; none if unknown.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    Some(group_bytes().map_or(free, |group| group.min(free)))
}

/// What the control group allows beyond what it uses.
fn group_bytes() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let number =
        |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::{Memory, TaskError, available_bytes};

    #[test]
    fn what_does_not_fit_is_refused_and_what_fits_is_not() {
        let available = available_bytes().expect("Linux tells");
        assert!(available > 1 << 20);
        let small = Memory { tables: 1 << 20, ..Memory::default() };
        assert!(small.check(1).is_ok());
        let large = Memory { tables: available, ..Memory::default() };
        let error = large.check(2).expect_err("twice what is there");
        assert!(matches!(error, TaskError::Memory { .. }), "{error}");
    }

    #[test]
    fn an_estimate_is_shown_with_its_parts() {
        let memory = Memory { tables: 3 << 20, best: 1 << 20, ..Memory::default() };
        assert_eq!(memory.to_string(), "4.0 MiB (rows 3.0, best copy 1.0)");
    }
}
