//! Local access against bare copies and additions on the same memory, A and B by turns in one run.
//!
//! `cargo run --release -p sterna-store --example store_bench [-- seconds per figure [wide|hot|foreign]]`
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "figures to be printed, and keys of tables that fit into memory"
)]

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sterna_kernels::rowcopy::prefetch_line;
use sterna_kernels::{ElementType, Optimizer, RowPtr, RowShape};
use sterna_protocol::{Key, Rank, SlotId, TableId};
use sterna_store::{
    Change, ChunkError, ChunkMemory, Control, ForeignKey, ForeignTable, HotRows, PartitionMap,
    Patience, Placement, RowTable, TableShape,
};

const CALL: usize = 64;
/// The best distance for bare copies on the machines tried: 1, 2, 4, 8 and 16 KiB.
const BARE_AHEAD_BYTES: usize = 8192;

fn table(keys: u64, shape: &RowShape) -> RowTable {
    let placement = Placement::new(keys, &PartitionMap::even(1)).unwrap();
    let slots = placement.slots(Rank(0));
    let form = TableShape::new(ElementType::F32, shape.dim, shape.state_len(), slots).unwrap();
    let table = RowTable::new(TableId(0), Rank(0), placement, form, 0);
    table.allocate::<ChunkError>(|bytes| Ok(memory(bytes))).unwrap();
    let mut row = vec![0.0; shape.row_len()];
    for (slot, key) in table.placement().keys_at(Rank(0)) {
        row.fill(key.0 as f32);
        table.install(slot, key, &row);
    }
    table
}

/// Anonymous memory with huge pages where they may be had, as in a job of one node.
fn memory(bytes: usize) -> ChunkMemory {
    let memory = ChunkMemory::heap(bytes);
    if bytes >= 2 << 20 && std::env::var_os("STERNA_BENCH_4K").is_none() {
        // SAFETY: advice about memory that was just allocated.
        unsafe { libc::madvise(memory.base().as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) };
    }
    memory
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(limit)) >> 64) as u64
    }
}

/// A name and what it does with the keys of a call.
type Variant<'a> = (&'a str, &'a mut dyn FnMut(&[Key]));

/// Runs each variant by turns and gives the median nanoseconds per key of each.
fn alternate(time: Duration, variants: &mut [Variant<'_>], keys: &[Key]) -> Vec<f64> {
    let mut figures = vec![Vec::new(); variants.len()];
    let end = Instant::now() + time * u32::try_from(variants.len()).unwrap();
    while Instant::now() < end {
        for (variant, figures) in variants.iter_mut().zip(&mut figures) {
            let start = Instant::now();
            for call in keys.chunks_exact(CALL) {
                (variant.1)(call);
            }
            figures.push(start.elapsed().as_nanos() as f64 / keys.len() as f64);
        }
    }
    let median = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let result: Vec<f64> = figures.iter_mut().map(median).collect();
    for ((name, _), ns) in variants.iter().zip(&result) {
        println!("  {name:<42} {ns:7.1} ns/key {:8.1} M keys/s", 1e3 / ns);
    }
    result
}

/// The same rows without header checks, locks or placement: the key is taken for the slot.
fn bare<'a>(
    table: &'a RowTable,
    dim: usize,
    ahead: usize,
    mut work: impl FnMut(usize, RowPtr) + 'a,
) -> impl FnMut(&[Key]) + 'a {
    let mut rows = Vec::with_capacity(CALL);
    let lines = (dim * 4).div_ceil(64) + 1;
    let chunks: Vec<*mut u8> = (0..table.arena().chunks())
        .map(|chunk| table.arena().chunk(chunk).unwrap().base().as_ptr())
        .collect();
    move |keys| {
        rows.clear();
        rows.extend(keys.iter().map(|key| {
            let place = table.shape().place(SlotId(key.0 as u32));
            chunks[place.chunk].wrapping_add(place.offset + 16).cast::<f32>()
        }));
        let fetch = |row: *mut f32| {
            for line in 0..lines {
                prefetch_line(row.cast::<u8>().wrapping_add(64 * line));
            }
        };
        rows.iter().take(ahead).for_each(|&row| fetch(row));
        for at in 0..rows.len() {
            if let Some(&next) = rows.get(at + ahead) {
                fetch(next);
            }
            // SAFETY: a row of the table, which outlives the closure.
            work(at, unsafe { RowPtr::new(std::ptr::NonNull::new(rows[at]).unwrap(), dim) });
        }
    }
}

