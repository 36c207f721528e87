//! Blocks against pairs, and pairs against finite differences.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Form, Scorer};

const FORMS: [Form; 3] = [Form::Dot, Form::Euclidean, Form::Moduli];
/// Not multiples of a vector's length, and more queries than meet a candidate at a time.
const SHAPE: (usize, usize, usize) = (11, 7, 38);

fn rows(count: usize, seed: u64) -> Vec<f64> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..count * SHAPE.2).map(|_| random.random_range(-1.0..1.0)).collect()
}

#[test]
fn a_pair_s_gradients_are_those_of_finite_differences() {
    let (q, y) = (rows(1, 1), rows(1, 2));
    let step = 1e-6;
    for form in FORMS {
        let (mut dq, mut dy) = (vec![1.0; q.len()], vec![-2.0; y.len()]);
        form.pair_gradient(&q, &y, 0.3, &mut dq, &mut dy);
        for k in 0..q.len() {
            let moved = |row: &[f64], delta: f64| {
                let mut row = row.to_vec();
                row[k] += delta;
                row
            };
            let slope = |above: f64, below: f64| 0.3 * (above - below) / (2.0 * step);
            let of_q = slope(form.pair(&moved(&q, step), &y), form.pair(&moved(&q, -step), &y));
            let of_y = slope(form.pair(&q, &moved(&y, step)), form.pair(&q, &moved(&y, -step)));
            assert!((dq[k] - 1.0 - of_q).abs() < 1e-7, "{form:?} {k}: {} is not {of_q}", dq[k]);
            assert!((dy[k] + 2.0 - of_y).abs() < 1e-7, "{form:?} {k}: {} is not {of_y}", dy[k]);
        }
    }
}

#[test]
fn a_block_is_what_its_pairs_are() {
    let (m, n, k) = SHAPE;
    let (q, y, slopes) = (rows(m, 3), rows(n, 4), rows(m * n, 5));
    let narrow = |rows: &[f64]| rows.iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let (q32, y32, slopes32) = (narrow(&q), narrow(&y), narrow(&slopes[..m * n]));
    for form in FORMS {
        let mut scorer = Scorer::new(form);
        let mut scores = vec![9.0; m * n];
        scorer.scores(SHAPE, &q32, &y32, &mut scores);
        let (mut dq, mut dy) = (vec![0.0; m * k], vec![0.0; n * k]);
        for i in 0..m {
            for j in 0..n {
                let (q, y) = (&q[i * k..][..k], &y[j * k..][..k]);
                let (found, expected) = (f64::from(scores[i * n + j]), form.pair(q, y));
                assert!((found - expected).abs() < 1e-4, "{form:?}: {found} is not {expected}");
                let (dq, dy) = (&mut dq[i * k..][..k], &mut dy[j * k..][..k]);
                form.pair_gradient(q, y, slopes[i * n + j], dq, dy);
            }
        }
        let (mut dq32, mut dy32) = (vec![9.0; m * k], vec![9.0; n * k]);
        let mut given = slopes32.clone();
        scorer.gradients(SHAPE, [&q32, &y32], &mut given, [&mut dq32, &mut dy32]);
        for (found, expected) in dq32.iter().zip(&dq).chain(dy32.iter().zip(&dy)) {
            let error = (f64::from(*found) - expected).abs();
            assert!(error < 1e-4, "{form:?}: {found} is not {expected}");
        }
    }
}

#[test]
fn equal_rows_have_no_gradient_and_no_infinity() {
    let row = [0.5_f32, -1.0, 2.0, 0.25];
    for form in [Form::Euclidean, Form::Moduli] {
        let mut scorer = Scorer::new(form);
        let mut scores = [9.0];
        scorer.scores((1, 1, 4), &row, &row, &mut scores);
        assert!(scores[0].abs() < 1e-3, "{form:?}: {}", scores[0]);
        let (mut dq, mut dy) = ([9.0; 4], [9.0; 4]);
        scorer.gradients((1, 1, 4), [&row, &row], &mut [1.0], [&mut dq, &mut dy]);
        assert!(dq.into_iter().chain(dy).all(|g| g == 0.0), "{form:?}: {dq:?} {dy:?}");
    }
}
