//! One training step: from a batch of triples to one gradient per row.
//!
//! The distinct rows of the pool lie first in the gathered rows, so they are the pool's matrix `M`
//! as they are, and their gradients are the block's result as it is. With the queries `Q` and
//! targets `Y`, a step is
//!
//! ```text
//! queries      Q = f(entities asked, relations)             2B x D
//! scores       a_i = score(q_i, y_i),  B = score(Q, M)      2B, 2B x N
//! loss         dL/da, dL/dB                                 by query
//! gradients    dQ, dM of the block;  dQ, dY of the pairs    2B x D, N x D
//! rows         dQ back to entities asked and relations
//! ```
//!
//! For models with dot products the block is three matrix products, which do almost all of the
//! work. RESCAL's queries and their gradients are products too, one for each relation of the batch:
//! that is why the batch is sorted by relation.
//!
//! The gradients of all uses of a row are summed, and divided by the batch's size.
//! Buffers are kept from step to step; nothing is allocated once they have grown.

mod asked;
mod dropout;
mod operators;
mod rows;

use pulp::{Arch, Simd, WithSimd};
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::loss::Loss;
use super::model::{Side, l2};
use super::score::{Form, Scorer};
use super::{KgeConfig, ModelKind, Regularizer, Triple};
use asked::Asked;
use operators::Operators;
pub use rows::Rows;
pub(super) use rows::keys_of_row;

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

/// What a query is made of and looks for: places of rows.
#[derive(Clone, Copy, Debug)]
struct Query {
    side: Side,
    asked: u32,
    relation: u32,
    target: u32,
}

/// Computes steps; one per worker.
#[derive(Debug)]
pub struct Step {
    model: ModelKind,
    form: Form,
    row_len: usize,
    reciprocal: bool,
    relation_count: u32,
    regularizer: Regularizer,
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
    asked: Asked,
    operators: Operators,
    scorer: Scorer,
    loss: Loss,
    /// `2B x D`: the tail queries, then the head queries.
    queries: Vec<f32>,
    /// `2B x N`: scores, then their gradients.
    scores: Vec<f32>,
    /// `2B x D`.
    query_gradients: Vec<f32>,
    /// `2B`: scores of the targets, then their gradients.
    positives: Vec<f32>,
}

impl Step {
    /// For graphs with this many entities and relations.
    #[must_use]
    pub fn new(config: &KgeConfig, entities: usize, relations: usize) -> Self {
        let (model, dim) = (config.model, config.dim);
        let row_len = model.row_len(dim);
        Self {
            model,
            form: model.form(),
            row_len,
            reciprocal: config.reciprocal,
            relation_count: u32::try_from(relations).expect("numbers of relations are u32"),
            regularizer: config.regularizer,
            lambda_entity: config.lambda_entity,
            lambda_relation: config.lambda_relation,
            arch: Arch::new(),
            entities: Rows::new(entities, row_len, 1),
            relations: Rows::new(
                relation_rows(config, relations),
                model.relation_len(dim),
                model.relation_parts(dim),
            ),
            places: Vec::new(),
            draws: Vec::new(),
            asked: Asked::new(model, row_len, config.dropout_entity),
            operators: Operators::new(model, dim, config.dropout_relation),
            scorer: Scorer::new(model.form()),
            loss: Loss::new(config, entities),
            queries: Vec::new(),
            scores: Vec::new(),
            query_gradients: Vec::new(),
            positives: Vec::new(),
        }
    }

