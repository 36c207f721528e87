//! Composed updates: what several optimizer steps together do to a row that is somewhere else.
//!
//! A node that steps a copy of a row sends its owner not the gradients but their *composed update*: the difference of
//! the values, and the state's change as an affine map. Maps compose, so many steps are one update:
//!
//! | optimizer | map of the state | values |
//! | --- | --- | --- |
//! | SGD | - | `w += Dw` |
//! | momentum | `m = a m + Dm` | `w += b m + Dw`: exact, the velocity's coasting is in the map |
//! | Adagrad, row-wise | `S += Ds` | `w += Dw` |
//! | FTRL | `z += G - (sqrt(n + Q) - sqrt(n)) / lr * w`, `n += Q` | `w = f(z, n)`, never merged |
//! | Adam | `m = a m + Dm`, `v = c v + Dv`, `t += n` | `w += Dw` |
//!
//! The owner's state is then exactly that of the serial order in which it applies updates, each with its steps
//! consecutive. So are the values for SGD and momentum; for Adagrad and Adam they are sums of steps taken on slightly old
//! state: bounded, not exact. Of FTRL the sums of gradients `G` and of their squares `Q` travel: `n` is exact, `w` is `f(z, n)`
//! at every moment, and `z` is that of the serial order in which the owner takes updates, each as one step of its sums. A copy that
//! is stepped uses the `w` that it had when its update began, so that it is always what the owner will have. Differences are accumulated, never obtained by subtracting states.
//!
//! A key that a node updates without holding a copy has no state to step on. SGD, momentum and FTRL need none; for the others
//! the update keeps up to [`GRADIENTS_MAX`] gradients as they are, each with its learning rate, and the owner steps them.
//!
//! An update lives in a flat block of floats ([`RowShape::block_len`]), so that a pool can hold blocks for any table:
//!
//! ```text
//!  0         1       2    3    4    5..8   8                        8 + map            + (1 + dim) each
//! +---------+-------+----+----+----+------+-----------------------+------------------+---
//! | counts  | steps | a  | b  | c  | 0    | Dw, then Dm|Ds, Dv    | lr, gradient 0   | ..
//! +---------+-------+----+----+----+------+-----------------------+------------------+---
//! counts = gradients:8 | map present:1 (bits of a u32)      on the wire: the header, the map if present, the gradients used
//! ```

mod map;
mod vectors;
mod wire;

use crate::element::Element;
use crate::optimizer::{Optimizer, RowShape};
use crate::rowcopy::RowPtr;

pub use wire::UpdateError;

/// Gradients that may be waiting in an update for a row whose state is not here.
pub const GRADIENTS_MAX: usize = 4;

/// Room for gradients: an update that comes back (Nack) goes before the one that grew meanwhile.
pub const GRADIENTS_ROOM: usize = 2 * GRADIENTS_MAX;

/// Floats of a block's header.
pub const HEADER_LEN: usize = 8;

const COUNTS: usize = 0;
const STEPS: usize = 1;
/// Factors of the affine map: of the first moment or velocity, of the velocity in the values, of the second moment.
const FACTOR_A: usize = 2;
const FACTOR_B: usize = 3;
const FACTOR_C: usize = 4;

const MAP_PRESENT: u32 = 1 << 8;

/// The update holds as many gradients as it may: flush it, or get a copy of the row, before the next push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{GRADIENTS_MAX} gradients wait for a row that is not here")]
pub struct GradientsFull;

impl RowShape {
    /// Number of floats of the map's vectors.
    #[must_use]
    pub const fn map_len(&self) -> usize {
        match self.optimizer {
            Optimizer::Sgd { .. } => self.dim,
            Optimizer::Momentum { .. } | Optimizer::Adagrad { .. } | Optimizer::Ftrl { .. } => {
                2 * self.dim
            }
            Optimizer::RowAdagrad { .. } => self.dim + 1,
            Optimizer::Adam { .. } => 3 * self.dim,
        }
    }

    /// Number of floats of a block that holds an update of this shape.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        HEADER_LEN + self.map_len() + self.behind_map()
    }

    /// Floats behind the map: waiting gradients; of FTRL the values from which the update began, which do not travel.
    const fn behind_map(&self) -> usize {
        match self.optimizer {
            Optimizer::Ftrl { .. } => self.dim,
            _ if self.optimizer.is_linear() => 0,
            _ => GRADIENTS_ROOM * (1 + self.dim),
        }
    }

    /// Length in bytes of the longest update of this shape on the wire.
    #[must_use]
    pub const fn update_bytes_max(&self) -> usize {
        self.block_len() * size_of::<f32>()
    }
}

