//! The trained model as files: embeddings and linear weights by feature, dense parameters by name, names of features.

use super::Clicks;
use crate::ctr::interaction::RowParts;
use crate::ctr::{DENSE, FEATURE};
use crate::dense::Layout;
use crate::task::{Export, TaskError};

/// Writes `embedding`, `linear`, every dense part under its own name, and `feature.tsv` if features have names.
pub(in crate::ctr) fn export(
    clicks: &Clicks,
    layout: &Layout,
    parts: RowParts,
    export: &mut Export<'_, '_>,
) -> Result<(), TaskError> {
    let features = 0..clicks.features as u64;
    if parts.dim > 0 {
        export.matrix("embedding", FEATURE, features.clone(), 0..parts.dim);
    }
    if parts.linear {
        export.matrix("linear", FEATURE, features, parts.dim..parts.row_len());
    }
    layout.export(DENSE, export)?;
    if !clicks.names.is_empty() {
        export.names("feature", clicks.names.iter().map(String::as_str))?;
    }
    Ok(())
}
