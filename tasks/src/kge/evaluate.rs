//! Filtered ranks of the right answers among all entities.
//!
//! For each triple two queries are asked: which tail, which head. The rank of the right answer is
//! 1 + the candidates with a higher score + half of those with the same score (the mean over all
//! ways to order ties), where other known answers do not count as candidates. Quality is the mean
//! over both queries of all triples: MRR of `1/rank`, and Hits@k of `rank <= k`.
//!
//! [`Ranker`] holds the queries of one worker's share and meets the entities block by block, so
//! no one needs the whole entity table, and a block's scores are counted while they are in cache.
//! Equal rows must give equal scores, or a tie would not be seen as one. How a product adds up may
//! depend on its shape, so all products have the same one: blocks are filled up with zeros, and a
//! right answer's own score comes from such a product too.

use pulp::{Arch, Simd, WithSimd};
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::model::Side;
use super::score::Scorer;
use super::step::backward_side;
use super::{KgeConfig, ModelKind, Triple};

/// Queries of a product: few enough for the scores to stay in cache.
const QUERIES: usize = 128;

/// Entities that meet the queries at a time: the most that [`Ranker::meet`] takes.
pub const ENTITIES: usize = 1024;

/// How good a model is: means over all queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean of `1/rank`.
    pub mrr: f64,
    /// Share of queries with rank 1.
    pub hits1: f64,
    /// Share of queries with a rank of at most 3.
    pub hits3: f64,
    /// Share of queries with a rank of at most 10.
    pub hits10: f64,
}

impl From<Quality> for crate::task::Quality {
    fn from(quality: Quality) -> Self {
        Self::of([
            ("mrr", quality.mrr),
            ("hits1", quality.hits1),
            ("hits3", quality.hits3),
            ("hits10", quality.hits10),
        ])
    }
}

/// Sums over queries, to be added up over workers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally(pub [f64; 5]);

impl Tally {
    fn count(&mut self, rank: f64) {
        let [reciprocal, hits1, hits3, hits10, queries] = &mut self.0;
        *reciprocal += 1.0 / rank;
        for (hits, within) in [(hits1, 1.0), (hits3, 3.0), (hits10, 10.0)] {
            *hits += f64::from(u8::from(rank <= within));
        }
        *queries += 1.0;
    }

    /// The means; zeros if nothing was ranked.
    #[must_use]
    pub fn quality(&self) -> Quality {
        let [reciprocal, hits1, hits3, hits10, queries] = self.0;
        let mean = |sum: f64| if queries > 0.0 { sum / queries } else { 0.0 };
        Quality {
            mrr: mean(reciprocal),
            hits1: mean(hits1),
            hits3: mean(hits3),
            hits10: mean(hits10),
        }
    }
}

/// One query: what it looks for, and what was counted so far.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    /// Known answers, each a fact with the answer last, in rising order.
    known: &'a [[u32; 3]],
    /// The right answer, if `known` does not list it.
    unlisted: Option<u32>,
    score: f32,
    higher: u32,
    not_lower: u32,
}

/// The rows of a batch of triples, each `batch x` the length of a row of its table.
#[derive(Clone, Copy, Debug)]
pub struct BatchRows<'a> {
    /// Rows of the heads.
    pub heads: &'a [f32],
    /// Rows of the tails.
    pub tails: &'a [f32],
    /// Relation rows of the tail queries.
    pub forward: &'a [f32],
    /// Relation rows of the head queries: the same ones, or the reciprocals.
    pub backward: &'a [f32],
}

/// Ranks the right answers of a share of the triples.
#[derive(Debug)]
pub struct Ranker<'a> {
    model: ModelKind,
    backward: Side,
    row_len: usize,
    relation_len: usize,
    filter: &'a Filter,
    arch: Arch,
    scorer: Scorer,
    /// The operator of the relation at hand.
    operator: Vec<f32>,
    queries: Vec<f32>,
    asked: Vec<Asked<'a>>,
    /// [`QUERIES`] x [`ENTITIES`].
    scores: Vec<f32>,
    filled_queries: Vec<f32>,
    filled_entities: Vec<f32>,
}

impl<'a> Ranker<'a> {
    /// A ranker without queries.
    #[must_use]
    pub fn new(config: &KgeConfig, filter: &'a Filter) -> Self {
        Self {
            model: config.model,
            backward: backward_side(config.reciprocal),
            row_len: config.model.row_len(config.dim),
            relation_len: config.model.relation_len(config.dim),
            filter,
            arch: Arch::new(),
            scorer: Scorer::new(config.model.form()),
            operator: vec![0.0; config.model.operator_len(config.dim)],
            queries: Vec::new(),
            asked: Vec::new(),
            scores: vec![0.0; QUERIES * ENTITIES],
            filled_queries: Vec::new(),
            filled_entities: Vec::new(),
        }
    }

