//! The distinct rows that a step touches, side by side in memory.

/// Marks a key without a place.
const NOWHERE: u32 = u32::MAX;

/// Distinct keys of one table with their rows and gradients, in the same order.
///
/// Buffers grow to the largest step seen and stay: a step allocates nothing.
#[derive(Debug)]
pub struct Rows {
    row_len: usize,
    keys: Vec<u64>,
    values: Vec<f32>,
    gradients: Vec<f32>,
    /// Place of each key of the table in `keys`, or [`NOWHERE`].
    places: Vec<u32>,
}

impl Rows {
    /// For a table with keys `0..keys` and `row_len` floats a row.
    #[must_use]
    pub fn new(keys: usize, row_len: usize) -> Self {
        Self {
            row_len,
            keys: Vec::new(),
            values: Vec::new(),
            gradients: Vec::new(),
            places: vec![NOWHERE; keys],
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
        for key in self.keys.drain(..) {
            // Keys were indices when they came in.
            self.places[usize::try_from(key).expect("key fits")] = NOWHERE;
        }
    }

    /// The place of `key`, a new one at the end if it had none.
    pub(super) fn place(&mut self, key: u32) -> u32 {
        let place = &mut self.places[key as usize];
        if *place == NOWHERE {
            *place = u32::try_from(self.keys.len()).expect("fewer places than keys");
            self.keys.push(u64::from(key));
        }
        *place
    }

    /// Makes room for the rows of all keys; to be called when all have a place.
    pub(super) fn lay_out(&mut self) {
        let len = self.keys.len() * self.row_len;
        self.values.resize(len, 0.0);
        self.gradients.resize(len, 0.0);
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

    /// Sets the gradients to zero but for the first `count` rows; returns those for writing.
    pub(super) fn start_gradients(&mut self, count: usize) -> &mut [f32] {
        let (head, rest) = self.gradients.split_at_mut(count * self.row_len);
        rest.fill(0.0);
        head
    }
}
