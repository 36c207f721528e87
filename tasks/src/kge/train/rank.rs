//! Ranks triples with all workers of the job together.

use super::Trainer;
use crate::kge::evaluate::{BatchRows, ENTITIES, Quality, Ranker, Tally};
use crate::kge::step::backward_row;
use crate::kge::{KgeError, Triple};

/// Triples asked at a time; bounds the memory for their queries.
const TRIPLES_PER_PASS: usize = 8192;
const TRIPLES_PER_PULL: usize = 128;

impl Trainer<'_, '_> {
    /// The model's quality on these triples. All workers call it with the same ones; each ranks
    /// its share and gets the result of all.
    pub(super) fn rank(&mut self, triples: &[Triple]) -> Result<Quality, KgeError> {
        // From here on all see the same rows, until all have met again in the sum.
        self.worker.barrier()?;
        let mine = triples.iter().skip(self.share.index).step_by(self.share.count);
        let mine: Vec<Triple> = mine.copied().collect();
        let mut tally = Tally::default();
        for triples in mine.chunks(TRIPLES_PER_PASS) {
            let pass = self.rank_share(triples)?;
            for (sum, part) in tally.0.iter_mut().zip(pass.0) {
                *sum += part;
            }
        }
        self.worker.all_reduce_sum(&mut tally.0)?;
        Ok(tally.quality())
    }

    fn rank_share(&mut self, triples: &[Triple]) -> Result<Tally, KgeError> {
        let run = self.run;
        let len = run.entity.dim();
        let mut ranker = Ranker::new(run.config, &run.filter);
        let mut keys = Vec::new();
        let mut buffers = [const { Vec::new() }; 4];
        for batch in triples.chunks(TRIPLES_PER_PULL) {
            let relations = run.graph.relations.len();
            let backward = |t: &Triple| backward_row(run.config, relations, t.relation);
            let [heads, tails, forwards, backwards] = &mut buffers;
            let mut pull = |table, rows: &mut Vec<f32>, key: &dyn Fn(&Triple) -> u64| {
                keys.clear();
                keys.extend(batch.iter().map(key));
                rows.resize(keys.len() * len, 0.0);
                self.worker.pull(table, &keys, rows)
            };
            pull(&run.entity, heads, &|t| u64::from(t.head))?;
            pull(&run.entity, tails, &|t| u64::from(t.tail))?;
            pull(&run.relation, forwards, &|t| u64::from(t.relation))?;
            pull(&run.relation, backwards, &|t| u64::from(backward(t)))?;
            let rows = BatchRows { heads, tails, forward: forwards, backward: backwards };
            ranker.ask(batch, rows);
        }
        let entities = run.entity.keys();
        let [rows, ..] = &mut buffers;
        for first in (0..entities).step_by(ENTITIES) {
            keys.clear();
            keys.extend(first..entities.min(first + ENTITIES as u64));
            rows.resize(keys.len() * len, 0.0);
            self.worker.pull(&run.entity, &keys, rows)?;
            ranker.meet(u32::try_from(first).expect("entities are u32"), rows);
        }
        Ok(ranker.tally())
    }
}
