//! The other party of a pair on this host: this program again, as rank 1.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::launch::{self, Job};

/// How long the process may take to end after its work.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A process of its own that is rank 1 of a job whose rank 0 is this process. It ends with this value.
#[derive(Debug)]
pub(crate) struct Second(Child);

impl Second {
    /// Starts `sterna ARGUMENTS` as rank 1 of `job`, over the provider of this name.
    pub(crate) fn start(job: &Job, fabric: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(job.variables(1)).env("STERNA_FABRIC", fabric);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        launch::tie(&mut command, None);
        Ok(Self(command.spawn().context("starting the second process")?))
    }

    /// Waits for its end, after the work.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + END_LIMIT;
        loop {
            if let Some(status) = self.0.try_wait().context("waiting for the second process")? {
                ensure!(status.success(), "the second process ended with {status}");
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the second process did not end in {END_LIMIT:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
