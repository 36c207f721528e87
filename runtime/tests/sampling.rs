//! Samples on jobs of one to three nodes: what each scheme promises, tested against the distribution by Pearson's chi-square test with fixed
//! seeds. A statistic has to lie within four standard deviations (by Wilson and Hilferty's approximation) on both sides: draws that are more
//! even than independent ones are as wrong as uneven ones.

#![allow(clippy::cast_precision_loss, reason = "counts as test data")]

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;
use std::time::Duration;

use sterna::sampling::{Conformity, Distribution, Sampler, Sampling, Scheme};
use sterna::{
    Error, FabricConfig, Init, Node, NodeConfig, Policy, ProviderChoice, Rank, Table, TableSpec,
    Worker,
};

const KEYS: u64 = 100;

/// Keys that are sampled: not from the first one on, and not to the last.
const SAMPLED: std::ops::Range<u64> = 20..80;

/// Runs `body` on every worker of a job whose rows stay at their homes and gives what they return, by global index.
fn job<R: Send>(nodes: usize, workers: usize, body: impl Fn(Worker, &Table) -> R + Sync) -> Vec<R> {
    job_under(Policy::Classic, nodes, workers, body)
}

/// The same under another policy.
fn job_under<R: Send>(
    policy: Policy,
    nodes: usize,
    workers: usize,
    body: impl Fn(Worker, &Table) -> R + Sync,
) -> Vec<R> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut listener = Some(listener);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for rank in (0..nodes).map(Rank::from_index) {
            let token = "0123456789abcdef0123456789abcdef";
            let mut fabric = FabricConfig::new(rank, nodes, Some(&address), token);
            fabric.choice = ProviderChoice::Shm;
            fabric.join_timeout = Duration::from_secs(120);
            fabric.listener = listener.take();
            let (body, results) = (&body, &results);
            scope.spawn(move || {
                let config =
                    NodeConfig { workers, seed: 7, pin: false, policy, ..NodeConfig::default() };
                let node = Node::join(config, fabric).expect("all nodes come");
                let spec = TableSpec::new("t", KEYS, 2).init(Init::Normal { std: 1.0 });
                let table = node.create_table(spec).expect("a table");
                std::thread::scope(|scope| {
                    for index in 0..workers {
                        let (worker, table) = (node.worker(index).expect("a worker"), &table);
                        scope.spawn(move || {
                            let place = worker.global_index();
                            let result = body(worker, table);
                            results.lock().expect("no panic").push((place, result));
                        });
                    }
                });
                node.shutdown().expect("all end");
            });
        }
    });
    let mut results = results.into_inner().expect("no panic");
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Takes samples of 50 keys, pulled in pieces, until there are `count` keys; their rows are those of a pull.
fn take(worker: &mut Worker, sampler: &mut Sampler, table: &Table, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        let mut sample = worker.prepare_sample(sampler, 50, 0..1).expect("a sample");
        for piece in [1, 7, 40, 2] {
            let (mut keys, mut rows) = (vec![u64::MAX; piece], vec![f32::NAN; 2 * piece]);
            worker.pull_sample(sampler, &mut sample, &mut keys, &mut rows).expect("keys are left");
            let mut wanted = vec![0.0; 2 * piece];
            worker.pull(table, &keys, &mut wanted).expect("keys of the table");
            assert_eq!(rows, wanted);
            all.extend(keys);
        }
        assert_eq!(sample.left(), 0);
    }
    all
}

/// Whether counts are as independent draws with these shares would have them; `uses` times each, if draws are used more than once.
fn fits(counts: &[u64], shares: &[f64], uses: f64) -> bool {
    let all = counts.iter().sum::<u64>() as f64;
    let (mut statistic, mut cells) = (0.0, 0);
    for (&count, &share) in counts.iter().zip(shares) {
        let expected = all * share;
        if share == 0.0 {
            if count > 0 {
                return false;
            }
            continue;
        }
        assert!(expected >= 5.0 * uses, "too few draws for the test: {expected}");
        statistic += (count as f64 - expected).powi(2) / expected;
        cells += 1;
    }
    let freedom = f64::from(cells - 1);
    let quantile = |deviations: f64| {
        let spread = 2.0 / (9.0 * freedom);
        freedom * (1.0 - spread + deviations * spread.sqrt()).powi(3)
    };
    (quantile(-4.0)..quantile(4.0)).contains(&(statistic / uses))
}

