//! One training step: from a batch of triples to one gradient per row.
//!
//! The distinct rows of the pool lie first in the gathered rows, so they are the pool's matrix `M`
//! as they are, and their gradients are the product's result as it is. With the queries `Q`,
//! targets `Y`, and the softmax weights `P`, `p0` of [`super::loss`], three matrix products do
//! almost all of the work:
//!
//! ```text
//! scores  B = Q M^T                2B x N
//! dQ        = P M + (p0 - 1) Y     2B x D
//! dM        = P^T Q                 N x D
//! ```
//!
//! The gradients of all uses of a row are summed, and divided by the batch's size.
//! Buffers are kept from step to step; nothing is allocated once they have grown.

mod rows;

use pulp::{Arch, Simd, WithSimd};

use super::loss::{correction, sampled_softmax};
use super::model::{Side, add_scaled, dot};
use super::{KgeConfig, ModelKind, Triple, product};
pub use rows::Rows;

/// The places of a triple's rows, and which rows its two queries read.
#[derive(Clone, Copy, Debug)]
struct Places {
    head: u32,
    tail: u32,
    /// The relation's row for the tail query.
    forward: u32,
    /// The relation's row for the head query: the same one, or the reciprocal.
    backward: u32,
}

/// Computes steps; one per worker.
#[derive(Debug)]
pub struct Step {
    model: ModelKind,
    row_len: usize,
    reciprocal: bool,
    relation_count: u32,
    entity_count: usize,
    correct: bool,
    lambda_entity: f32,
    lambda_relation: f32,
    arch: Arch,

    /// The entities of this step: the pool's first.
    pub entities: Rows,
    /// The relations of this step.
    pub relations: Rows,

    places: Vec<Places>,
    /// How often each distinct pool entity was drawn.
    draws: Vec<u32>,
    offsets: Vec<f32>,
    /// `2B x D`: the tail queries, then the head queries.
    queries: Vec<f32>,
    /// `2B x N`: scores, then softmax weights.
    scores: Vec<f32>,
    /// `2B x D`.
    query_gradients: Vec<f32>,
    positives: Vec<f32>,
}

impl Step {
    /// For graphs with this many entities and relations.
    #[must_use]
    pub fn new(config: &KgeConfig, entities: usize, relations: usize) -> Self {
        let row_len = config.model.row_len(config.dim);
        Self {
            model: config.model,
            row_len,
            reciprocal: config.reciprocal,
            relation_count: u32::try_from(relations).expect("numbers of relations are u32"),
            entity_count: entities,
            correct: config.correction,
            lambda_entity: config.lambda_entity,
            lambda_relation: config.lambda_relation,
            arch: Arch::new(),
            entities: Rows::new(entities, row_len),
            relations: Rows::new(relation_rows(config, relations), row_len),
            places: Vec::new(),
            draws: Vec::new(),
            offsets: Vec::new(),
            queries: Vec::new(),
            scores: Vec::new(),
            query_gradients: Vec::new(),
            positives: Vec::new(),
        }
    }

    /// Takes a batch and its pool; then [`Self::entities`] and [`Self::relations`] say which rows
    /// to pull.
    ///
    /// `pool` may name an entity more than once: it counts as often.
    ///
    /// # Panics
    /// If the batch or pool is empty, or a number is not of the graph.
    pub fn plan(&mut self, batch: &[Triple], pool: &[u32]) {
        assert!(!batch.is_empty() && !pool.is_empty(), "a step needs triples and a pool");
        self.entities.clear();
        self.relations.clear();
        self.draws.clear();
        for &entity in pool {
            let place = self.entities.place(entity) as usize;
            if place == self.draws.len() {
                self.draws.push(0);
            }
            self.draws[place] += 1;
        }
        self.places.clear();
        for triple in batch {
            let forward = self.relations.place(triple.relation);
            let backward = if self.reciprocal {
                self.relations.place(triple.relation + self.relation_count)
            } else {
                forward
            };
            let (head, tail) = (self.entities.place(triple.head), self.entities.place(triple.tail));
            self.places.push(Places { head, tail, forward, backward });
        }
        self.entities.lay_out();
        self.relations.lay_out();

        let correction = if self.correct { correction(self.entity_count, pool.len()) } else { 0.0 };
        self.offsets.clear();
        #[expect(clippy::cast_precision_loss, reason = "draws of one entity are few")]
        self.offsets.extend(self.draws.iter().map(|&draws| correction + (draws as f32).ln()));
        let queries = 2 * batch.len();
        self.queries.resize(queries * self.row_len, 0.0);
        self.query_gradients.resize(queries * self.row_len, 0.0);
        self.scores.resize(queries * self.draws.len(), 0.0);
        self.positives.resize(queries, 0.0);
    }

