//! What a sample does with keys between being prepared and being pulled. The one place that knows how rows are brought here.
//!
//! Rows stay at their homes, so they are read when the sample is prepared, by an asynchronous pull.

use std::ops::Range;

use crate::error::Result;
use crate::table::Table;
use crate::worker::{Ticket, Worker};

/// Keys that have been announced.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    ticket: Option<Ticket>,
    values: Vec<f32>,
    /// Values handed out.
    at: usize,
}

impl Ahead {
    /// These keys will be pulled, in this order, from clock `clocks.start` on and before `clocks.end`.
    pub(super) fn announce(
        worker: &mut Worker,
        table: &Table,
        keys: &[u64],
        _clocks: Range<u64>,
    ) -> Result<Self> {
        let ticket = Some(worker.pull_async(table, keys)?);
        Ok(Self { ticket, values: vec![0.0; keys.len() * table.dim()], at: 0 })
    }

    /// Values of the next keys, which are these.
    pub(super) fn pull(
        &mut self,
        worker: &mut Worker,
        table: &Table,
        keys: &[u64],
        out: &mut [f32],
    ) -> Result<()> {
        debug_assert_eq!(keys.len() * table.dim(), out.len(), "a row for each key");
        if let Some(ticket) = self.ticket.take() {
            ticket.wait_into(worker, &mut self.values)?;
        }
        out.copy_from_slice(&self.values[self.at..self.at + out.len()]);
        self.at += out.len();
        Ok(())
    }
}

/// These keys will be pulled in some order, as soon as they are here.
#[expect(clippy::unnecessary_wraps, reason = "announcing may fail")]
pub(super) fn wish(_: &mut Worker, _: &Table, _: &[u64], _clocks: Range<u64>) -> Result<()> {
    // Rows stay where they are, so there is nothing to ask for.
    Ok(())
}