fn wide(name: &str, keys: u64, dim: usize, touched: u64, time: Duration) {
    let shape = RowShape { optimizer: Optimizer::sgd(0.1), dim };
    let table = table(keys, &shape);
    println!(
        "{name}: {keys} rows of {dim} floats, calls of {CALL} keys of {touched}, {} MiB",
        (keys as usize * table.shape().slot_bytes()) >> 20
    );
    let mut random = Random(1);
    let subset: Vec<u64> = (0..touched).map(|_| random.below(keys)).collect();
    let calls: Vec<Key> =
        (0..1 << 20).map(|_| Key(subset[random.below(touched) as usize])).collect();
    let grads = vec![0.5_f32; CALL * dim];
    let (mut out, mut out_bare) = (vec![0.0_f32; CALL * dim], vec![0.0_f32; CALL * dim]);
    let (mut missed, mut hot) = (Vec::new(), HotRows::new(shape));
    let ahead = (BARE_AHEAD_BYTES / (dim * 4)).clamp(2, 16);
    let mut bare_pull =
        bare(&table, dim, ahead, |at, row| row.copy_out(&mut out_bare[at * dim..][..dim]));
    let mut bare_push = bare(&table, dim, ahead, |at, row| row.add(&grads[at * dim..][..dim]));
    let mut pull = |keys: &[Key]| {
        black_box(table.pull_batch(keys, dim, &mut out, &mut missed).unwrap());
    };
    let mut missed = Vec::new();
    let mut push = |keys: &[Key]| {
        table.push_batch(keys, Patience::WORKER, &mut missed, |at, row| {
            shape.step(row, &grads[at * dim..][..dim], 0.1);
        });
    };
    let mut missed = Vec::new();
    let mut push_hot = |keys: &[Key]| {
        table
            .push_batch_hot(&mut hot, keys, Change::Step(0.1), &grads, &mut missed, |_, _| ())
            .unwrap();
    };
    let mut locate = |keys: &[Key]| {
        for &key in keys {
            black_box(table.placement().locate_known(key));
        }
    };
    let ns = alternate(
        time,
        &mut [
            ("bare prefetched copy", &mut bare_pull),
            ("pull", &mut pull),
            ("bare prefetched addition", &mut bare_push),
            ("push (SGD)", &mut push),
            ("push (SGD), hot rows watched", &mut push_hot),
            ("placement alone", &mut locate),
        ],
        &calls,
    );
    println!(
        "  pull / bare copy {:.0} %, push / bare addition {:.0} %, watched {:.0} %",
        100.0 * ns[0] / ns[1],
        100.0 * ns[2] / ns[3],
        100.0 * ns[2] / ns[4]
    );
}

/// Million pushes per second of processor time, summed over threads, on 64 rows.
fn hot_rate(
    table: &RowTable,
    shape: &RowShape,
    threads: u64,
    private: bool,
    time: Duration,
) -> f64 {
    let (stop, total) = (AtomicBool::new(false), Mutex::new(0.0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, total) = (&stop, &total);
            scope.spawn(move || {
                let mut random = Random(thread + 1);
                let keys: Vec<Key> = (0..1 << 14).map(|_| Key(random.below(64))).collect();
                let grads = vec![0.5_f32; CALL * shape.dim];
                let (mut hot, mut missed) = (HotRows::new(*shape), Vec::new());
                let (mut pushes, start) = (0, cpu_seconds());
                while !stop.load(Ordering::Relaxed) {
                    for call in keys.chunks_exact(CALL) {
                        missed.clear();
                        if private {
                            table
                                .push_batch_hot(
                                    &mut hot,
                                    call,
                                    Change::Step(0.1),
                                    &grads,
                                    &mut missed,
                                    |_, _| (),
                                )
                                .unwrap();
                        } else {
                            table.push_batch(call, Patience::WORKER, &mut missed, |at, row| {
                                shape.step(row, &grads[at * shape.dim..][..shape.dim], 0.1);
                            });
                        }
                        pushes += CALL - missed.len();
                    }
                }
                let _ =
                    hot.drop_all(|key| table.home_slot(key), Patience::WORKER, |_, _| (), |_| ());
                *total.lock().unwrap() += pushes as f64 / (cpu_seconds() - start) / 1e6;
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    total.into_inner().unwrap()
}

/// Processor time of this thread: other jobs on the machine do not count.
fn cpu_seconds() -> f64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time to the given place.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
}

fn hot(dim: usize, optimizer: Optimizer, time: Duration) {
    let shape = RowShape { optimizer, dim };
    let table = table(64, &shape);
    println!("hot: 64 rows of {dim} floats, {}", optimizer.name());
    for private in [false, true] {
        let mut rates = [[0.0; 3]; 3];
        for round in &mut rates {
            for (rate, threads) in round.iter_mut().zip([1, 2, 4]) {
                *rate = hot_rate(&table, &shape, threads, private, time / 3);
            }
        }
        rates.sort_by(|a, b| (a[1] / a[0]).total_cmp(&(b[1] / b[0])));
        let [one, two, four] = rates[1];
        let name = if private { "private copies" } else { "writer bit" };
        println!(
            "  {name:<16} 1 / 2 / 4 threads {one:6.1} / {two:6.1} / {four:6.1} M pushes/s, two / one {:.2}",
            two / one
        );
    }
}

struct Nothing(u64);

impl Control for Nothing {
    fn new(generation: u64) -> Self {
        Self(generation)
    }
    fn generation(&self) -> u64 {
        self.0
    }
    fn pinned(&self) -> bool {
        false
    }
}

fn foreign(time: Duration) {
    let table: ForeignTable<Nothing> = ForeignTable::new(1 << 20, 2);
    for entries in [1_000_u64, 100_000] {
        let mut random = Random(3);
        let keys: Vec<Key> = (0..1 << 16).map(|_| Key(random.below(entries))).collect();
        println!("foreign table: {entries} entries");
        let mut look_up = |keys: &[Key]| {
            for &key in keys {
                let id = ForeignKey { table: TableId(0), key };
                black_box(table.entry(id).unwrap().control.0);
            }
        };
        alternate(time, &mut [("entry, locked and released", &mut look_up)], &keys);
    }
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    println!("{:?}, seed 1, {seconds} s per figure", sterna_kernels::instruction_set());
    let part = std::env::args().nth(2).unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part == name;
    if wanted("wide") {
        wide("1 GiB", (1 << 30) / 512, 128, 1 << 21, time);
        wide("adapm 8.2", 1_000_000, 16, 65_536, time);
    }
    if wanted("hot") {
        for dim in [16, 128] {
            hot(dim, Optimizer::sgd(0.1), time);
            hot(dim, Optimizer::adagrad(0.1), time);
        }
    }
    if wanted("foreign") {
        foreign(time);
    }
}
