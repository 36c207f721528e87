//! The distinct rows that a step touches, side by side in memory.

/// Marks a row without a place.
const NOWHERE: u32 = u32::MAX;

/// Distinct rows of one table with their gradients, in the same order.
///
/// A row may be too long for one key of the table: then it lies in a number of *parts*, each under
/// a key of its own, `row * parts` and those that follow.
///
/// Buffers grow to the largest step seen and stay: a step allocates nothing.
#[derive(Debug)]
pub struct Rows {
    row_len: usize,
    parts: usize,
    keys: Vec<u64>,
    values: Vec<f32>,
    gradients: Vec<f32>,
    /// Place of each row among those of the step, or [`NOWHERE`].
    places: Vec<u32>,
}

impl Rows {
    /// For rows `0..rows` of `row_len` floats, each under `parts` keys.
    #[must_use]
    pub fn new(rows: usize, row_len: usize, parts: usize) -> Self {
        Self {
            row_len,
            parts,
            keys: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            places: vec![NOWHERE; rows],
        }
    }

    /// The distinct keys to pull and push.
    #[must_use]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The keys, and the buffer for their rows.
    pub fn pull_into(&mut self) -> (&[u64], &mut [f32]) {
        (&self.keys, &mut self.values)
    }

    /// The keys, and what the step found for each: the sum of its gradients.
    #[must_use]
    pub fn gradients(&self) -> (&[u64], &[f32]) {
        (&self.keys, &self.gradients)
    }

    pub(super) fn clear(&mut self) {
        for key in self.keys.iter().step_by(self.parts) {
            // Rows were indices when they came in.
            self.places[usize::try_from(*key).expect("key fits") / self.parts] = NOWHERE;
        }
        self.keys.clear();
    }

    /// The place of row number `row`, a new one at the end if it had none.
    pub(super) fn place(&mut self, row: u32) -> u32 {
        let place = &mut self.places[row as usize];
        if *place == NOWHERE {
            *place = u32::try_from(self.keys.len() / self.parts).expect("fewer places than rows");
            self.keys.extend(keys_of_row(u64::from(row), self.parts));
        }
        *place
    }

    /// How many rows have a place.
    pub(super) fn count(&self) -> usize {
        self.keys.len() / self.parts
    }

    /// Makes room for all rows; to be called when all have a place.
    pub(super) fn lay_out(&mut self) {
        let len = self.count() * self.row_len;
        self.values.resize(len, 0.0);
        self.gradients.resize(len, 0.0);
    }

    /// All rows, in the order of their keys.
    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// All gradients, in the order of their keys.
    pub(super) fn gradients_mut(&mut self) -> &mut [f32] {
        &mut self.gradients
    }

    /// The first `count` rows.
    pub(super) fn head(&self, count: usize) -> &[f32] {
        &self.values[..count * self.row_len]
    }

    /// The row at `place`.
    #[inline(always)]
    pub(super) fn row(&self, place: u32) -> &[f32] {
        &self.values[place as usize * self.row_len..][..self.row_len]
    }

    /// The row at `place`, and its gradient to add to.
    #[inline(always)]
    pub(super) fn row_and_gradient(&mut self, place: u32) -> (&[f32], &mut [f32]) {
        let start = place as usize * self.row_len;
        (&self.values[start..][..self.row_len], &mut self.gradients[start..][..self.row_len])
    }

    /// Sets the gradients to zero but for the first `count` rows; returns those rows, and their
    /// gradients for writing.
    pub(super) fn start_gradients(&mut self, count: usize) -> (&[f32], &mut [f32]) {
        let (head, rest) = self.gradients.split_at_mut(count * self.row_len);
        rest.fill(0.0);
        (&self.values[..count * self.row_len], head)
    }
}

/// The keys under which a row lies that is stored in so many parts.
pub(in crate::kge) fn keys_of_row(row: u64, parts: usize) -> std::ops::Range<u64> {
    let parts = parts as u64;
    row * parts..(row + 1) * parts
}