/// An update in a block of the caller.
#[derive(Debug)]
pub struct Update<'a> {
    shape: &'a RowShape,
    block: &'a mut [f32],
}

impl<'a> Update<'a> {
    /// Starts an empty update in `block`, whatever was in it.
    ///
    /// # Panics
    /// If `block` is shorter than the shape asks for.
    #[must_use]
    pub fn empty(shape: &'a RowShape, block: &'a mut [f32]) -> Self {
        let mut update = Self::in_block(shape, block);
        update.clear();
        update
    }

    /// Goes on with the update that `block` holds.
    ///
    /// # Panics
    /// As [`Update::empty`].
    #[must_use]
    pub fn in_block(shape: &'a RowShape, block: &'a mut [f32]) -> Self {
        let len = shape.block_len();
        assert!(block.len() >= len, "block of {} floats for an update of {len}", block.len());
        Self { shape, block: &mut block[..len] }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.block[..HEADER_LEN].fill(0.0);
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts() == 0
    }

    /// Gradients that wait for the row's state.
    #[must_use]
    pub fn gradients(&self) -> usize {
        (self.counts() & 0xFF) as usize
    }

    /// Adds to the values; the state stays.
    ///
    /// # Panics
    /// If `delta` has another length than the rows' values.
    pub fn add_values(&mut self, delta: &[f32]) {
        assert_eq!(delta.len(), self.shape.dim, "delta does not fit the shape");
        for (sum, &d) in self.map_mut()[..delta.len()].iter_mut().zip(delta) {
            *sum += d;
        }
    }

    /// Takes a gradient for a row that is not here, as one optimizer step.
    ///
    /// # Errors
    /// [`GradientsFull`] when the optimizer needs the row's state and the update holds all the gradients it may; nothing was
    /// taken then.
    ///
    /// # Panics
    /// If `grad` has another length than the rows' values.
    pub fn push_gradient(&mut self, grad: &[f32], lr: f32) -> Result<(), GradientsFull> {
        assert_eq!(grad.len(), self.shape.dim, "gradient does not fit the shape");
        if self.shape.optimizer.is_linear() {
            self.step_linear(grad, lr);
            return Ok(());
        }
        let held = self.gradients();
        if held >= GRADIENTS_MAX {
            return Err(GradientsFull);
        }
        self.put_gradient(held, lr, grad);
        Ok(())
    }

    /// Steps `copy`, a private copy of the row (values and state), and composes the step into the update.
    ///
    /// # Panics
    /// If lengths do not fit the shape, or gradients wait for the state (they come first; see [`Update::settle`]).
    pub fn step_copy(&mut self, copy: &mut [f32], grad: &[f32], lr: f32) {
        // SAFETY: used while `copy` is borrowed.
        self.step_row(unsafe { RowPtr::from_private(copy) }, grad, lr);
    }

    /// The same for a replica in shared memory, under its writer bit.
    ///
    /// # Panics
    /// As [`Update::step_copy`].
    pub fn step_row(&mut self, row: RowPtr, grad: &[f32], lr: f32) {
        assert_eq!(self.gradients(), 0, "gradients wait: settle them on the copy first");
        self.step_noted(row, grad, lr);
    }

    /// Adds to the values of `copy`, a private copy of the row, and of the update.
    ///
    /// # Panics
    /// As [`Update::step_copy`].
    pub fn add_copy(&mut self, copy: &mut [f32], delta: &[f32]) {
        // SAFETY: used while `copy` is borrowed.
        self.add_row(unsafe { RowPtr::from_private(copy) }, delta);
    }

    /// The same for a replica in shared memory, under its writer bit.
    ///
    /// # Panics
    /// As [`Update::step_copy`].
    pub fn add_row(&mut self, row: RowPtr, delta: &[f32]) {
        assert_eq!(self.gradients(), 0, "gradients wait: settle them on the copy first");
        self.add_noted(row, delta);
    }

    /// Once a copy of the row is here: applies the update to it, and turns waiting gradients into composed steps.
    ///
    /// # Panics
    /// If `copy` does not fit the shape.
    pub fn settle(&mut self, copy: &mut [f32]) {
        let shape = self.shape;
        // SAFETY: used while `copy` is borrowed.
        let (values, state) = shape.parts(unsafe { RowPtr::from_private(copy) });
        self.begin_at(values);
        self.apply_map(values, state);
        let held = self.gradients();
        self.set_counts(self.counts() & !0xFF);
        let mut grad = vec![0.0; shape.dim];
        for index in 0..held {
            let lr = self.gradient(index).0;
            grad.copy_from_slice(self.gradient(index).1);
            self.step_copy(copy, &grad, lr);
        }
    }

