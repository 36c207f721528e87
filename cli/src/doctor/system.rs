//! The files in which the system describes itself, below a root, so that tests can show other machines.

use std::fs;
use std::path::{Path, PathBuf};

/// `/proc`, `/sys` and the rest of a machine.
#[derive(Debug)]
pub(crate) struct System {
    root: PathBuf,
}

impl System {
    /// This machine.
    pub(crate) fn this() -> Self {
        Self::below(Path::new("/"))
    }

    /// The machine whose files lie below `root`.
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The place of a path without its leading slash.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The content of a file without white space around it.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    pub(crate) fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// What follows `name` on its line.
    pub(crate) fn field(&self, path: impl AsRef<Path>, name: &str) -> Option<String> {
        let text = self.text(path)?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    }

    /// The names in a folder, in order; none if there is no such folder.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// A file of this process's control group (version 2).
    pub(crate) fn group_file(&self, name: &str) -> Option<String> {
        let group = self.field("proc/self/cgroup", "0::")?;
        let group = group.trim_start_matches('/');
        self.text(Path::new("sys/fs/cgroup").join(group).join(name))
    }

    pub(crate) fn kernel(&self) -> String {
        self.text("proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
    }

    /// Major and minor number of the kernel; zeroes if unknown.
    pub(crate) fn kernel_version(&self) -> (u32, u32) {
        let kernel = self.kernel();
        let mut parts = kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        let mut next = || parts.next().flatten().unwrap_or(0);
        (next(), next())
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;

    /// A machine made of files, removed when dropped.
    pub(crate) struct Machine {
        root: PathBuf,
        pub(crate) system: System,
    }

    impl Machine {
        pub(crate) fn new(files: &[(&str, &str)]) -> Self {
            static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let root =
                std::env::temp_dir().join(format!("sterna-doctor-{}-{number}", std::process::id()));
            for (path, content) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
                fs::write(path, content).expect("write a file");
            }
            Self { system: System::below(&root), root }
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn files_fields_and_versions_are_read() {
        let machine = Machine::new(&[
            ("proc/sys/kernel/osrelease", "6.1.0-56-amd64\n"),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("proc/self/status", "Name:\tx\nCapEff:\t0000\n"),
        ]);
        let system = &machine.system;
        assert_eq!(system.kernel_version(), (6, 1));
        assert_eq!(system.group_file("memory.max").as_deref(), Some("max"));
        assert_eq!(system.field("proc/self/status", "CapEff:").as_deref(), Some("0000"));
        assert_eq!(system.names("proc/self"), ["cgroup", "status"]);
        assert!(system.names("nothing").is_empty() && !system.exists("nothing"));
    }
}