fn counts(keys: &[u64]) -> Vec<u64> {
    let mut counts = vec![0; usize::try_from(KEYS).expect("few")];
    keys.iter().for_each(|&key| counts[usize::try_from(key).expect("few")] += 1);
    counts
}

fn shares(distribution: &Distribution) -> Vec<f64> {
    (0..KEYS).map(|key| distribution.probability(key)).collect()
}

/// Whether neighbours are independent: counts of pairs, each key in one of six groups of keys.
fn independent(keys: &[u64], distribution: &Distribution) -> bool {
    let group = |key: u64| usize::try_from(key % 6).expect("few");
    let mut group_shares = [0.0; 6];
    (0..KEYS).for_each(|key| group_shares[group(key)] += distribution.probability(key));
    let mut pairs = vec![0; 36];
    keys.chunks_exact(2).for_each(|pair| pairs[6 * group(pair[0]) + group(pair[1])] += 1);
    let shares: Vec<f64> = group_shares.iter().flat_map(|&a| group_shares.map(|b| a * b)).collect();
    fits(&pairs, &shares, 1.0)
}

fn distributions() -> Vec<Distribution> {
    let count = |key: u64| (key * 7919) % 97;
    let counts: Vec<u64> = SAMPLED.map(count).collect();
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let weights = SAMPLED.map(|key| if key % 5 == 0 { 0.0 } else { 1.0 + (key % 7) as f64 });
    vec![
        Distribution::uniform(SAMPLED).expect("keys"),
        Distribution::log_uniform(SAMPLED).expect("keys"),
        Distribution::weighted(20, weights.collect()).expect("weights"),
        Distribution::unigram(20, &counts).expect("counts"),
    ]
}

#[test]
fn every_distribution_is_drawn_as_it_says_and_the_test_tells_them_apart() {
    let all = distributions();
    for (index, distribution) in all.iter().enumerate() {
        let drawn = job(1, 1, |mut worker, table| {
            let sampling = Sampling::new(distribution.clone()).scheme(Scheme::Naive);
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            take(&mut worker, &mut sampler, table, 40_000)
        });
        for (other, wanted) in all.iter().enumerate() {
            let same = fits(&counts(&drawn[0]), &shares(wanted), 1.0);
            assert_eq!(same, index == other, "distribution {index} against {other}");
        }
    }
}

#[test]
fn naive_and_preloc_are_conform_at_every_worker_of_every_number_of_nodes() {
    for scheme in [Scheme::Naive, Scheme::Preloc] {
        assert_eq!(scheme.conformity(), Conformity::Conform);
        for (distribution, nodes) in distributions().iter().zip([1, 2, 3, 3]) {
            let drawn = job(nodes, 2, |mut worker, table| {
                let sampling = Sampling::new(distribution.clone()).scheme(scheme);
                let mut sampler = worker.sampler(table, sampling).expect("a sampler");
                take(&mut worker, &mut sampler, table, 15_000)
            });
            for (worker, keys) in drawn.iter().enumerate() {
                assert!(fits(&counts(keys), &shares(distribution), 1.0), "{scheme} at {worker}");
                assert!(independent(keys, distribution), "{scheme} at {worker}");
            }
            // Draws of two workers have nothing to do with each other.
            let pairs: Vec<u64> =
                drawn[0].iter().zip(&drawn[1]).flat_map(|(&a, &b)| [a, b]).collect();
            assert!(independent(&pairs, distribution), "{scheme}: workers 0 and 1");
        }
    }
}

#[test]
fn a_pool_is_bounded_each_draw_counts_as_often_as_it_is_used() {
    const REUSE: u32 = 8;
    let scheme = Scheme::Pool { keys: 125, reuse: REUSE, postpone: false };
    assert_eq!(scheme.conformity(), Conformity::Bounded { reuse: REUSE });
    assert_eq!(Scheme::pool(1).conformity(), Conformity::Conform);
    for (distribution, nodes) in distributions().iter().zip([1, 2, 3, 1]) {
        let drawn = job(nodes, 1, |mut worker, table| {
            let sampling = Sampling::new(distribution.clone()).scheme(scheme);
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            take(&mut worker, &mut sampler, table, 160_000)
        });
        for keys in &drawn {
            // Whole pools of 1,000 uses: all counts are multiples, and the draws themselves are independent ones.
            let counts = counts(keys);
            assert!(counts.iter().all(|count| count.is_multiple_of(REUSE.into())));
            assert!(fits(&counts, &shares(distribution), REUSE.into()));
            assert!(!fits(&counts, &shares(distribution), 1.0), "not conform");
            // At each place a key has its probability: the first uses of all pools are independent draws.
            let draws: Vec<u64> =
                keys.chunks_exact(1000).flat_map(|pool| &pool[..125]).copied().collect();
            assert!(fits(&self::counts(&draws), &shares(distribution), 1.0));
        }
    }
}

