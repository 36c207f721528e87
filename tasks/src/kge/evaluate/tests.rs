//! The ranker against ranks computed one by one, as the definition says.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{BatchRows, Filter, Quality, Ranker};
use crate::data::Vocabulary;
use crate::kge::model::{Side, dot};
use crate::kge::step::{backward_side, relation_rows};
use crate::kge::{Graph, KgeConfig, ModelKind, Triple};

const COUNT: u32 = 301;
const RELATIONS: u32 = 4;

fn graph(seed: u64) -> Graph {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut triples = |count| {
        // Few heads and relations, so that most queries have many known answers.
        let mut triple = || Triple {
            head: random.random_range(0..COUNT) / 20,
            relation: random.random_range(0..RELATIONS),
            tail: random.random_range(0..COUNT),
        };
        (0..count).map(|_| triple()).collect::<Vec<_>>()
    };
    Graph {
        name: "random".into(),
        entities: Vocabulary::default(),
        relations: Vocabulary::default(),
        train: triples(700),
        valid: triples(50),
        test: triples(333),
    }
}

/// Rows of small integers: sums are exact in any order, and ties abound.
fn table(rows: usize, len: usize, spread: i8, seed: u64) -> Vec<f32> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..rows * len).map(|_| f32::from(random.random_range(-spread..=spread))).collect()
}

fn gather(table: &[f32], len: usize, keys: impl Iterator<Item = u32>) -> Vec<f32> {
    keys.flat_map(|key| table[key as usize * len..][..len].to_vec()).collect()
}

struct Tables {
    entities: Vec<f32>,
    relations: Vec<f32>,
    len: usize,
}

fn tables(config: &KgeConfig, spread: i8) -> Tables {
    let len = config.model.row_len(config.dim);
    Tables {
        entities: table(COUNT as usize, len, spread, 1),
        relations: table(relation_rows(config, RELATIONS as usize), len, spread, 2),
        len,
    }
}

fn backward_row(config: &KgeConfig, relation: u32) -> u32 {
    if config.reciprocal { relation + RELATIONS } else { relation }
}

fn ranked(config: &KgeConfig, graph: &Graph, tables: &Tables, block: usize) -> Quality {
    let filter = Filter::new(graph);
    let mut ranker = Ranker::new(config, &filter);
    let len = tables.len;
    for batch in graph.test.chunks(64) {
        let entities =
            |keys: fn(&Triple) -> u32| gather(&tables.entities, len, batch.iter().map(keys));
        let relations =
            |keys: &dyn Fn(&Triple) -> u32| gather(&tables.relations, len, batch.iter().map(keys));
        ranker.ask(
            batch,
            BatchRows {
                heads: &entities(|t| t.head),
                tails: &entities(|t| t.tail),
                forward: &relations(&|t| t.relation),
                backward: &relations(&|t| backward_row(config, t.relation)),
            },
        );
    }
    let mut first = 0;
    for rows in tables.entities.chunks(block * len) {
        ranker.meet(first, rows);
        first += (rows.len() / len) as u32;
    }
    ranker.tally().quality()
}

