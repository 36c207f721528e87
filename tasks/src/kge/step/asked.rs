//! The entity rows that queries are made of, as a matrix where that is needed.
//!
//! RESCAL multiplies all rows asked about one relation with its matrix at once, and dropout changes
//! each use of a row by itself. Both work on copies, one for each query, whose gradients go back to
//! the rows at the end. Without them, queries read the rows where they are.

use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Query, Rows, Step, backward_side, dropout, query};
use crate::kge::model::{Side, add_scaled};
use crate::kge::{ModelKind, product};

#[derive(Debug)]
pub(super) struct Asked {
    gathers: bool,
    row_len: usize,
    dropout: f32,
    /// `2B x D`.
    values: Vec<f32>,
    gradients: Vec<f32>,
    pub(super) masks: Vec<f32>,
}

impl Asked {
    pub(super) fn new(model: ModelKind, row_len: usize, dropout: f32) -> Self {
        Self {
            gathers: model == ModelKind::Rescal || dropout > 0.0,
            row_len,
            dropout,
            values: Vec::new(),
            gradients: Vec::new(),
            masks: Vec::new(),
        }
    }

    /// Whether queries read copies.
    pub(super) fn gathers(&self) -> bool {
        self.gathers
    }

    /// Makes room for so many queries, and draws what is dropped of their rows.
    pub(super) fn plan(&mut self, queries: usize, random: &mut Xoshiro256PlusPlus) {
        if !self.gathers {
            return;
        }
        let len = queries * self.row_len;
        self.values.resize(len, 0.0);
        self.gradients.clear();
        self.gradients.resize(len, 0.0);
        if self.dropout > 0.0 {
            self.masks.resize(len, 0.0);
            dropout::draw(self.dropout, random, &mut self.masks);
        }
    }

    /// The row that query `number` asks about, which is the one at `place`.
    #[inline(always)]
    pub(super) fn row<'a>(&'a self, entities: &'a Rows, number: usize, place: u32) -> &'a [f32] {
        if self.gathers {
            &self.values[number * self.row_len..][..self.row_len]
        } else {
            entities.row(place)
        }
    }

    /// The same, and its gradient to add to.
    #[inline(always)]
    pub(super) fn row_and_gradient<'a>(
        &'a mut self,
        entities: &'a mut Rows,
        number: usize,
        place: u32,
    ) -> (&'a [f32], &'a mut [f32]) {
        if self.gathers {
            let start = number * self.row_len;
            let gradient = &mut self.gradients[start..][..self.row_len];
            (&self.values[start..][..self.row_len], gradient)
        } else {
            entities.row_and_gradient(place)
        }
    }
}

impl Step {
    /// Copies the rows asked about, and drops parts of them.
    #[inline(always)]
    pub(super) fn gather_asked(&mut self) {
        let values = &mut self.asked.values;
        for (number, value) in values.chunks_exact_mut(self.row_len).enumerate() {
            let Query { asked, .. } = query(&self.places, self.reciprocal, number);
            value.copy_from_slice(self.entities.row(asked));
        }
        if self.asked.dropout > 0.0 {
            for (value, mask) in values.iter_mut().zip(&self.asked.masks) {
                *value *= mask;
            }
        }
    }

    /// Carries the copies' gradients to the rows that they are copies of.
    #[inline(always)]
    pub(super) fn return_asked(&mut self) {
        let gradients = &mut self.asked.gradients;
        if self.asked.dropout > 0.0 {
            for (gradient, mask) in gradients.iter_mut().zip(&self.asked.masks) {
                *gradient *= mask;
            }
        }
        for (number, gradient) in gradients.chunks_exact(self.row_len).enumerate() {
            let Query { asked, .. } = query(&self.places, self.reciprocal, number);
            add_scaled(1.0, gradient, self.entities.row_and_gradient(asked).1);
        }
    }

    /// Queries that have their relation's row in common: `W^T x` or `W x` for each `x` of a group.
    pub(super) fn rescal_queries(&mut self) {
        let len = self.row_len;
        for (side, range, relation) in groups(self) {
            let shape = (range.len(), len, len);
            let range = range.start * len..range.end * len;
            let (x, q) = (&self.asked.values[range.clone()], &mut self.queries[range]);
            let w = self.operators.of(&self.relations, relation);
            match side {
                Side::Tail => product::nn(shape, x, w, q),
                Side::Head => product::nt(shape, x, w, q),
            }
        }
    }

    /// Carries the gradients `G` of the queries back: `G W^T` and `X^T G` for the tail, `G W` and
    /// `G^T X` for the head.
    pub(super) fn rescal_gradients(&mut self) {
        let len = self.row_len;
        for (side, range, relation) in groups(self) {
            let count = range.len();
            let range = range.start * len..range.end * len;
            let (x, g) = (&self.asked.values[range.clone()], &self.query_gradients[range.clone()]);
            let dx = &mut self.asked.gradients[range];
            let (w, dw) = self.operators.with_gradient(&mut self.relations, relation);
            match side {
                Side::Tail => {
                    product::nt((count, len, len), g, w, dx);
                    product::tn_add((len, len, count), x, g, dw);
                }
                Side::Head => {
                    product::nn((count, len, len), g, w, dx);
                    product::tn_add((len, len, count), g, x, dw);
                }
            }
        }
    }
}

/// Runs of queries with the same side and relation row.
fn groups(step: &Step) -> Vec<(Side, std::ops::Range<usize>, u32)> {
    let mut groups = Vec::new();
    let mut start = 0;
    for run in step.places.chunk_by(|one, next| one.forward == next.forward) {
        let (range, batch) = (start..start + run.len(), step.places.len());
        start = range.end;
        let backward = range.start + batch..range.end + batch;
        groups.push((Side::Tail, range, run[0].forward));
        groups.push((backward_side(step.reciprocal), backward, run[0].backward));
    }
    groups
}