#[test]
fn postponed_keys_come_later_and_in_the_long_run_in_the_right_proportions() {
    const COUNT: usize = 120_000;
    let pool = |postpone| Scheme::Pool { keys: 50, reuse: 4, postpone };
    assert_eq!(pool(true).conformity(), Conformity::LongTerm);
    let distribution = &distributions()[2];
    let run = |postpone: bool, replacement: bool| {
        job(3, 1, |mut worker, table| {
            let mut sampling = Sampling::new(distribution.clone()).scheme(pool(postpone));
            if !replacement {
                sampling = sampling.without_replacement();
            }
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            let local: Vec<bool> = (0..KEYS)
                .map(|key| worker.pull_if_local(table, key, &mut [0.0; 2]).expect("a key"))
                .collect();
            let count = if replacement { COUNT } else { 1000 };
            let mut drawn = Vec::new();
            while drawn.len() < count {
                let mut sample = worker.prepare_sample(&mut sampler, 20, 0..1).expect("a sample");
                let (mut keys, mut rows) = ([0; 20], [0.0; 40]);
                let pulled = worker.pull_sample(&mut sampler, &mut sample, &mut keys, &mut rows);
                pulled.expect("keys are left");
                assert!(replacement || HashSet::from(keys).len() == 20);
                drawn.extend(keys);
            }
            worker.barrier().expect("all come");
            (drawn, local)
        })
    };
    for ((late, local), (drawn, _)) in run(true, true).iter().zip(run(false, true)) {
        assert!(fits(&counts(late), &shares(distribution), 4.0));
        // The draws are those of a plain pool, in another order: some have not come yet, some that come were not drawn there.
        let missing =
            counts(&drawn).into_iter().zip(counts(late)).map(|(all, come)| all.abs_diff(come));
        assert!(missing.sum::<u64>() <= 2 * 50, "draws were lost");
        let here = |keys: &[u64]| {
            keys.iter().filter(|&&key| local[usize::try_from(key).expect("few")]).count()
        };
        assert!(here(&late[..20]) > here(&drawn[..20]), "keys that are here come first");
    }
    run(true, false);
}

#[test]
fn levels_hold_where_rows_move_and_have_replicas() {
    let distribution = &distributions()[1];
    for policy in Policy::ALL {
        for (scheme, uses) in [
            (Scheme::Preloc, 1.0),
            (Scheme::Pool { keys: 125, reuse: 8, postpone: false }, 8.0),
            (Scheme::Pool { keys: 125, reuse: 8, postpone: true }, 8.0),
        ] {
            let drawn = job_under(policy, 3, 1, |mut worker, table| {
                let sampling = Sampling::new(distribution.clone()).scheme(scheme);
                let mut sampler = worker.sampler(table, sampling).expect("a sampler");
                let mut drawn = Vec::new();
                while drawn.len() < 20_000 {
                    let clock = worker.clock().0 + 1;
                    let mut sample = worker.prepare_sample(&mut sampler, 50, clock..clock + 1);
                    let sample = sample.as_mut().expect("a sample");
                    worker.advance_clock().expect("rows are free");
                    let (mut keys, mut rows) = ([0; 50], [0.0; 100]);
                    let pulled = worker.pull_sample(&mut sampler, sample, &mut keys, &mut rows);
                    pulled.expect("keys are left");
                    drawn.extend(keys);
                }
                worker.barrier().expect("all come");
                drawn
            });
            for keys in &drawn {
                assert!(fits(&counts(keys), &shares(distribution), uses), "{scheme}, {policy:?}");
            }
        }
    }
}

