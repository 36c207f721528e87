//! Random keys of a table, with their rows: negative examples, contrastive pairs, noise.
//!
//! Where an algorithm asks for random keys and not for certain ones, the manager may choose which: that is what makes samples cheap on many nodes
//! (`NuPS`: Renz-Wieland et al., SIGMOD 2022, section 4). A worker prepares a sample some time before it uses it, says when, and pulls it piece
//! by piece. What it then gets depends on the [`Scheme`], and each scheme says what may be relied on:
//!
//! | scheme | keys are chosen | rows | conformity |
//! | --- | --- | --- | --- |
//! | `naive` | when pulled | read from wherever they are | CONFORM: independent draws from the distribution |
//! | `preloc` | when prepared | here when pulled | CONFORM |
//! | `pool:U` | when prepared; each draw is used U times | here, U times as seldom brought | BOUNDED by U |
//! | `postpone:U` | as `pool:U`; a key that is not here comes later | here | LONG-TERM: the right proportions in the long run |
//! | `local` | when pulled, among the keys that are here | here | NON-CONFORM: the distribution of the keys that are here |
//!
//! `local` draws from the distribution until it meets a key whose row is here, so that keys that are here come in their true proportions to each
//! other, whatever their neighbours are (walking on to the next local key would favour those behind gaps). A worker that needs the probability
//! with which a key was proposed, for importance weights or the correction of a sampled softmax, divides [`Distribution::probability`] by
//! [`Sampler::local_share`].
//!
//! ```
//! # use sterna::{Node, NodeConfig, TableSpec};
//! use sterna::sampling::{Distribution, Sampling, Scheme};
//!
//! # fn main() -> sterna::Result<()> {
//! # let node = Node::start(NodeConfig::with_workers(1))?;
//! # let words = node.create_table(TableSpec::new("words", 1000, 8))?;
//! # let mut worker = node.worker(0)?;
//! # let counts = vec![3; 1000];
//! let noise = Distribution::unigram(0, &counts)?; // once for all workers: clones share it
//! let noise = Sampling::new(noise).scheme(Scheme::pool(16));
//! let mut noise = worker.sampler(&words, noise)?;
//! let now = worker.clock().0;
//! let mut sample = worker.prepare_sample(&mut noise, 100, now..now + 1)?;
//! let (mut keys, mut rows) = ([0; 5], [0.0; 5 * 8]);
//! worker.pull_sample(&mut noise, &mut sample, &mut keys, &mut rows)?; // as often as needed, up to 100 keys
//! # Ok(())
//! # }
//! ```

mod ahead;
mod alias;
mod distribution;
mod pool;
mod sampler;
mod scheme;

pub use distribution::Distribution;
pub use sampler::{Sample, Sampler};
pub use scheme::{Conformity, Sampling, Scheme};
