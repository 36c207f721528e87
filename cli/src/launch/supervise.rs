//! Starts the ranks, waits for them, and ends them together.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::environment::Job;
use super::output::copy_lines;

/// After a rank failed, the others see a lost peer and end with an error of their own; this is how
/// many seconds they may take before they are told to stop, unless told otherwise.
pub(crate) const GRACE_SECONDS: u64 = 30;

/// How long a rank may take to end after SIGTERM before it is killed.
const GRACE_AFTER_TERM: Duration = Duration::from_secs(30);

/// Where the output of rank 0 goes. The other ranks' output is prefixed unless all is plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio0 {
    /// Straight to the launcher's terminal, so that progress bars work.
    Inherited,
    /// Through the launcher, with the rank in front.
    Prefixed,
    /// Through the launcher, as it is; for all ranks.
    Plain,
}

enum Event {
    Ended { rank: u16, status: io::Result<ExitStatus> },
    Signal(i32),
}

struct RankProcess {
    pid: libc::pid_t,
    running: bool,
}

/// Runs `program` as the ranks of `job` and returns the worst exit code.
pub(crate) fn run(
    job: &Job,
    program: &OsStr,
    arguments: &[OsString],
    stdio0: Stdio0,
    grace: Duration,
) -> anyhow::Result<ExitCode> {
    let (events, inbox) = mpsc::channel();
    forward_signals(events.clone())?;
    let mut ranks = Vec::new();
    let mut copies = Vec::new();
    for rank in 0..job.nodes() {
        // Spawned from this thread, which lives as long as the launcher: the kernel ties the
        // rank's life to the thread that started it.
        let mut child = match spawn(job, rank, program, arguments, stdio0) {
            Ok(child) => child,
            Err(error) => {
                signal_all(&ranks, libc::SIGKILL);
                return Err(error);
            }
        };
        let prefix = (stdio0 != Stdio0::Plain).then(|| format!("[{rank}] "));
        copies.extend(child.stdout.take().map(|s| copy_lines(s, io::stdout, prefix.clone())));
        copies.extend(child.stderr.take().map(|s| copy_lines(s, io::stderr, prefix)));
        let pid = child.id().cast_signed();
        ranks.push(RankProcess { pid, running: true });
        let events = events.clone();
        thread::spawn(move || {
            let status = child.wait();
            let _ = events.send(Event::Ended { rank, status });
        });
    }
    let worst = supervise(&mut ranks, &inbox, grace);
    for copy in copies {
        let _ = copy.join();
    }
    Ok(ExitCode::from(worst))
}

fn forward_signals(events: Sender<Event>) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])
        .context("taking over Ctrl-C")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn spawn(
    job: &Job,
    rank: u16,
    program: &OsStr,
    arguments: &[OsString],
    stdio0: Stdio0,
) -> anyhow::Result<Child> {
    let mut command = job.command(rank, program, arguments);
    command.envs(job.variables(rank)).stdin(Stdio::null());
    if rank > 0 || stdio0 != Stdio0::Inherited {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    // A group of its own: Ctrl-C on the terminal reaches the launcher alone, which forwards it once.
    command.process_group(0);
    tie(&mut command, job.listener_for(rank));
    let run = command.get_program().to_string_lossy().into_owned();
    command.spawn().with_context(|| format!("starting rank {rank}: cannot run {run}"))
}

/// Lets the program of `command` end when this process ends, and inherit `keep`.
pub(crate) fn tie(command: &mut Command, keep: Option<RawFd>) {
    let parent = std::process::id().cast_signed();
    // SAFETY: between fork and exec only async-signal-safe calls are made (prctl, getppid, fcntl);
    // nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above took effect.
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            if let Some(fd) = keep
                && libc::fcntl(fd, libc::F_SETFD, 0) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

/// Waits for all ranks; returns the worst exit code. Once one has failed, the others have `grace` to end.
fn supervise(ranks: &mut [RankProcess], inbox: &Receiver<Event>, grace: Duration) -> u8 {
    let mut worst = 0;
    let mut interrupts = 0;
    let mut asked = None;
    // The next, harder measure against ranks that go on, and when it is due.
    let mut due: Option<(Instant, i32)> = None;
    while ranks.iter().any(|rank| rank.running) {
        let event = match due {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((at, _)) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Ended { rank, status }) => {
                ranks[usize::from(rank)].running = false;
                let code = exit_code(rank, status);
                worst = worst.max(code);
                // A rank that ends as it was asked to is no failure: others may have more to save.
                let was_asked = asked.is_some_and(|signal| i32::from(code) == 128 + signal);
                if code != 0 && !was_asked && due.is_none() {
                    due = Some((Instant::now() + grace, SIGTERM));
                }
            }
            Ok(Event::Signal(signal)) => {
                interrupts += 1;
                asked = asked.or(Some(signal));
                // The first Ctrl-C asks for a clean end, the second insists, the third does not wait.
                let forwarded = match interrupts {
                    1 => signal,
                    2 => SIGTERM,
                    _ => libc::SIGKILL,
                };
                signal_all(ranks, forwarded);
            }
            Err(RecvTimeoutError::Timeout) => {
                let (_, signal) = due.expect("a time-out has a due measure");
                signal_all(ranks, signal);
                due = Some((Instant::now() + GRACE_AFTER_TERM, libc::SIGKILL));
            }
            Err(RecvTimeoutError::Disconnected) => return worst.max(1),
        }
    }
    worst
}

fn signal_all(ranks: &[RankProcess], signal: i32) {
    for rank in ranks.iter().filter(|rank| rank.running) {
        // SAFETY: plain system call; the pid is of a child of ours that has not been waited for
        // as far as this thread knows (a signal to one that just ended is harmless here, since its
        // number is not given away again that soon).
        unsafe { libc::kill(-rank.pid, signal) };
    }
}

/// The code of one rank, with the shell's convention for signals; says why when it is not 0.
fn exit_code(rank: u16, status: io::Result<ExitStatus>) -> u8 {
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            eprintln!("sterna: rank {rank}: cannot learn how it ended: {error}");
            return 1;
        }
    };
    if let Some(signal) = status.signal() {
        eprintln!("sterna: rank {rank} was ended by signal {signal}");
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    let code = status.code().unwrap_or(1);
    if code != 0 {
        eprintln!("sterna: rank {rank} ended with exit code {code}");
    }
    u8::try_from(code).unwrap_or(u8::MAX)
}
