//! The step against its definition: the loss written out triple by triple in `f64`, and finite
//! differences of it.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Step, backward_side, relation_rows};
use crate::kge::model::Side;
use crate::kge::score::Form;
use crate::kge::{KgeConfig, LossKind, ModelKind, Regularizer, Triple};

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

/// What dropout leaves of rows, by query and by relation row; ones without dropout.
struct Masks {
    asked: Vec<f64>,
    relations: Vec<f64>,
}

impl Masks {
    /// Those that a step drew in its plan.
    fn of(step: &Step, config: &KgeConfig) -> Self {
        let wide = |mask: &[f32]| mask.iter().copied().map(f64::from).collect::<Vec<_>>();
        let len = config.model.relation_len(config.dim);
        let mut relations = vec![1.0; relation_rows(config, RELATIONS) * len];
        for (key, mask) in step.relations.keys().iter().zip(step.operators.masks.chunks(len)) {
            relations[*key as usize * len..][..len].copy_from_slice(&wide(mask));
        }
        let mut asked = wide(&step.asked.masks);
        asked.resize(2 * batch().len() * config.model.row_len(config.dim), 1.0);
        Self { asked, relations }
    }
}

/// `ln(1 + exp(x))`
fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

/// A query's loss, by the definitions. `weights` holds those of the self-adversarial loss from the
/// first time on.
fn loss(config: &KgeConfig, positive: f64, pool: &[f64], weights: &mut Vec<f64>) -> f64 {
    let margin = f64::from(config.margin);
    let count = POOL.len() as f64;
    match config.loss {
        LossKind::Softmax => {
            let correction =
                if config.correction { ((ENTITIES - 1) as f64 / count).ln() } else { 0.0 };
            let others: f64 = pool.iter().map(|score| (score + correction).exp()).sum();
            (positive.exp() + others).ln() - positive
        }
        LossKind::Logistic => {
            let negatives = pool.iter().map(|score| softplus(score + margin));
            softplus(-positive - margin) + negatives.sum::<f64>() / count
        }
        LossKind::SelfAdversarial => {
            if weights.is_empty() {
                weights.extend(pool.iter().map(|b| (f64::from(config.temperature) * b).exp()));
                let sum: f64 = weights.iter().sum();
                weights.iter_mut().for_each(|weight| *weight /= sum);
            }
            let negatives = pool.iter().zip(&*weights).map(|(b, w)| w * softplus(b + margin));
            softplus(-positive - margin) + negatives.sum::<f64>()
        }
    }
}

/// The sum over the batch of its queries' losses, and of its regularisers.
fn objective(
    config: &KgeConfig,
    [entities, relations]: [&[f64]; 2],
    masks: &Masks,
    weights: &mut [Vec<f64>],
) -> (f64, f64) {
    let (model, dim) = (config.model, config.dim);
    let (len, relation_len) = (model.row_len(dim), model.relation_len(dim));
    let entity = |number: u32| &entities[number as usize * len..][..len];
    let (le, lr) = (f64::from(config.lambda_entity), f64::from(config.lambda_relation));
    let norm = |row: &[f64]| match config.regularizer {
        Regularizer::N3 => model.n3(row, 0.0, &mut vec![0.0; row.len()]),
        Regularizer::L2 | Regularizer::Dura => row.iter().map(|x| x * x).sum(),
        Regularizer::None => 0.0,
    };
    let (mut losses, mut norms) = (0.0, 0.0);
    let mut sorted = batch();
    sorted.sort_by_key(|triple| triple.relation);
    for (index, triple) in sorted.iter().enumerate() {
        let inverse =
            if config.reciprocal { triple.relation + RELATIONS as u32 } else { triple.relation };
        let sides = [
            (Side::Tail, index, triple.head, triple.relation, triple.tail),
            (backward_side(config.reciprocal), index + 5, triple.tail, inverse, triple.head),
        ];
        for (side, number, asked, r, target) in sides {
            let mask = &masks.asked[number * len..];
            let x: Vec<f64> = entity(asked).iter().zip(mask).map(|(x, m)| x * m).collect();
            let range = r as usize * relation_len..(r as usize + 1) * relation_len;
            let row = &relations[range.clone()];
            let dropped: Vec<f64> =
                row.iter().zip(&masks.relations[range]).map(|(r, m)| r * m).collect();
            let mut operator = vec![0.0; model.operator_len(dim)];
            model.operator(&dropped, &mut operator);
            let mut q = vec![0.0; len];
            model.query(side, &x, &operator, &mut q);
            let form = model.form();
            let pool = POOL.iter().filter(|&&drawn| drawn != target);
            let pool: Vec<f64> = pool.map(|&drawn| form.pair(&q, entity(drawn))).collect();
            losses += loss(config, form.pair(&q, entity(target)), &pool, &mut weights[number]);
            norms += le * norm(entity(target));
            if config.regularizer == Regularizer::Dura {
                norms += lr * norm(&q);
            } else if model.regularizes_relations() && (config.reciprocal || number < 5) {
                norms += lr * norm(row);
            }
        }
    }
    (losses, norms)
}

