//! What a sample does with keys before they are pulled. The one place that knows how rows are brought here.

use std::ops::Range;

use crate::error::Result;
use crate::table::Table;
use crate::worker::Worker;

/// These keys will be pulled from clock `clocks.start` on and before `clocks.end`: an intent for each of them once.
pub(super) fn announce(
    worker: &mut Worker,
    table: &Table,
    keys: &[u64],
    clocks: Range<u64>,
) -> Result<()> {
    if worker.is_alone() {
        return Ok(());
    }
    let mut distinct = keys.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    worker.intent(table, &distinct, clocks)
}
