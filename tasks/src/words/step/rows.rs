//! The rows that a step works on, at this worker.
//!
//! A step works on a copy of its rows: they are pulled once, trained on one window after the other
//! as if the model were this worker's alone, and what became of them is added to the rows they
//! were copied from. The copy is laid out for vector registers: each row starts at a multiple of
//! 64 bytes.

/// Floats of a cache line.
const LINE: usize = 16;

/// Rows of one table. Buffers grow to the largest step seen and stay.
#[derive(Debug)]
pub struct Rows {
    dim: usize,
    stride: usize,
    count: usize,
    /// Values as they were pulled, then what the step added to them; `dim` each.
    pulled: Vec<f32>,
    /// Values to train on, `stride` each, from the first aligned float on.
    trained: Vec<f32>,
}

impl Rows {
    /// Of this many floats.
    pub(super) fn new(dim: usize) -> Self {
        Self { dim, stride: stride(dim), count: 0, pulled: Vec::new(), trained: Vec::new() }
    }

    /// The buffer for the values of so many rows, to be filled.
    pub fn pull_into(&mut self, count: usize) -> &mut [f32] {
        self.count = count;
        self.pulled.resize(count * self.dim, 0.0);
        &mut self.pulled
    }

    /// What training added to each row.
    #[must_use]
    pub fn added(&self) -> &[f32] {
        &self.pulled
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Lays the pulled values out for training, with `more` rows of zeros behind them.
    pub(super) fn lay_out(&mut self, more: usize) {
        let floats = (self.count + more) * self.stride;
        self.trained.resize(self.trained.len().max(floats + LINE), 0.0);
        let (dim, stride) = (self.dim, self.stride);
        let rows = aligned(&mut self.trained)[..floats].chunks_exact_mut(stride);
        for (row, values) in rows.zip(self.pulled.chunks_exact(dim)) {
            row[..dim].copy_from_slice(values);
            row[dim..].fill(0.0);
        }
        aligned(&mut self.trained)[self.count * stride..floats].fill(0.0);
    }

    /// The rows to train on, from a multiple of 64 bytes on.
    pub(super) fn trained(&mut self) -> &mut [f32] {
        aligned(&mut self.trained)
    }

    /// Ends the training: [`Rows::added`] is then what it did.
    pub(super) fn compare(&mut self) {
        let (dim, stride) = (self.dim, self.stride);
        let rows = aligned(&mut self.trained).chunks_exact(stride);
        for (values, row) in self.pulled.chunks_exact_mut(dim).zip(rows) {
            for (value, &trained) in values.iter_mut().zip(row) {
                *value = trained - *value;
            }
        }
    }
}

/// Floats from one row to the next.
pub(super) const fn stride(dim: usize) -> usize {
    dim.next_multiple_of(LINE)
}

fn aligned(floats: &mut [f32]) -> &mut [f32] {
    let offset = floats.as_ptr().align_offset(LINE * size_of::<f32>());
    // An offset that cannot be had costs speed only.
    if offset < LINE { &mut floats[offset..] } else { floats }
}

#[cfg(test)]
mod tests {
    use super::Rows;

    #[test]
    fn what_training_added_is_told_for_each_row() {
        let mut rows = Rows::new(3);
        rows.pull_into(2).copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        rows.lay_out(1);
        let trained = rows.trained();
        assert_eq!(trained.as_ptr() as usize % 64, 0);
        assert_eq!(trained[16..22], [4.0, 5.0, 6.0, 0.0, 0.0, 0.0]);
        trained[0] += 0.5;
        trained[18] -= 1.0;
        rows.compare();
        assert_eq!(rows.added(), [0.5, 0.0, 0.0, 0.0, 0.0, -1.0]);
    }
}