#[test]
fn local_samples_are_of_keys_that_are_here_in_their_true_proportions() {
    assert_eq!(Scheme::Local.conformity(), Conformity::NonConform);
    for (distribution, nodes) in distributions().iter().zip([1, 2, 3, 3]) {
        let drawn = job(nodes, 1, |mut worker, table| {
            let sampling = Sampling::new(distribution.clone()).scheme(Scheme::Local);
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            assert_eq!(sampler.local_share(), 1.0);
            let mut local = shares(distribution);
            for (key, share) in (0..KEYS).zip(&mut local) {
                if !worker.pull_if_local(table, key, &mut [0.0; 2]).expect("a key") {
                    *share = 0.0;
                }
            }
            let drawn = take(&mut worker, &mut sampler, table, 30_000);
            worker.barrier().expect("all come");
            (drawn, local, sampler.local_share())
        });
        for (keys, mut local, share) in drawn {
            let sum: f64 = local.iter().sum();
            local.iter_mut().for_each(|share| *share /= sum);
            assert!(fits(&counts(&keys), &local, 1.0), "the proportions of the keys that are here");
            assert_eq!(
                fits(&counts(&keys), &shares(distribution), 1.0),
                nodes == 1,
                "{nodes} nodes"
            );
            assert!((share - sum).abs() < 0.02, "{share} of the draws are here, {sum} in truth");
        }
    }
}

#[test]
fn keys_chosen_without_rows_are_those_that_a_pull_gives_from_the_same_seed() {
    let distribution = &distributions()[2];
    let schemes = ["naive", "preloc", "local", "postpone:4"];
    for (scheme, nodes) in schemes.into_iter().flat_map(|scheme| [(scheme, 1), (scheme, 3)]) {
        job(nodes, 1, |mut worker, table| {
            let scheme = scheme.parse().expect("a scheme");
            let mut draw = |rows: bool| {
                let sampling = Sampling::new(distribution.clone()).scheme(scheme);
                let mut sampler = worker.sampler(table, sampling).expect("a sampler");
                let mut drawn = Vec::new();
                for seed in 0..20 {
                    sampler.reseed(seed);
                    let mut sample = worker.prepare_sample(&mut sampler, 50, 0..1).expect("keys");
                    sampler.reseed(seed);
                    let mut keys = [0; 50];
                    let (sampler, sample) = (&mut sampler, &mut sample);
                    if rows {
                        worker.pull_sample(sampler, sample, &mut keys, &mut [0.0; 100])
                    } else {
                        worker.choose_sample(sampler, sample, &mut keys)
                    }
                    .expect("keys are left");
                    drawn.extend(keys);
                }
                drawn
            };
            let (chosen, pulled) = (draw(false), draw(true));
            // Where draws are repeated until keys are here, calls draw as many at a time as they need: only the first keys are the same.
            let same = if matches!(scheme, Scheme::Local) && nodes > 1 { 1 } else { chosen.len() };
            assert_eq!(chosen[..same], pulled[..same], "{scheme}, {nodes} nodes");
            let here =
                |key: &&u64| worker.pull_if_local(table, **key, &mut [0.0; 2]).expect("a key");
            let local = chosen.iter().filter(here).count();
            assert!(!matches!(scheme, Scheme::Local) || local == chosen.len(), "{local} are here");
            worker.barrier().expect("all come");
        });
    }
}

#[test]
fn where_no_key_is_here_a_local_sample_reads_others() {
    job(2, 1, |mut worker, table| {
        let mut row = [0.0; 2];
        let mut away =
            (0..KEYS).filter(|&key| !worker.pull_if_local(table, key, &mut row).expect("a key"));
        let key = away.next().expect("some key is at home elsewhere");
        drop(away);
        let one = Distribution::weighted(key, vec![1.0]).expect("a weight");
        let sampling = Sampling::new(one).scheme(Scheme::Local);
        let mut sampler = worker.sampler(table, sampling).expect("a sampler");
        assert!(take(&mut worker, &mut sampler, table, 50).iter().all(|&drawn| drawn == key));
        assert_eq!(sampler.local_share(), 0.0);
        worker.barrier().expect("all come");
    });
}

#[test]
fn without_replacement_pairs_come_as_successive_draws_would() {
    let weights = vec![1.0, 2.0, 3.0, 4.0, 10.0];
    let distribution = Distribution::weighted(0, weights.clone()).expect("weights");
    for scheme in [Scheme::Naive, Scheme::Preloc, Scheme::Local] {
        let pairs = job(1, 1, |mut worker, table| {
            let sampling = Sampling::new(distribution.clone()).scheme(scheme).without_replacement();
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            let mut pairs = vec![0; 25];
            for _ in 0..20_000 {
                let mut sample = worker.prepare_sample(&mut sampler, 2, 0..1).expect("a sample");
                let mut keys = [0; 2];
                for key in &mut keys {
                    let (key, mut row) = (std::slice::from_mut(key), [0.0; 2]);
                    let pulled = worker.pull_sample(&mut sampler, &mut sample, key, &mut row);
                    pulled.expect("a key is left");
                }
                pairs[usize::try_from(5 * keys[0] + keys[1]).expect("few")] += 1;
            }
            pairs
        });
        let share = |a: usize, b: usize| {
            let [first, second] = [weights[a], weights[b]];
            if a == b { 0.0 } else { first / 20.0 * second / (20.0 - first) }
        };
        let shares: Vec<f64> = (0..25).map(|cell| share(cell / 5, cell % 5)).collect();
        assert!(fits(&pairs[0], &shares, 1.0), "{scheme}");
    }
}