/// Runs the step on these tables; gradients come back laid out as the tables are.
fn run(
    step: &mut Step,
    config: &KgeConfig,
    tables: [&[f64]; 2],
    batch: &[Triple],
) -> (f64, [Vec<f64>; 2]) {
    let lens = [config.model.row_len(config.dim), config.model.relation_len(config.dim)];
    step.plan(batch, &POOL.map(u64::from), 7);
    for ((rows, table), len) in
        [&mut step.entities, &mut step.relations].into_iter().zip(tables).zip(lens)
    {
        let (keys, values) = rows.pull_into();
        for (key, row) in keys.iter().zip(values.chunks_exact_mut(len)) {
            for (value, &wide) in row.iter_mut().zip(&table[*key as usize * len..]) {
                *value = wide as f32;
            }
        }
    }
    let loss = step.gradients();
    let mut found = tables.map(|table| vec![0.0; table.len()]);
    for ((rows, found), len) in
        [&step.entities, &step.relations].into_iter().zip(&mut found).zip(lens)
    {
        let (keys, gradients) = rows.gradients();
        for (key, row) in keys.iter().zip(gradients.chunks_exact(len)) {
            for (found, &narrow) in found[*key as usize * len..].iter_mut().zip(row) {
                *found += f64::from(narrow);
            }
        }
    }
    (loss, found)
}

fn tables(config: &KgeConfig) -> [Vec<f64>; 2] {
    let (len, relation_len) =
        (config.model.row_len(config.dim), config.model.relation_len(config.dim));
    [table(ENTITIES, len, 1), table(relation_rows(config, RELATIONS), relation_len, 2)]
}

/// Holds a step's loss and gradients against the objective and its finite differences.
fn check(config: &KgeConfig) {
    config.check().unwrap();
    let mut tables = tables(config);
    let mut step = Step::new(config, ENTITIES, RELATIONS);
    let (loss, found) = run(&mut step, config, [&tables[0], &tables[1]], &batch());
    let masks = Masks::of(&step, config);
    let mut weights = vec![Vec::new(); 10];
    let (expected, _) = objective(config, [&tables[0], &tables[1]], &masks, &mut weights);
    assert!((loss - expected).abs() < 2e-4, "{config:?}: loss {loss}, expected {expected}");
    let delta = 1e-5;
    for which in 0..2 {
        for k in 0..tables[which].len() {
            let kept = tables[which][k];
            let mut value = |value| {
                tables[which][k] = value;
                let sums = objective(config, [&tables[0], &tables[1]], &masks, &mut weights);
                (sums.0 + sums.1) / 5.0
            };
            let expected = (value(kept + delta) - value(kept - delta)) / (2.0 * delta);
            tables[which][k] = kept;
            let found = found[which][k];
            assert!(
                (found - expected).abs() < 5e-5,
                "{config:?}, table {which}, {k}: {found} is not {expected}"
            );
        }
    }
}

#[test]
fn gradients_of_every_model_and_loss_are_those_of_finite_differences() {
    for model in ModelKind::ALL {
        for loss in LossKind::ALL {
            for reciprocal in [false, true] {
                let margin = if model.form() == Form::Dot { 0.0 } else { 3.0 };
                check(&KgeConfig { loss, margin, temperature: 0.7, ..config(model, reciprocal) });
            }
        }
    }
}

#[test]
fn gradients_of_every_regulariser_are_those_of_finite_differences() {
    for model in ModelKind::ALL {
        for regularizer in Regularizer::ALL {
            for reciprocal in [false, true] {
                check(&KgeConfig { regularizer, ..config(model, reciprocal) });
            }
        }
    }
}

#[test]
fn gradients_under_dropout_are_those_of_finite_differences() {
    for model in ModelKind::ALL {
        for reciprocal in [false, true] {
            let dropout_relation = if model == ModelKind::RotatE { 0.0 } else { 0.4 };
            let config = config(model, reciprocal);
            check(&KgeConfig { dropout_entity: 0.3, dropout_relation, ..config.clone() });
            check(&KgeConfig { dropout_entity: 0.3, ..config });
        }
    }
}

#[test]
fn a_step_leaves_nothing_behind_for_the_next_one() {
    for model in ModelKind::ALL {
        let dropout_entity = if model == ModelKind::TransE { 0.3 } else { 0.0 };
        let config = KgeConfig { dropout_entity, ..config(model, false) };
        let tables = tables(&config);
        let tables = [&tables[0][..], &tables[1][..]];
        let fresh = run(&mut Step::new(&config, ENTITIES, RELATIONS), &config, tables, &batch());
        let mut used = Step::new(&config, ENTITIES, RELATIONS);
        let mut longer = batch();
        longer.extend((0..9).map(|n| Triple { head: n, relation: 1, tail: n + 2 }));
        run(&mut used, &config, tables, &longer);
        assert_eq!(fresh, run(&mut used, &config, tables, &batch()), "{model:?}");
    }
}

#[test]
fn each_row_is_pulled_and_pushed_once_and_the_pool_comes_first() {
    let config = config(ModelKind::ComplEx, true);
    let mut step = Step::new(&config, ENTITIES, RELATIONS);
    step.plan(&batch(), &POOL.map(u64::from), 0);
    assert_eq!(step.entities.keys(), [4, 9, 1, 11, 0, 2, 5, 3]);
    assert_eq!(step.relations.keys(), [0, 3, 2, 5]);
}
