//! Ranks triples with all workers of the job together.

use super::evaluate::{BatchRows, ENTITIES, Quality, Ranker, Tally};
use super::step::backward_row;
use super::{ENTITY, Kge, RELATION, Triple};
use crate::task::{Parameters, Share, TaskError};

/// Triples asked at a time; bounds the memory for their queries.
const TRIPLES_PER_PASS: usize = 8192;
const TRIPLES_PER_PULL: usize = 128;

impl Kge {
    /// The model's quality on these triples. All workers call it with the same ones; each ranks
    /// its share and gets the result of all.
    pub(super) fn rank(
        &self,
        parameters: &mut Parameters<'_>,
        triples: &[Triple],
        share: Share,
    ) -> Result<Quality, TaskError> {
        let mine: Vec<Triple> = share.of(triples).copied().collect();
        let mut tally = Tally::default();
        for triples in mine.chunks(TRIPLES_PER_PASS) {
            let pass = self.rank_share(parameters, triples)?;
            for (sum, part) in tally.0.iter_mut().zip(pass.0) {
                *sum += part;
            }
        }
        parameters.all_reduce_sum(&mut tally.0)?;
        Ok(tally.quality())
    }

    fn rank_share(
        &self,
        parameters: &mut Parameters<'_>,
        triples: &[Triple],
    ) -> Result<Tally, TaskError> {
        let len = parameters.table(ENTITY).dim();
        let mut ranker = Ranker::new(&self.config, &self.filter);
        let mut keys = Vec::new();
        let mut buffers = [const { Vec::new() }; 4];
        for batch in triples.chunks(TRIPLES_PER_PULL) {
            let relations = self.graph.relations.len();
            let backward = |t: &Triple| backward_row(&self.config, relations, t.relation);
            let [heads, tails, forwards, backwards] = &mut buffers;
            let mut pull = |table, rows: &mut Vec<f32>, key: &dyn Fn(&Triple) -> u64| {
                keys.clear();
                keys.extend(batch.iter().map(key));
                rows.resize(keys.len() * len, 0.0);
                parameters.pull(table, &keys, rows)
            };
            pull(ENTITY, heads, &|t| u64::from(t.head))?;
            pull(ENTITY, tails, &|t| u64::from(t.tail))?;
            pull(RELATION, forwards, &|t| u64::from(t.relation))?;
            pull(RELATION, backwards, &|t| u64::from(backward(t)))?;
            let rows = BatchRows { heads, tails, forward: forwards, backward: backwards };
            ranker.ask(batch, rows);
        }
        let entities = parameters.table(ENTITY).keys();
        let [rows, ..] = &mut buffers;
        for first in (0..entities).step_by(ENTITIES) {
            keys.clear();
            keys.extend(first..entities.min(first + ENTITIES as u64));
            rows.resize(keys.len() * len, 0.0);
            parameters.pull(ENTITY, &keys, rows)?;
            ranker.meet(u32::try_from(first).expect("entities are u32"), rows);
        }
        Ok(ranker.tally())
    }
}