/// Entity by entity, triple by triple.
fn naive(config: &KgeConfig, graph: &Graph, tables: &Tables) -> Quality {
    let len = tables.len;
    let entity = |number: u32| &tables.entities[number as usize * len..][..len];
    let relation = |number: u32| &tables.relations[number as usize * len..][..len];
    let facts: Vec<Triple> =
        [&graph.train, &graph.valid, &graph.test].into_iter().flatten().copied().collect();
    let mut sums = [0.0; 4];
    for triple in &graph.test {
        for side in [Side::Tail, Side::Head] {
            let answered = |answer: u32| match side {
                Side::Tail => Triple { tail: answer, ..*triple },
                Side::Head => Triple { head: answer, ..*triple },
            };
            let (form, asked, r, right) = match side {
                Side::Tail => (Side::Tail, triple.head, triple.relation, triple.tail),
                Side::Head => (
                    backward_side(config.reciprocal),
                    triple.tail,
                    backward_row(config, triple.relation),
                    triple.head,
                ),
            };
            let mut query = vec![0.0; len];
            config.model.query(form, entity(asked), relation(r), &mut query);
            let own = dot(&query, entity(right));
            let (mut higher, mut equal) = (0, 0);
            for other in (0..COUNT).filter(|&e| !facts.contains(&answered(e))) {
                let score = dot(&query, entity(other));
                higher += usize::from(score > own);
                equal += usize::from(score == own);
            }
            let rank = 1.0 + higher as f64 + equal as f64 / 2.0;
            sums[0] += 1.0 / rank;
            for (sum, within) in sums[1..].iter_mut().zip([1.0, 3.0, 10.0]) {
                *sum += f64::from(u8::from(rank <= within));
            }
        }
    }
    let [mrr, hits1, hits3, hits10] = sums.map(|sum| sum / (2 * graph.test.len()) as f64);
    Quality { mrr, hits1, hits3, hits10 }
}

#[test]
fn ranks_are_those_of_the_definition_with_ties_and_without() {
    for (model, reciprocal) in
        [(ModelKind::ComplEx, false), (ModelKind::ComplEx, true), (ModelKind::DistMult, false)]
    {
        for spread in [1, 100] {
            let config = KgeConfig { model, reciprocal, dim: 9, ..KgeConfig::default() };
            let (graph, tables) = (graph(3), tables(&config, spread));
            let expected = naive(&config, &graph, &tables);
            for block in [1, 64, 100, 1000] {
                let found = ranked(&config, &graph, &tables, block);
                assert!((found.mrr - expected.mrr).abs() < 1e-12, "{found:?} {expected:?}");
                assert!((found.hits1 - expected.hits1).abs() < 1e-12);
                assert!((found.hits3 - expected.hits3).abs() < 1e-12);
                assert!((found.hits10 - expected.hits10).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn a_model_that_says_the_same_for_all_is_ranked_in_the_middle() {
    let config = KgeConfig { dim: 3, ..KgeConfig::default() };
    let mut graph = graph(4);
    graph.train.clear();
    graph.valid.clear();
    graph.test = vec![Triple { head: 1, relation: 0, tail: 2 }];
    let tables = tables(&config, 0);
    let quality = ranked(&config, &graph, &tables, 77);
    assert!((quality.mrr - 1.0 / (1.0 + f64::from(COUNT - 1) / 2.0)).abs() < 1e-12);
    assert_eq!(quality.hits10, 0.0);
}

#[test]
fn equal_rows_tie_wherever_they_stand_among_the_entities() {
    for dim in [33, 256] {
        check_that_equal_rows_tie(dim);
    }
}

fn check_that_equal_rows_tie(dim: usize) {
    let config = KgeConfig { dim, ..KgeConfig::default() };
    let mut graph = graph(5);
    graph.train.clear();
    graph.valid.clear();
    graph.test.truncate(40);
    let mut tables = tables(&config, 1);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
    for value in tables.relations.iter_mut().chain(&mut tables.entities) {
        *value = random.random_range(-1.0..1.0);
    }
    // All entities alike: every score must tie, to the last bit, in any block.
    let row = tables.entities[..tables.len].to_vec();
    for other in tables.entities.chunks_exact_mut(tables.len) {
        other.copy_from_slice(&row);
    }
    for block in [1, 7, 64, 301] {
        let quality = ranked(&config, &graph, &tables, block);
        assert_eq!(quality.hits10, 0.0, "block {block}");
        assert!(quality.mrr < 0.01, "block {block}: {}", quality.mrr);
    }
}

#[test]
fn a_model_of_nan_is_ranked_last() {
    let config = KgeConfig { dim: 3, ..KgeConfig::default() };
    let graph = graph(7);
    let mut tables = tables(&config, 5);
    tables.entities.fill(f32::NAN);
    let quality = ranked(&config, &graph, &tables, 64);
    assert!(quality.mrr < 0.02, "{}", quality.mrr);
    assert_eq!(quality.hits10, 0.0);
}
