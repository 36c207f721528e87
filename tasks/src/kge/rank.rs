//! Ranks triples with all workers of the job together.

use std::ops::Range;

use super::evaluate::{BatchRows, ENTITIES, Quality, Ranker, Tally};
use super::step::keys_of_row;
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
        let mut ranker = Ranker::new(&self.config, &self.filter);
        let mut keys = Vec::new();
        let mut buffers = [const { Vec::new() }; 4];
        for batch in triples.chunks(TRIPLES_PER_PULL) {
            let [heads, tails, forwards, backwards] = &mut buffers;
            let mut pull = |table, rows: &mut Vec<f32>, of: &dyn Fn(&Triple) -> Range<u64>| {
                keys.clear();
                keys.extend(batch.iter().flat_map(of));
                rows.resize(keys.len() * parameters.table(table).dim(), 0.0);
                parameters.pull(table, &keys, rows)
            };
            pull(ENTITY, heads, &|t| keys_of_row(t.head.into(), 1))?;
            pull(ENTITY, tails, &|t| keys_of_row(t.tail.into(), 1))?;
            pull(RELATION, forwards, &|t| self.relation_keys(t)[0].clone())?;
            pull(RELATION, backwards, &|t| self.relation_keys(t)[1].clone())?;
            let rows = BatchRows { heads, tails, forward: forwards, backward: backwards };
            ranker.ask(batch, rows);
        }
        let entities = parameters.table(ENTITY).keys();
        let [rows, ..] = &mut buffers;
        for first in (0..entities).step_by(ENTITIES) {
            keys.clear();
            keys.extend(first..entities.min(first + ENTITIES as u64));
            rows.resize(keys.len() * parameters.table(ENTITY).dim(), 0.0);
            parameters.pull(ENTITY, &keys, rows)?;
            ranker.meet(u32::try_from(first).expect("entities are u32"), rows);
        }
        Ok(ranker.tally())
    }
}