    /// Takes a batch and its pool; then [`Self::entities`] and [`Self::relations`] say which rows
    /// to pull.
    ///
    /// `pool` may name an entity more than once: it counts as often. `seed` decides what dropout
    /// drops.
    ///
    /// # Panics
    /// If the batch or pool is empty, or a number is not of the graph.
    pub fn plan(&mut self, batch: &[Triple], pool: &[u64], seed: u64) {
        assert!(!batch.is_empty() && !pool.is_empty(), "a step needs triples and a pool");
        self.entities.clear();
        self.relations.clear();
        self.draws.clear();
        for &entity in pool {
            let entity = u32::try_from(entity).expect("entities are u32");
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
        // Stable, so that the same batch gives the same sums.
        self.places.sort_by_key(|places| places.forward);
        self.entities.lay_out();
        self.relations.lay_out();

        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let queries = 2 * batch.len();
        self.asked.plan(queries, &mut random);
        self.operators.plan(self.relations.count(), &mut random);
        self.loss.prepare(&self.draws);
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
        let shape = (self.positives.len(), self.draws.len(), self.row_len);

        self.operators.prepare(&mut self.relations);
        if self.asked.gathers() {
            arch.dispatch(GatherAsked(self));
        }
        if self.model == ModelKind::Rescal {
            self.rescal_queries();
        }
        arch.dispatch(MakeQueries(self));
        let candidates = self.entities.head(shape.1);
        self.scorer.scores(shape, &self.queries, candidates, &mut self.scores);
        let loss = arch.dispatch(Losses(self));
        let (candidates, gradients) = self.entities.start_gradients(shape.1);
        self.scorer.gradients(
            shape,
            [&self.queries, candidates],
            &mut self.scores,
            [&mut self.query_gradients, gradients],
        );
        arch.dispatch(Scatter(self));
        if self.model == ModelKind::Rescal {
            self.rescal_gradients();
        }
        if self.asked.gathers() {
            arch.dispatch(ReturnAsked(self));
        }
        self.operators.finish(&mut self.relations);
        loss
    }

    /// The query with this number: first all tail queries, then all head queries.
    #[inline(always)]
    fn query(&self, number: usize) -> Query {
        query(&self.places, self.reciprocal, number)
    }

    /// Fills the queries, if that is not done yet, and the scores of their targets.
    #[inline(always)]
    fn make_queries(&mut self) {
        let len = self.row_len;
        for number in 0..self.positives.len() {
            let Query { side, asked, relation, target } = self.query(number);
            let q = &mut self.queries[number * len..][..len];
            if self.model != ModelKind::Rescal {
                let x = self.asked.row(&self.entities, number, asked);
                let r = self.operators.of(&self.relations, relation);
                self.model.query(side, x, r, q);
            }
            self.positives[number] = self.form.pair(q, self.entities.row(target));
        }
    }

    /// Turns scores, those of the targets too, into their gradients; sums the losses.
    #[inline(always)]
    fn losses(&mut self) -> f64 {
        let pool = self.draws.len();
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let scale = 1.0 / self.places.len() as f32;
        let mut sum = 0.0;
        for (number, scores) in self.scores.chunks_exact_mut(pool).enumerate() {
            let target = query(&self.places, self.reciprocal, number).target as usize;
            let target = Some(target).filter(|&place| place < pool);
            let positive = self.positives[number];
            let (loss, slope) = self.loss.of_query(positive, scores, target, scale);
            self.positives[number] = slope;
            sum += f64::from(loss);
        }
        sum
    }

    /// Adds the gradients of the targets' scores and of the regulariser; carries the queries'
    /// gradients to what they were made of, but for what [`Self::rescal_gradients`] does.
    #[inline(always)]
    fn scatter(&mut self) {
        let (model, len) = (self.model, self.row_len);
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let scale = 1.0 / self.places.len() as f32;
        let (of_entity, of_relation) = (scale * self.lambda_entity, scale * self.lambda_relation);
        for number in 0..self.positives.len() {
            let Query { side, asked, relation, target } = self.query(number);
            let range = number * len..(number + 1) * len;
            let (q, dq) = (&self.queries[range.clone()], &mut self.query_gradients[range]);
            let (y, dy) = self.entities.row_and_gradient(target);
            self.form.pair_gradient(q, y, self.positives[number], dq, dy);
            match self.regularizer {
                Regularizer::None => {}
                Regularizer::N3 => {
                    model.n3(y, of_entity, dy);
                }
                Regularizer::L2 => {
                    l2(y, of_entity, dy);
                }
                Regularizer::Dura => {
                    l2(y, of_entity, dy);
                    l2(q, of_relation, dq);
                }
            }
            if model != ModelKind::Rescal {
                let (x, dx) = self.asked.row_and_gradient(&mut self.entities, number, asked);
                let (r, dr) = self.operators.with_gradient(&mut self.relations, relation);
                model.query_gradient(side, x, r, dq, dx, dr);
            }
            // Once a triple, if its two queries read the same row.
            if model.regularizes_relations() && (self.reciprocal || number < self.places.len()) {
                let (r, dr) = self.relations.row_and_gradient(relation);
                match self.regularizer {
                    Regularizer::N3 => {
                        model.n3(r, of_relation, dr);
                    }
                    Regularizer::L2 => {
                        l2(r, of_relation, dr);
                    }
                    Regularizer::None | Regularizer::Dura => {}
                }
            }
        }
    }
}

#[inline(always)]
fn query(places: &[Places], reciprocal: bool, number: usize) -> Query {
    if let Some(places) = places.get(number) {
        let &Places { head, tail, forward, .. } = places;
        return Query { side: Side::Tail, asked: head, relation: forward, target: tail };
    }
    let Places { head, tail, backward, .. } = places[number - places.len()];
    let side = backward_side(reciprocal);
    Query { side, asked: tail, relation: backward, target: head }
}

// The element-wise parts, compiled once for each instruction set that the machine may have. They
// are types because a closure's body would not be inlined into the code that is compiled so.
struct GatherAsked<'a>(&'a mut Step);
struct MakeQueries<'a>(&'a mut Step);
struct Losses<'a>(&'a mut Step);
struct Scatter<'a>(&'a mut Step);
struct ReturnAsked<'a>(&'a mut Step);

impl WithSimd for GatherAsked<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.gather_asked();
    }
}

impl WithSimd for MakeQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.make_queries();
    }
}

impl WithSimd for Losses<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        self.0.losses()
    }
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.scatter();
    }
}

impl WithSimd for ReturnAsked<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.return_asked();
    }
}

/// Rows of relations: two a relation if it has a reciprocal.
#[must_use]
pub const fn relation_rows(config: &KgeConfig, relations: usize) -> usize {
    if config.reciprocal { 2 * relations } else { relations }
}

/// The row that the head query of `relation` reads.
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
