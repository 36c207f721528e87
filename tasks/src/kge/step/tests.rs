//! The step against its definition: the loss written out triple by triple in `f64`, and finite
//! differences of it.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Step, backward_side, relation_rows};
use crate::kge::model::{Side, dot};
use crate::kge::{KgeConfig, ModelKind, Triple};

const ENTITIES: usize = 12;
const RELATIONS: usize = 3;

/// A batch whose triples share rows with each other and with the pool, which repeats an entity.
const POOL: [u32; 7] = [4, 9, 4, 1, 11, 0, 4];

fn batch() -> Vec<Triple> {
    let triple = |head, relation, tail| Triple { head, relation, tail };
    vec![triple(0, 0, 1), triple(1, 0, 2), triple(4, 2, 5), triple(3, 2, 3), triple(0, 0, 1)]
}

fn config(model: ModelKind, reciprocal: bool) -> KgeConfig {
    KgeConfig { model, reciprocal, dim: 5, ..KgeConfig::default() }
}

fn table(rows: usize, row_len: usize, seed: u64) -> Vec<f64> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..rows * row_len).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// The mean over the batch of its queries' losses and regularisers, by the recipe's words.
fn objective(config: &KgeConfig, entities: &[f64], relations: &[f64]) -> (f64, f64) {
    let len = config.model.row_len(config.dim);
    let entity = |number: u32| &entities[number as usize * len..][..len];
    let relation = |number: u32| &relations[number as usize * len..][..len];
    let correction = ((ENTITIES - 1) as f64 / POOL.len() as f64).ln();
    let (mut losses, mut norms) = (0.0, 0.0);
    for triple in batch() {
        let inverse =
            if config.reciprocal { triple.relation + RELATIONS as u32 } else { triple.relation };
        let sides = [
            (Side::Tail, triple.head, triple.relation, triple.tail),
            (backward_side(config.reciprocal), triple.tail, inverse, triple.head),
        ];
        for (side, asked, r, target) in sides {
            let mut q = vec![0.0; len];
            config.model.query(side, entity(asked), relation(r), &mut q);
            let positive = dot(&q, entity(target));
            let pool = POOL.iter().filter(|&&drawn| drawn != target);
            let others: f64 = pool.map(|&e| (dot(&q, entity(e)) + correction).exp()).sum();
            losses += (positive.exp() + others).ln() - positive;
        }
        let norm = |row: &[f64]| config.model.n3(row, 0.0, &mut vec![0.0; len]);
        let (le, lr) = (f64::from(config.lambda_entity), f64::from(config.lambda_relation));
        norms += le * (norm(entity(triple.head)) + norm(entity(triple.tail)));
        norms += lr * norm(relation(triple.relation));
        if config.reciprocal {
            norms += lr * norm(relation(inverse));
        }
    }
    (losses, norms)
}

fn value(config: &KgeConfig, entities: &[f64], relations: &[f64]) -> f64 {
    let (losses, norms) = objective(config, entities, relations);
    (losses + norms) / batch().len() as f64
}

/// Runs the step on these tables; gradients come back laid out as the tables are.
fn run(
    step: &mut Step,
    config: &KgeConfig,
    tables: [&[f64]; 2],
    batch: &[Triple],
) -> (f64, [Vec<f64>; 2]) {
    let len = config.model.row_len(config.dim);
    step.plan(batch, &POOL);
    for (rows, table) in [&mut step.entities, &mut step.relations].into_iter().zip(tables) {
        let (keys, values) = rows.pull_into();
        for (key, row) in keys.iter().zip(values.chunks_exact_mut(len)) {
            for (value, &wide) in row.iter_mut().zip(&table[*key as usize * len..]) {
                *value = wide as f32;
            }
        }
    }
    let loss = step.gradients();
    let mut found = tables.map(|table| vec![0.0; table.len()]);
    for (rows, found) in [&step.entities, &step.relations].into_iter().zip(&mut found) {
        let (keys, gradients) = rows.gradients();
        for (key, row) in keys.iter().zip(gradients.chunks_exact(len)) {
            for (found, &narrow) in found[*key as usize * len..].iter_mut().zip(row) {
                *found += f64::from(narrow);
            }
        }
    }
    (loss, found)
}

#[test]
fn gradients_of_a_step_are_those_of_finite_differences() {
    for model in [ModelKind::ComplEx, ModelKind::DistMult] {
        for reciprocal in [false, true] {
            let config = config(model, reciprocal);
            let len = model.row_len(config.dim);
            let mut tables =
                [table(ENTITIES, len, 1), table(relation_rows(&config, RELATIONS), len, 2)];
            let mut step = Step::new(&config, ENTITIES, RELATIONS);
            let (loss, found) = run(&mut step, &config, [&tables[0], &tables[1]], &batch());
            let (expected, _) = objective(&config, &tables[0], &tables[1]);
            assert!((loss - expected).abs() < 1e-4, "loss {loss}, expected {expected}");
            let delta = 1e-5;
            for which in 0..2 {
                for k in 0..tables[which].len() {
                    let kept = tables[which][k];
                    tables[which][k] = kept + delta;
                    let above = value(&config, &tables[0], &tables[1]);
                    tables[which][k] = kept - delta;
                    let below = value(&config, &tables[0], &tables[1]);
                    tables[which][k] = kept;
                    let expected = (above - below) / (2.0 * delta);
                    let found = found[which][k];
                    assert!(
                        (found - expected).abs() < 2e-5,
                        "{model:?}, reciprocal {reciprocal}, table {which}, {k}: {found}, {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_leaves_nothing_behind_for_the_next_one() {
    let config = config(ModelKind::ComplEx, false);
    let len = config.model.row_len(config.dim);
    let tables = [table(ENTITIES, len, 1), table(RELATIONS, len, 2)];
    let tables = [&tables[0][..], &tables[1][..]];
    let fresh = run(&mut Step::new(&config, ENTITIES, RELATIONS), &config, tables, &batch());
    let mut used = Step::new(&config, ENTITIES, RELATIONS);
    let mut longer = batch();
    longer.extend((0..9).map(|n| Triple { head: n, relation: 1, tail: n + 2 }));
    run(&mut used, &config, tables, &longer);
    assert_eq!(fresh, run(&mut used, &config, tables, &batch()));
}

#[test]
fn each_row_is_pulled_and_pushed_once_and_the_pool_comes_first() {
    let config = config(ModelKind::ComplEx, true);
    let mut step = Step::new(&config, ENTITIES, RELATIONS);
    step.plan(&batch(), &POOL);
    assert_eq!(step.entities.keys(), [4, 9, 1, 11, 0, 2, 5, 3]);
    assert_eq!(step.relations.keys(), [0, 3, 2, 5]);
}