    /// Applies `later` to a row of which this is the open update, and composes it into this.
    ///
    /// # Panics
    /// As [`Update::put_after`].
    pub fn fold_row(&mut self, row: RowPtr, later: &Update<'_>) {
        let (values, state) = self.shape.parts(row);
        if !self.has_map() {
            self.map_mut();
            self.begin_at(values);
        }
        later.apply_from(values, state, self.begun_at());
        self.put_after(later);
    }

    /// Applies the update to a row: the main copy under its writer bit, or a private copy of a pull.
    ///
    /// # Panics
    /// If `row` does not fit the shape.
    pub fn apply(&self, row: RowPtr) {
        let (values, state) = self.shape.parts(row);
        self.apply_parts(values, state);
    }

    /// The same for values of any element type, and the state that goes with them.
    ///
    /// # Panics
    /// If they do not fit the shape.
    pub fn apply_parts<E: Element>(&self, values: RowPtr<E>, state: RowPtr) {
        self.apply_map(values, state);
        for index in 0..self.gradients() {
            let (lr, grad) = self.gradient(index);
            self.shape.step_parts(values, state, grad, lr);
        }
    }

    /// Applies the update to a private copy of the row.
    ///
    /// # Panics
    /// As [`Update::apply`].
    pub fn apply_private(&self, row: &mut [f32]) {
        // SAFETY: used while `row` is borrowed.
        self.apply(unsafe { RowPtr::from_private(row) });
    }

    /// Puts `earlier` before this update (a flush that was not accepted goes back).
    ///
    /// Values and states of both are composed in that order. If this update already holds composed steps of a copy, gradients
    /// of `earlier` would have to be stepped before them; the caller settles such updates on a copy instead.
    ///
    /// # Panics
    /// If the shapes differ, or more gradients come together than there is room for: an update holds at most
    /// [`GRADIENTS_MAX`] when it is sent, so this takes two Nacks without an Ack, which exchanges one at a time exclude.
    pub fn put_before(&mut self, earlier: &Update<'_>) {
        assert_eq!(self.shape, earlier.shape, "updates of two shapes");
        self.compose_before(earlier);
        let (first, own) = (earlier.gradients(), self.gradients());
        if first == 0 {
            return;
        }
        assert!(first + own <= GRADIENTS_ROOM, "no room for {first} + {own} gradients");
        let stride = 1 + self.shape.dim;
        let start = self.gradient_at(0);
        self.block.copy_within(start..start + own * stride, start + first * stride);
        let from = earlier.gradient_at(0);
        self.block[start..start + first * stride]
            .copy_from_slice(&earlier.block[from..from + first * stride]);
        let gradients = u32::try_from(first + own).expect("at most eight");
        self.set_counts((self.counts() & !0xFF) | gradients);
    }

    /// Puts `later` behind this update: a private copy's, whose row has left meanwhile.
    ///
    /// # Panics
    /// As [`Update::put_before`].
    pub fn put_after(&mut self, later: &Update<'_>) {
        let mut block = later.block.to_vec();
        Update::in_block(self.shape, &mut block).put_before(self);
        self.block.copy_from_slice(&block);
    }

    fn counts(&self) -> u32 {
        self.block[COUNTS].to_bits()
    }

    fn set_counts(&mut self, counts: u32) {
        self.block[COUNTS] = f32::from_bits(counts);
    }

    fn has_map(&self) -> bool {
        self.counts() & MAP_PRESENT != 0
    }

    /// Start of gradient `index` (its learning rate) in the block.
    fn gradient_at(&self, index: usize) -> usize {
        HEADER_LEN + self.shape.map_len() + index * (1 + self.shape.dim)
    }

    fn gradient(&self, index: usize) -> (f32, &[f32]) {
        let at = self.gradient_at(index);
        (self.block[at], &self.block[at + 1..=at + self.shape.dim])
    }

    fn put_gradient(&mut self, index: usize, lr: f32, grad: &[f32]) {
        let at = self.gradient_at(index);
        self.block[at] = lr;
        self.block[at + 1..=at + grad.len()].copy_from_slice(grad);
        let gradients = u32::try_from(index + 1).expect("at most eight");
        self.set_counts((self.counts() & !0xFF) | gradients);
    }
}

#[cfg(test)]
mod tests;
