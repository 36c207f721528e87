//! The bar of a training run, or plain lines where there is no terminal.

use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use sterna_tasks::kge::Progress;
use sterna_tasks::kge::progress::{EpochEnd, Position};

/// Shows a run on standard error.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        Self(bar)
    }

    fn line(&self, text: &str) {
        // A hidden bar (no terminal) drops what it is given to print.
        if self.0.is_hidden() {
            eprintln!("{text}");
        } else {
            self.0.println(text);
        }
    }
}

impl Progress for Bar {
    fn step(&mut self, at: &Position) {
        if self.0.length() != Some(at.steps) {
            self.0.set_length(at.steps);
        }
        self.0.set_prefix(format!("epoch {}/{}", at.epoch, at.epochs));
        self.0.set_position(at.step);
        let left = Duration::try_from_secs_f64(at.eta_s).unwrap_or_default();
        self.0.set_message(format!(
            "{:.0} triples/s, loss {:.4}, {:#} left",
            at.triples_per_s,
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
            line.push_str(&format!(
                ", validation MRR {:.4}, Hits@10 {:.4}",
                valid.mrr, valid.hits10
            ));
        }
        self.line(&line);
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
