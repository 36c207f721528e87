//! The operators of a step's relations.
//!
//! For most models a relation's operator is its row as it was pulled. Where it is computed from the
//! row (RotatE's rotations, or a row with dropout), it is computed once a step for all queries, and
//! the sum of their gradients is taken back to the row once.

use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Rows, dropout};
use crate::kge::ModelKind;

#[derive(Debug)]
pub(super) struct Operators {
    model: ModelKind,
    dropout: f32,
    len: usize,
    row_len: usize,
    values: Vec<f32>,
    gradients: Vec<f32>,
    pub(super) masks: Vec<f32>,
}

impl Operators {
    pub(super) fn new(model: ModelKind, dim: usize, dropout: f32) -> Self {
        Self {
            model,
            dropout,
            len: model.operator_len(dim),
            row_len: model.relation_len(dim),
            values: Vec::new(),
            gradients: Vec::new(),
            masks: Vec::new(),
        }
    }

    /// Whether operators are something else than the rows.
    fn computed(&self) -> bool {
        self.model.has_operator() || self.dropout > 0.0
    }

    /// Draws what is dropped in this step, for so many relation rows.
    pub(super) fn plan(&mut self, rows: usize, random: &mut Xoshiro256PlusPlus) {
        if self.dropout > 0.0 {
            self.masks.resize(rows * self.row_len, 0.0);
            dropout::draw(self.dropout, random, &mut self.masks);
        }
    }

    /// Computes the operators of the pulled rows; their gradients start at zero.
    pub(super) fn prepare(&mut self, relations: &mut Rows) {
        relations.start_gradients(0);
        if !self.computed() {
            return;
        }
        let rows = relations.values();
        self.values.resize(rows.len() / self.row_len * self.len, 0.0);
        self.gradients.clear();
        self.gradients.resize(self.values.len(), 0.0);
        if self.dropout > 0.0 {
            for ((value, row), mask) in self.values.iter_mut().zip(rows).zip(&self.masks) {
                *value = row * mask;
            }
            return;
        }
        let operators = self.values.chunks_exact_mut(self.len);
        for (row, operator) in rows.chunks_exact(self.row_len).zip(operators) {
            self.model.operator(row, operator);
        }
    }

    /// The operator of the relation row at `place`.
    #[inline(always)]
    pub(super) fn of<'a>(&'a self, relations: &'a Rows, place: u32) -> &'a [f32] {
        if self.computed() {
            &self.values[place as usize * self.len..][..self.len]
        } else {
            relations.row(place)
        }
    }

    /// The operator of the relation row at `place`, and its gradient to add to.
    #[inline(always)]
    pub(super) fn with_gradient<'a>(
        &'a mut self,
        relations: &'a mut Rows,
        place: u32,
    ) -> (&'a [f32], &'a mut [f32]) {
        if self.computed() {
            let start = place as usize * self.len;
            (&self.values[start..][..self.len], &mut self.gradients[start..][..self.len])
        } else {
            relations.row_and_gradient(place)
        }
    }

    /// Takes the operators' gradients back to the rows.
    pub(super) fn finish(&self, relations: &mut Rows) {
        if !self.computed() {
            return;
        }
        let rows = relations.gradients_mut();
        if self.dropout > 0.0 {
            for ((row, gradient), mask) in rows.iter_mut().zip(&self.gradients).zip(&self.masks) {
                *row += gradient * mask;
            }
            return;
        }
        let operators =
            self.values.chunks_exact(self.len).zip(self.gradients.chunks_exact(self.len));
        for (row, (operator, gradient)) in rows.chunks_exact_mut(self.row_len).zip(operators) {
            self.model.operator_gradient(operator, gradient, row);
        }
    }
}
