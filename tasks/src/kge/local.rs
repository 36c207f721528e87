//! Interim stand-in for `sterna::{Node, Table, Worker}` in one process.
#![allow(missing_docs, clippy::all, clippy::pedantic, dead_code, clippy::cast_possible_truncation)]
use rand::{Rng, SeedableRng};
use std::sync::{
    Arc, Barrier, Mutex,
    atomic::{AtomicBool, Ordering},
};
pub type Error = std::io::Error;
pub struct Table {
    rows: Arc<Vec<Mutex<Box<[f32]>>>>,
    dim: usize,
}
impl Table {
    pub fn keys(&self) -> u64 {
        self.rows.len() as u64
    }
    pub fn dim(&self) -> usize {
        self.dim
    }
    pub fn row_len(&self) -> usize {
        2 * self.dim
    }
}
pub struct Node {
    workers: usize,
    barrier: Arc<Barrier>,
    sums: Arc<Mutex<(Vec<f64>, Vec<f64>, usize)>>,
    stop: Arc<AtomicBool>,
    seed: u64,
}
pub struct Worker {
    index: usize,
    lr: [f32; 2],
    barrier: Arc<Barrier>,
    sums: Arc<Mutex<(Vec<f64>, Vec<f64>, usize)>>,
    stop: Arc<AtomicBool>,
    workers: usize,
    pub stop_after: Option<u64>,
    clock: u64,
}
impl Node {
    pub fn local(workers: usize, seed: u64) -> Self {
        Self {
            workers,
            barrier: Arc::new(Barrier::new(workers)),
            sums: Default::default(),
            stop: Default::default(),
            seed,
        }
    }
    pub fn rank(&self) -> usize {
        0
    }
    pub fn size(&self) -> usize {
        1
    }
    pub fn workers(&self) -> usize {
        self.workers
    }
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst)
    }
    pub fn create_table(
        &self,
        name: &str,
        keys: usize,
        dim: usize,
        std: f32,
    ) -> Result<Table, Error> {
        let mut r = rand_xoshiro::Xoshiro256PlusPlus::seed_from_u64(self.seed ^ name.len() as u64);
        let rows = (0..keys)
            .map(|_| {
                let mut v = vec![0f32; 2 * dim];
                for x in &mut v[..dim] {
                    let (u, t): (f64, f64) = (r.random(), r.random());
                    *x = ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * t).cos())
                        as f32
                        * std;
                }
                Mutex::new(v.into_boxed_slice())
            })
            .collect();
        Ok(Table { rows: Arc::new(rows), dim })
    }
    pub fn worker(&self, index: usize) -> Result<Worker, Error> {
        Ok(Worker {
            index,
            lr: [0.1; 2],
            barrier: self.barrier.clone(),
            sums: self.sums.clone(),
            stop: self.stop.clone(),
            workers: self.workers,
            stop_after: None,
            clock: 0,
        })
    }
}
impl Worker {
    pub fn pull(&mut self, t: &Table, keys: &[u64], out: &mut [f32]) -> Result<(), Error> {
        for (k, o) in keys.iter().zip(out.chunks_exact_mut(t.dim)) {
            o.copy_from_slice(&t.rows[*k as usize].lock().unwrap()[..t.dim]);
        }
        Ok(())
    }
    pub fn pull_rows(&mut self, t: &Table, keys: &[u64], out: &mut [f32]) -> Result<(), Error> {
        for (k, o) in keys.iter().zip(out.chunks_exact_mut(2 * t.dim)) {
            o.copy_from_slice(&t.rows[*k as usize].lock().unwrap());
        }
        Ok(())
    }
    pub fn set(&mut self, t: &Table, keys: &[u64], v: &[f32]) -> Result<(), Error> {
        for (k, o) in keys.iter().zip(v.chunks_exact(t.dim)) {
            let mut r = t.rows[*k as usize].lock().unwrap();
            r[..t.dim].copy_from_slice(o);
            r[t.dim..].fill(0.0);
        }
        Ok(())
    }
    pub fn set_rows(&mut self, t: &Table, keys: &[u64], v: &[f32]) -> Result<(), Error> {
        for (k, o) in keys.iter().zip(v.chunks_exact(2 * t.dim)) {
            t.rows[*k as usize].lock().unwrap().copy_from_slice(o);
        }
        Ok(())
    }
    pub fn push(&mut self, t: &Table, keys: &[u64], g: &[f32]) -> Result<(), Error> {
        let lr = self.lr[0];
        pulp::Arch::new().dispatch(|| {
            for (k, g) in keys.iter().zip(g.chunks_exact(t.dim)) {
                let mut r = t.rows[*k as usize].lock().unwrap();
                let (w, s) = r.split_at_mut(t.dim);
                for ((w, s), &g) in w.iter_mut().zip(s).zip(g) {
                    *s += g * g;
                    *w -= lr * g / (s.sqrt() + 1e-10);
                }
            }
        });
        Ok(())
    }
    pub fn set_learning_rate(&mut self, _t: &Table, lr: f32) {
        self.lr[0] = lr
    }
    pub fn all_reduce_sum(&mut self, v: &mut [f64]) -> Result<(), Error> {
        {
            let mut s = self.sums.lock().unwrap();
            if s.2 == 0 {
                s.0 = vec![0.0; v.len()];
            }
            for (a, b) in s.0.iter_mut().zip(v.iter()) {
                *a += b;
            }
            s.2 += 1;
            if s.2 == self.workers {
                s.1 = std::mem::take(&mut s.0);
                s.2 = 0;
            }
        }
        self.barrier.wait();
        v.copy_from_slice(&self.sums.lock().unwrap().1);
        self.barrier.wait();
        Ok(())
    }
    pub fn barrier(&mut self) -> Result<(), Error> {
        self.barrier.wait();
        Ok(())
    }
    pub fn advance_clock(&mut self) {
        self.clock += 1;
        if self.stop_after == Some(self.clock) {
            self.stop.store(true, Ordering::SeqCst);
        }
    }
    pub fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}