    /// Computes the gradients of the planned batch from the pulled rows.
    ///
    /// Returns the sum of the queries' losses, two queries a triple, without the regulariser.
    pub fn gradients(&mut self) -> f64 {
        let arch = self.arch;
        let (queries, pool, row_len) = (self.positives.len(), self.draws.len(), self.row_len);

        arch.dispatch(MakeQueries(self));
        let candidates = self.entities.head(pool);
        product::nt((queries, pool, row_len), &self.queries, candidates, &mut self.scores);
        let loss = arch.dispatch(Softmax(self));
        let candidates = self.entities.head(pool);
        product::nn((queries, row_len, pool), &self.scores, candidates, &mut self.query_gradients);
        let gradients = self.entities.start_gradients(pool);
        product::tn((pool, row_len, queries), &self.scores, &self.queries, gradients);
        self.relations.start_gradients(0);
        arch.dispatch(Scatter(self));
        loss
    }

    /// Fills the queries and the scores of their targets.
    #[inline(always)]
    fn make_queries(&mut self) {
        let (tails, heads) = self.queries.split_at_mut(self.places.len() * self.row_len);
        let (of_tails, of_heads) = self.positives.split_at_mut(self.places.len());
        let tails = tails.chunks_exact_mut(self.row_len).zip(of_tails);
        let heads = heads.chunks_exact_mut(self.row_len).zip(of_heads);
        let backward = backward_side(self.reciprocal);
        for ((places, tail), head) in self.places.iter().zip(tails).zip(heads) {
            let (h, t) = (self.entities.row(places.head), self.entities.row(places.tail));
            self.model.query(Side::Tail, h, self.relations.row(places.forward), tail.0);
            *tail.1 = dot(tail.0, t);
            self.model.query(backward, t, self.relations.row(places.backward), head.0);
            *head.1 = dot(head.0, h);
        }
    }

    /// Turns scores into softmax weights, positive scores into their gradients; sums the losses.
    #[inline(always)]
    fn softmax(&mut self) -> f64 {
        let pool = self.draws.len();
        let targets = self.places.iter().map(|p| p.tail).chain(self.places.iter().map(|p| p.head));
        let scores = self.scores.chunks_exact_mut(pool).zip(&mut self.positives);
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let scale = 1.0 / self.places.len() as f32;
        let mut sum = 0.0;
        for (target, (scores, positive)) in targets.zip(scores) {
            let target = Some(target as usize).filter(|&place| place < pool);
            let (loss, slope) = sampled_softmax(*positive, scores, &self.offsets, target, scale);
            *positive = slope;
            sum += f64::from(loss);
        }
        sum
    }

    /// Carries the queries' gradients to the rows they were made of, and adds the regulariser.
    #[inline(always)]
    fn scatter(&mut self) {
        let (model, batch, len) = (self.model, self.places.len(), self.row_len);
        let backward = backward_side(self.reciprocal);
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let scale = 1.0 / batch as f32;
        let (weight_entity, weight_relation) =
            (scale * self.lambda_entity, scale * self.lambda_relation);
        for (index, places) in self.places.iter().enumerate() {
            let sides = [
                (Side::Tail, index, places.head, places.tail, places.forward),
                (backward, index + batch, places.tail, places.head, places.backward),
            ];
            for (side, query, asked, target, relation) in sides {
                let range = query * len..(query + 1) * len;
                let slope = self.positives[query];
                let (row, gradient) = self.entities.row_and_gradient(target);
                add_scaled(slope, &self.queries[range.clone()], gradient);
                let query_gradient = &mut self.query_gradients[range];
                add_scaled(slope, row, query_gradient);
                model.n3(row, weight_entity, gradient);
                let (x, dx) = self.entities.row_and_gradient(asked);
                let (r, dr) = self.relations.row_and_gradient(relation);
                model.query_gradient(side, x, r, query_gradient, dx, dr);
            }
            let (r, dr) = self.relations.row_and_gradient(places.forward);
            model.n3(r, weight_relation, dr);
            if self.reciprocal {
                let (r, dr) = self.relations.row_and_gradient(places.backward);
                model.n3(r, weight_relation, dr);
            }
        }
    }
}

// The element-wise parts, compiled once for each instruction set that the machine may have. They
// are types because a closure's body would not be inlined into the code that is compiled so.
struct MakeQueries<'a>(&'a mut Step);
struct Softmax<'a>(&'a mut Step);
struct Scatter<'a>(&'a mut Step);

impl WithSimd for MakeQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.make_queries();
    }
}

impl WithSimd for Softmax<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        self.0.softmax()
    }
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.scatter();
    }
}

/// Rows of the relation table: two a relation if it has a reciprocal.
#[must_use]
pub const fn relation_rows(config: &KgeConfig, relations: usize) -> usize {
    if config.reciprocal { 2 * relations } else { relations }
}

/// The row of the relation table that the head query of `relation` reads.
pub(super) fn backward_row(config: &KgeConfig, relations: usize, relation: u32) -> u32 {
    if config.reciprocal {
        relation + u32::try_from(relations).expect("numbers of relations are u32")
    } else {
        relation
    }
}

/// The form of the head query: the tail form of the inverse relation, if that has a row.
pub(super) const fn backward_side(reciprocal: bool) -> Side {
    if reciprocal { Side::Tail } else { Side::Head }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers, and f64 kept as f32")]
mod tests;
