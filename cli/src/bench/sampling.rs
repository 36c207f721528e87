//! `sterna bench sampling`: what random keys cost, with their rows, by scheme and distribution.
//!
//! Every worker of every node prepares and pulls samples, one prepared ahead while the one before is pulled. Beside each scheme stands a pull of
//! as many keys that are drawn before the clock starts.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sterna::sampling::{Distribution, Sampling, Scheme};
use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, Table, TableSpec, Worker};

/// Samples by scheme and distribution.
#[derive(Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// naive, preloc, pool:U, postpone:U (each draw used U times), local.
    #[arg(long, value_delimiter = ',', default_values_t = ["naive", "preloc", "pool:16", "postpone:16", "local"].map(String::from), value_name = "SCHEMES")]
    schemes: Vec<String>,

    /// Bytes of a row's values.
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    row_bytes: u32,

    /// Keys of the table, all of which may be drawn.
    #[arg(long, default_value_t = 1_000_000, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(2..))]
    keys: u32,

    /// Keys of a sample, and of the calls that pull it.
    #[arg(long, default_value_t = 256, value_name = "KEYS", value_parser = clap::value_parser!(u16).range(1..))]
    sample: u16,

    /// Start so many nodes on this host, with one worker each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    /// How nodes reach each other: auto, shm or tcp.
    #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "tcp"])]
    fabric: String,

    /// Time for each line in milliseconds.
    #[arg(long, default_value_t = 300, value_name = "MS")]
    slice_ms: u64,
}

/// Measures and prints.
pub(crate) fn run(args: &SamplingArgs) -> anyhow::Result<ExitCode> {
    let schemes: Vec<Scheme> =
        args.schemes.iter().map(|scheme| scheme.parse()).collect::<sterna::Result<_>>()?;
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    let node = Node::join(NodeConfig::with_workers(1).with_env()?, fabric)?;
    let dim = args.row_bytes as usize / size_of::<f32>();
    let table = node.create_table(TableSpec::new("rows", args.keys.into(), dim))?;
    let mut worker = node.worker(0)?;
    worker.pin_thread();
    if node.rank().index() == 0 {
        println!("{}", node.describe());
        println!("{:<12} {:<12} {:>12} {:>10}", "", "scheme", "M keys/s", "of a pull");
    }
    let keys = u64::from(args.keys);
    let counts: Vec<u64> = (0..keys).map(|key| keys / (key + 1)).collect();
    for (name, distribution) in [
        ("uniform", Distribution::uniform(0..keys)?),
        ("log-uniform", Distribution::log_uniform(0..keys)?),
        ("unigram", Distribution::unigram(0, &counts)?),
    ] {
        let mut cell = Cell { args, worker: &mut worker, table: &table };
        let pull = cell.pull(&distribution)?;
        for &scheme in &schemes {
            let rate = cell.sample(&distribution, scheme)?;
            if node.rank().index() == 0 {
                let (scheme, ratio) = (scheme.to_string(), rate / pull);
                println!("{name:<12} {scheme:<12} {:>12.2} {ratio:>10.2}", rate / 1e6);
            }
        }
    }
    drop(worker);
    node.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

struct Cell<'a> {
    args: &'a SamplingArgs,
    worker: &'a mut Worker,
    table: &'a Table,
}

impl Cell<'_> {
    /// Keys per second of all workers that pull keys drawn before.
    fn pull(&mut self, distribution: &Distribution) -> anyhow::Result<f64> {
        const CALLS: usize = 256;
        let count = usize::from(self.args.sample);
        let naive = Sampling::new(distribution.clone()).scheme(Scheme::Naive);
        let mut sampler = self.worker.sampler(self.table, naive)?;
        let mut sample = self.worker.prepare_sample(&mut sampler, CALLS * count, 0..1)?;
        let mut keys = vec![0; CALLS * count];
        let mut rows = vec![0.0; count * self.table.dim()];
        for keys in keys.chunks_exact_mut(count) {
            self.worker.pull_sample(&mut sampler, &mut sample, keys, &mut rows)?;
        }
        let mut calls = keys.chunks_exact(count).cycle();
        let table = self.table;
        self.rate(|worker| {
            Ok(worker.pull(table, calls.next().expect("a cycle has no end"), &mut rows)?)
        })
    }

    /// Keys per second of all workers that take samples.
    fn sample(&mut self, distribution: &Distribution, scheme: Scheme) -> anyhow::Result<f64> {
        let count = usize::from(self.args.sample);
        let sampling = Sampling::new(distribution.clone()).scheme(scheme);
        let mut sampler = self.worker.sampler(self.table, sampling)?;
        let mut keys = vec![0; count];
        let mut rows = vec![0.0; count * self.table.dim()];
        let clock = self.worker.clock().0;
        let mut ahead = self.worker.prepare_sample(&mut sampler, count, clock..clock + 1)?;
        self.rate(|worker| {
            let next = worker.clock().0 + 1;
            let prepared = worker.prepare_sample(&mut sampler, count, next..next + 1)?;
            let mut sample = std::mem::replace(&mut ahead, prepared);
            worker.pull_sample(&mut sampler, &mut sample, &mut keys, &mut rows)?;
            Ok(worker.advance_clock()?)
        })
    }

    /// Keys per second of calls made for a slice of time, summed over the workers of the job.
    fn rate(
        &mut self,
        mut call: impl FnMut(&mut Worker) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let slice = Duration::from_millis(self.args.slice_ms);
        self.worker.barrier()?;
        let (begun, mut calls) = (Instant::now(), 0_u32);
        // One at least, however late this thread gets to run.
        while calls == 0 || begun.elapsed() < slice {
            call(self.worker)?;
            calls += 1;
        }
        let keys = f64::from(calls) * f64::from(self.args.sample);
        let mut rate = [keys / begun.elapsed().as_secs_f64()];
        self.worker.all_reduce_sum(&mut rate)?;
        Ok(rate[0])
    }
}
