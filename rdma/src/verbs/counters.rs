//! What a port itself has counted of trouble since the job began, for errors: whether packets were lost on the way, or the peer fell
//! silent, shows there first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Parts of the names of counters that tell of trouble. Names differ by driver: `retry_exceeded_err`, `local_ack_timeout_err`,
/// `out_of_sequence`, `port_rcv_errors`, `rx_icrc_encapsulated`, ..
const TROUBLE: [&str; 9] =
    ["err", "retry", "timeout", "sequence", "discard", "drop", "duplicate", "nak", "link_downed"];

/// Counters named in one message.
const NAMED_MAX: usize = 6;

/// The counters of a port, as they were at first.
#[derive(Debug)]
pub(super) struct PortCounters {
    folders: [PathBuf; 2],
    first: BTreeMap<String, u64>,
}

impl PortCounters {
    /// Those of a port as they are now.
    pub(super) fn new(device: &str, port: u8) -> Self {
        Self::at(
            &Path::new("/sys/class/infiniband").join(device).join("ports").join(port.to_string()),
        )
    }

    fn at(port: &Path) -> Self {
        let folders = ["hw_counters", "counters"].map(|folder| port.join(folder));
        let first = read(&folders);
        Self { folders, first }
    }

    /// `text`, and what has grown since.
    pub(super) fn beside(&self, text: &str) -> String {
        let mut grown: Vec<(u64, String)> = read(&self.folders)
            .into_iter()
            .filter_map(|(name, now)| {
                let more = now.saturating_sub(self.first.get(&name).copied().unwrap_or(0));
                (more > 0).then(|| (more, format!("{name} {more}")))
            })
            .collect();
        grown.sort_by(|a, b| b.cmp(a));
        grown.truncate(NAMED_MAX);
        let grown: Vec<String> = grown.into_iter().map(|(_, text)| text).collect();
        if grown.is_empty() {
            return format!("{text}; this node's port has counted no errors since the job began");
        }
        let grown = grown.join(", ");
        format!("{text}; this node's port has counted since the job began: {grown}")
    }
}

fn read(folders: &[PathBuf]) -> BTreeMap<String, u64> {
    let files =
        folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    files
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let tells = TROUBLE.iter().any(|part| name.contains(part));
            let value = std::fs::read_to_string(file.path()).ok().filter(|_| tells)?;
            Some((name, value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_grown_is_told_most_first_and_the_rest_is_not() {
        let port = std::env::temp_dir().join(format!("sterna-counters-{}", std::process::id()));
        let write = |name: &str, value: &str| {
            let file = port.join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, value).expect("a file");
        };
        write("hw_counters/retry_exceeded_err", "3\n");
        write("hw_counters/sent_pkts", "1\n");
        write("counters/symbol_error", "9\n");
        write("counters/VL15_dropped", "N/A (no PMA)\n");
        let counters = PortCounters::at(&port);
        assert!(counters.beside("lost").ends_with("no errors since the job began"));
        write("hw_counters/retry_exceeded_err", "5\n");
        write("hw_counters/out_of_sequence", "40\n");
        write("hw_counters/sent_pkts", "1000\n");
        let text = counters.beside("lost");
        assert!(text.starts_with("lost; "), "{text}");
        assert!(text.ends_with(": out_of_sequence 40, retry_exceeded_err 2"), "{text}");
        std::fs::remove_dir_all(&port).expect("it was made above");
        let gone = PortCounters::at(&port);
        assert!(gone.beside("lost").contains("no errors"));
    }
}