#[test]
fn without_replacement_a_sample_may_hold_every_key_once_and_no_more() {
    let mut weights = vec![1e-9; 60];
    weights[0] = 1e9;
    weights[1] = 0.0;
    let skewed = Distribution::weighted(20, weights).expect("weights");
    for scheme in [Scheme::Naive, Scheme::Preloc, Scheme::pool(3), Scheme::Local] {
        job(2, 1, |mut worker, table| {
            let sampling = Sampling::new(skewed.clone()).scheme(scheme).without_replacement();
            let mut sampler = worker.sampler(table, sampling).expect("a sampler");
            let mut sample = worker.prepare_sample(&mut sampler, 59, 0..1).expect("a sample");
            let (mut keys, mut rows) = ([0; 59], [0.0; 118]);
            let pulled = worker.pull_sample(&mut sampler, &mut sample, &mut keys, &mut rows);
            pulled.expect("59 keys are left");
            let keys = HashSet::from(keys);
            assert!(keys.len() == 59 && !keys.contains(&21), "{scheme}: {keys:?}");
            let error = worker.prepare_sample(&mut sampler, 60, 0..1).expect_err("one too many");
            assert!(error.to_string().contains("60 different keys of 59"), "{error}");
            worker.barrier().expect("all come");
        });
    }
}

#[test]
fn the_same_seed_gives_the_same_keys_and_every_stream_its_own() {
    let run = || {
        job(2, 2, |mut worker, table| {
            let sampling = Sampling::new(Distribution::uniform(0..KEYS).expect("keys"));
            let mut two = [0, 1].map(|_| {
                let mut sampler = worker.sampler(table, sampling.clone()).expect("a sampler");
                take(&mut worker, &mut sampler, table, 50)
            });
            worker.barrier().expect("all come");
            two.sort();
            two
        })
    };
    let first = run();
    assert_eq!(first, run());
    let streams: HashSet<&Vec<u64>> = first.iter().flatten().collect();
    assert_eq!(streams.len(), 8, "two of each of four workers");
}

#[test]
fn mistakes_are_errors_that_name_the_table() {
    let node = Node::start(NodeConfig { pin: false, ..NodeConfig::default() }).expect("a node");
    let table = node.create_table(TableSpec::new("t", KEYS, 2)).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    let all = Sampling::new(Distribution::uniform(0..KEYS).expect("keys"));
    let refused = |error: Error, what: &str| {
        assert!(matches!(&error, Error::Sampling { table, .. } if table == "t"), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    };
    let beyond = Sampling::new(Distribution::uniform(0..KEYS + 1).expect("keys"));
    refused(
        worker.sampler(&table, beyond).expect_err("a key too many"),
        "0..101 of a table of 100",
    );
    for (keys, reuse) in [(0, 1), (1 << 21, 1), (10, 0)] {
        let scheme = Scheme::Pool { keys, reuse, postpone: false };
        refused(
            worker.sampler(&table, all.clone().scheme(scheme)).expect_err("no pool"),
            "a pool of",
        );
    }
    let mut sampler = worker.sampler(&table, all.clone()).expect("a sampler");
    let mut other = worker.sampler(&table, all).expect("a sampler");
    let mut sample = worker.prepare_sample(&mut sampler, 3, 0..1).expect("a sample");
    let (mut keys, mut rows) = ([0; 4], [0.0; 8]);
    let error = worker.pull_sample(&mut other, &mut sample, &mut keys, &mut rows);
    refused(error.expect_err("not its sample"), "another sampler");
    let error = worker.pull_sample(&mut sampler, &mut sample, &mut keys, &mut rows);
    refused(error.expect_err("one too many"), "4 keys of a sample that has 3 left");
    let error = worker.pull_sample(&mut sampler, &mut sample, &mut keys[..3], &mut rows);
    assert!(matches!(error, Err(Error::WrongLength { .. })));
    worker.pull_sample(&mut sampler, &mut sample, &mut keys[..3], &mut rows[..6]).expect("all 3");
}
