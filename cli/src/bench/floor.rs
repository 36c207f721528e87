//! The physical limit of row access: bare copies and additions of random rows, with prefetch, on the same kind of memory as a
//! table's rows and with the same distances between rows.

use std::ptr::NonNull;
use std::sync::Arc;

use anyhow::Context;
use sterna_kernels::RowPtr;
use sterna_rdma::{Region, RegionId, RegionSpec, Rights};

/// Bytes of rows on their way while one is worked on: where bare copies are fastest.
const AHEAD_BYTES: usize = 8192;

/// Rows without keys, headers or versions.
pub(crate) struct BareRows {
    region: Arc<Region>,
    rows: usize,
    dim: usize,
    stride_bytes: usize,
}

impl BareRows {
    /// `rows` rows of `dim` floats, `stride_bytes` apart; each page touched once.
    pub(crate) fn new(rows: usize, dim: usize, stride_bytes: usize) -> anyhow::Result<Self> {
        assert!(stride_bytes >= dim * size_of::<f32>() && stride_bytes.is_multiple_of(16));
        let bytes = rows.checked_mul(stride_bytes).context("a table of so many bytes")?;
        let spec = RegionSpec { name: "bench-rows", bytes, rights: Rights::Read };
        let region = Arc::new(sterna_rdma::memory::allocate(spec, RegionId(0), false)?);
        let bare = Self { region, rows, dim, stride_bytes };
        for row in 0..rows {
            bare.row(row).fill(1.0);
        }
        Ok(bare)
    }

    fn row(&self, row: usize) -> RowPtr {
        assert!(row < self.rows, "a row of the table");
        // SAFETY: inside the region by the assertion and the constructor's arithmetic; the region lives as long as `self` and is
        // only touched through row pointers.
        unsafe {
            let start: NonNull<u8> = self.region.base().add(row * self.stride_bytes);
            RowPtr::new(start.cast(), self.dim)
        }
    }

    /// Copies rows to `out`, one after the other.
    pub(crate) fn copy(&self, keys: &[u64], out: &mut [f32]) {
        self.each(keys, |index, row| {
            row.copy_out(&mut out[index * self.dim..(index + 1) * self.dim]);
        });
    }

    /// Adds parts of `deltas` to rows.
    pub(crate) fn add(&self, keys: &[u64], deltas: &[f32]) {
        self.each(keys, |index, row| row.add(&deltas[index * self.dim..(index + 1) * self.dim]));
    }

    #[inline]
    fn each(&self, keys: &[u64], mut work: impl FnMut(usize, RowPtr)) {
        let at = |key: u64| self.row(usize::try_from(key).expect("a row of the table"));
        let ahead = (AHEAD_BYTES / self.stride_bytes).clamp(2, 32);
        for &key in keys.iter().take(ahead) {
            at(key).prefetch();
        }
        for (index, &key) in keys.iter().enumerate() {
            if let Some(&next) = keys.get(index + ahead) {
                at(next).prefetch();
            }
            work(index, at(key));
        }
    }
}
