//! Ctrl-C: the first one asks, the second one ends the process.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

/// Calls `ask` at the first SIGINT or SIGTERM; at the second the process ends with code 130.
pub(crate) fn on_interrupt(ask: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals.context("taking over Ctrl-C")?;
    std::thread::spawn(move || {
        let mut asked = false;
        for _ in signals.forever() {
            if asked {
                std::process::exit(130);
            }
            asked = true;
            ask();
        }
    });
    Ok(())
}