    /// Adds both queries of each triple of a batch.
    ///
    /// # Panics
    /// If a buffer does not hold one row per triple.
    pub fn ask(&mut self, batch: &[Triple], rows: BatchRows<'_>) {
        let sides = [
            (Side::Tail, Side::Tail, rows.heads, rows.forward, rows.tails),
            (Side::Head, self.backward, rows.tails, rows.backward, rows.heads),
        ];
        for (side, form, asked, relations, targets) in sides {
            let (start, len) = (self.queries.len(), self.row_len);
            self.queries.resize(start + batch.len() * len, 0.0);
            let queries = &mut self.queries[start..];
            self.arch.dispatch(MakeQueries {
                model: self.model,
                side: form,
                asked,
                relations,
                row_len: len,
                relation_len: self.relation_len,
                operator: &mut self.operator,
                queries,
            });
            let blocks = queries.chunks(QUERIES * len).zip(targets.chunks(QUERIES * len));
            let mut own_scores = Vec::with_capacity(batch.len());
            for (queries, targets) in blocks {
                let queries = filled(queries, QUERIES * len, &mut self.filled_queries);
                let targets = filled(targets, ENTITIES * len, &mut self.filled_entities);
                let shape = (QUERIES, ENTITIES, len);
                self.scorer.scores(shape, queries, targets, &mut self.scores);
                own_scores.extend(self.scores.iter().step_by(ENTITIES + 1));
            }
            for (&triple, score) in batch.iter().zip(own_scores) {
                let known = self.filter.known(side, triple);
                let answer = if side == Side::Tail { triple.tail } else { triple.head };
                let listed = known.binary_search_by_key(&answer, |fact| fact[2]).is_ok();
                let unlisted = (!listed).then_some(answer);
                self.asked.push(Asked { known, unlisted, score, higher: 0, not_lower: 0 });
            }
        }
    }

    /// Counts the entities from number `first` on, whose rows these are.
    ///
    /// # Panics
    /// If there are more than [`ENTITIES`].
    pub fn meet(&mut self, first: u32, rows: &[f32]) {
        let (len, count) = (self.row_len, rows.len() / self.row_len);
        assert!(count <= ENTITIES, "{count} entities in a block");
        let rows = filled(rows, ENTITIES * len, &mut self.filled_entities);
        let blocks = self.queries.chunks(QUERIES * len);
        for (queries, asked) in blocks.zip(self.asked.chunks_mut(QUERIES)) {
            let queries = filled(queries, QUERIES * len, &mut self.filled_queries);
            self.scorer.scores((QUERIES, ENTITIES, len), queries, rows, &mut self.scores);
            self.arch.dispatch(Meet { asked, first, scores: &self.scores, count });
        }
    }

    /// Sums up the ranks; all entities must have been met once.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for asked in &self.asked {
            let equal = asked.not_lower - asked.higher;
            tally.count(1.0 + f64::from(asked.higher) + f64::from(equal) / 2.0);
        }
        tally
    }
}

/// `rows` with zeros up to `len`: itself if it is as long, else a copy in `scratch`.
fn filled<'r>(rows: &'r [f32], len: usize, scratch: &'r mut Vec<f32>) -> &'r [f32] {
    if rows.len() == len {
        return rows;
    }
    scratch.clear();
    scratch.extend_from_slice(rows);
    scratch.resize(len, 0.0);
    scratch
}

// Compiled once for each instruction set that the machine may have.
struct MakeQueries<'b> {
    model: ModelKind,
    side: Side,
    asked: &'b [f32],
    relations: &'b [f32],
    row_len: usize,
    relation_len: usize,
    operator: &'b mut [f32],
    queries: &'b mut [f32],
}

impl WithSimd for MakeQueries<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let len = self.row_len;
        let relations = self.relations.chunks_exact(self.relation_len);
        let rows = self.asked.chunks_exact(len).zip(relations);
        for (query, (x, r)) in self.queries.chunks_exact_mut(len).zip(rows) {
            if self.model.has_operator() {
                self.model.operator(r, self.operator);
                self.model.query(self.side, x, self.operator, query);
            } else {
                self.model.query(self.side, x, r, query);
            }
        }
    }
}

/// A block of scores, the first `count` of each query's row.
struct Meet<'b, 'a> {
    asked: &'b mut [Asked<'a>],
    first: u32,
    scores: &'b [f32],
    count: usize,
}

impl WithSimd for Meet<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (asked, scores) in self.asked.iter_mut().zip(self.scores.chunks_exact(ENTITIES)) {
            asked.meet(self.first, &scores[..self.count]);
        }
    }
}

impl Asked<'_> {
    #[inline(always)]
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a NaN must count as higher")]
    fn meet(&mut self, first: u32, scores: &[f32]) {
        let own = self.score;
        let (mut higher, mut not_lower) = (0_u32, 0_u32);
        for &score in scores {
            // Written so that a score that is no number makes the rank worse, never better.
            higher += u32::from(!(score <= own));
            not_lower += u32::from(!(score < own));
        }
        let last = first + u32::try_from(scores.len()).expect("a block of entities");
        let start = self.known.partition_point(|fact| fact[2] < first);
        let known = self.known[start..].iter().map(|fact| fact[2]).take_while(|&e| e < last);
        let unlisted = self.unlisted.filter(|entity| (first..last).contains(entity));
        for entity in known.chain(unlisted) {
            let score = scores[(entity - first) as usize];
            higher -= u32::from(!(score <= own));
            not_lower -= u32::from(!(score < own));
        }
        self.higher += higher;
        self.not_lower += not_lower;
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers, and f64 kept as f32")]
mod tests;
