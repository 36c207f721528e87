//! The bar of a training run, or plain lines where there is no terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use sterna_tasks::task::{EpochEnd, Position, Progress};

/// Between two looks of the bar; steps of some tasks take microseconds.
const REDRAW: Duration = Duration::from_millis(50);

/// Shows a run on standard error.
pub(crate) struct Bar {
    bar: ProgressBar,
    drawn: Option<Instant>,
}

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        Self { bar, drawn: None }
    }

    fn line(&self, text: &str) {
        // A hidden bar (no terminal) drops what it is given to print.
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }
}

impl Progress for Bar {
    fn step(&mut self, at: &Position) {
        if self.bar.is_hidden() || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        if self.bar.length() != Some(at.examples) {
            self.bar.set_length(at.examples);
        }
        self.bar.set_prefix(format!("epoch {}/{}", at.epoch, at.epochs));
        self.bar.set_position(at.done);
        let left = Duration::try_from_secs_f64(at.eta_s).unwrap_or_default();
        self.bar.set_message(format!(
            "{:.0} {}/s, loss {:.4}, {:#} left",
            at.units_per_s,
            at.unit,
            at.loss,
            HumanDuration(left)
        ));
    }

    fn epoch(&mut self, end: &EpochEnd) {
        let mut line = format!(
            "epoch {:>3}/{}: loss {:.4}, {:.1} s",
            end.epoch, end.epochs, end.loss, end.seconds
        );
        if let Some(valid) = &end.valid {
            line.push_str(&format!(", validation {valid}"));
        }
        self.line(&line);
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
