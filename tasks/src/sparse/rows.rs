//! Sparse vectors, one after the other.

use std::ops::Range;

/// A matrix in compressed rows of (column, value) pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    columns_count: usize,
    /// Where each row ends in `columns` and `values`, after a leading 0.
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f32>,
}

impl Default for SparseRows {
    fn default() -> Self {
        Self::new(0)
    }
}

impl SparseRows {
    /// No rows yet, of vectors with `columns` entries; rows with larger columns widen it.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns_count: columns, ends: vec![0], columns: Vec::new(), values: Vec::new() }
    }

    /// Drops all rows but keeps the memory; vectors have `columns` entries from here on.
    pub fn clear(&mut self, columns: usize) {
        self.columns_count = columns;
        self.ends.truncate(1);
        self.columns.clear();
        self.values.clear();
    }

    /// Appends a row. Columns may come in any order; one that occurs twice counts with the sum of its values.
    pub fn push(&mut self, row: impl IntoIterator<Item = (u32, f32)>) {
        let first = self.columns.len();
        for (column, value) in row {
            self.columns.push(column);
            self.values.push(value);
        }
        let largest = self.columns[first..].iter().max();
        self.columns_count = largest.map_or(0, |&c| c as usize + 1).max(self.columns_count);
        self.ends.push(self.columns.len());
    }

    /// Appends a row of these columns and values, one for each, inside [`SparseRows::columns`].
    ///
    /// # Panics
    /// If there are not as many of both, or a column lies outside.
    pub fn push_parts(&mut self, columns: &[u32], values: &[f32]) {
        assert_eq!(columns.len(), values.len(), "a value for each column");
        let inside = columns.iter().all(|&column| (column as usize) < self.columns_count);
        assert!(inside, "columns are below {}", self.columns_count);
        self.columns.extend_from_slice(columns);
        self.values.extend_from_slice(values);
        self.ends.push(self.columns.len());
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() - 1
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries of a vector: one more than the largest column, or what [`SparseRows::new`] was told.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns_count
    }

    /// Number of stored pairs of all rows.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.columns.len()
    }

    /// Says that vectors have at least so many entries.
    pub fn widen(&mut self, columns: usize) {
        self.columns_count = self.columns_count.max(columns);
    }

    /// A row's columns and values.
    #[must_use]
    #[inline(always)]
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.range(row);
        (&self.columns[range.clone()], &self.values[range])
    }

    /// Values of all rows, one after the other, for changing them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// Values of all rows, one after the other.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Divides each row by the sum of its absolute values; rows of zeros stay.
    pub fn normalise_rows(&mut self) {
        for row in 0..self.len() {
            let range = self.range(row);
            let values = &mut self.values[range];
            let sum: f32 = values.iter().map(|value| value.abs()).sum();
            if sum > 0.0 {
                values.iter_mut().for_each(|value| *value /= sum);
            }
        }
    }

    fn range(&self, row: usize) -> Range<usize> {
        self.ends[row]..self.ends[row + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::SparseRows;

    #[test]
    fn rows_come_back_as_they_went_in_and_add_up_to_one_when_normalised() {
        let mut rows = SparseRows::new(3);
        rows.push([(4, 1.0), (0, -3.0)]);
        rows.push([]);
        rows.push([(1, 0.5)]);
        assert_eq!((rows.len(), rows.columns(), rows.pairs()), (3, 5, 3));
        assert_eq!(rows.row(0), (&[4, 0][..], &[1.0, -3.0][..]));
        rows.normalise_rows();
        assert_eq!(rows.row(0).1, [0.25, -0.75]);
        assert_eq!(rows.row(1).1, [0.0; 0]);
        assert_eq!(rows.row(2).1, [1.0]);
        rows.push_parts(&[2, 0], &[1.0, 2.0]);
        assert_eq!(rows.row(3), (&[2, 0][..], &[1.0, 2.0][..]));
        rows.clear(2);
        assert_eq!((rows.len(), rows.columns(), rows.pairs()), (0, 2, 0));
    }
}
