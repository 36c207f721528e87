//! Where generated data go: a file that has its name once it is whole, or standard output.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use sterna_tasks::generate::Generator;

/// Items between two looks at Ctrl-C and the bar.
const PART: u64 = 4096;
/// Exit code of a run that was stopped by Ctrl-C, as the shell has it.
const STOPPED: u8 = 130;

/// Options of every generator; `#[command(flatten)]` them.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// File to write; standard output if not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes all that the generator makes, with a bar. Ctrl-C ends it and leaves no file behind.
pub(crate) fn write(
    args: &OutputArgs,
    unit: &str,
    generator: &mut impl Generator,
) -> anyhow::Result<ExitCode> {
    let stop = stop_at_interrupt()?;
    let Some(path) = &args.out else {
        return match parts(io::stdout().lock(), unit, generator, &stop) {
            // Who reads has had enough: `| head`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
            done => Ok(code(done.context("writing to standard output")?)),
        };
    };
    Ok(code(file(path, unit, generator, &stop)?))
}

/// Writes several files of a folder, which is made if need be, one after the other, each as [`write()`] does.
pub(crate) fn write_folder(
    folder: &Path,
    unit: &str,
    files: &mut [(&str, impl Generator)],
) -> anyhow::Result<ExitCode> {
    let stop = stop_at_interrupt()?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for (name, generator) in files {
        if !file(&folder.join(name), unit, generator, &stop)? {
            return Ok(code(false));
        }
    }
    Ok(code(true))
}

fn stop_at_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    crate::interrupt::on_interrupt(move || asked.store(true, Ordering::Relaxed))?;
    Ok(stop)
}

/// Writes a file, which has its name once it is whole. Returns whether it is.
fn file(
    path: &Path,
    unit: &str,
    generator: &mut impl Generator,
    stop: &AtomicBool,
) -> anyhow::Result<bool> {
    let unfinished = beside(path);
    let file = File::create(&unfinished);
    let file = file.with_context(|| format!("creating {}", unfinished.display()))?;
    let done = parts(file, unit, generator, stop);
    if !matches!(done, Ok(true)) {
        // Whatever went wrong matters more than the rest of a file.
        let _ = fs::remove_file(&unfinished);
    }
    let whole = done.with_context(|| format!("writing {}", unfinished.display()))?;
    if whole {
        fs::rename(&unfinished, path).with_context(|| format!("naming {}", path.display()))?;
    }
    Ok(whole)
}

/// Returns whether it came to the end.
fn parts(
    mut out: impl Write,
    unit: &str,
    generator: &mut impl Generator,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let bar = ProgressBar::new(generator.total());
    let template = format!("[{{bar:30}}] {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is right");
    bar.set_style(style.progress_chars("=> "));
    let mut part = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        part.clear();
        let count = generator.next_part(PART, &mut part);
        if count == 0 {
            out.flush()?;
            bar.finish_and_clear();
            return Ok(true);
        }
        out.write_all(&part)?;
        bar.inc(count);
    }
    bar.finish_and_clear();
    Ok(false)
}

fn code(whole: bool) -> ExitCode {
    if whole { ExitCode::SUCCESS } else { ExitCode::from(STOPPED) }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}
