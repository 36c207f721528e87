//! Sterna: an RDMA-native, adaptive parameter manager for distributed machine learning.
//!
//! ```
//! use sterna::{Init, Node, NodeConfig, Optimizer, TableSpec};
//!
//! # fn main() -> sterna::Result<()> {
//! let node = Node::start(NodeConfig::with_workers(1))?;
//! let spec = TableSpec::new("entity", 1000, 4)
//!     .optimizer(Optimizer::adagrad(0.1))
//!     .init(Init::Normal { std: 0.05 });
//! let entity = node.create_table(spec)?;
//! let mut worker = node.worker(0)?;
//! let keys = [3, 999, 3];
//! let mut values = [0.0; 12];
//! worker.pull(&entity, &keys, &mut values)?;
//! worker.push(&entity, &keys, &[0.1; 12])?;
//! worker.barrier()?;
//! println!("{}", node.report());
//! # Ok(())
//! # }
//! ```

mod clocks;
mod config;
mod error;
mod inspect;
mod keys;
mod knobs;
mod meeting;
pub mod metrics;
mod node;
mod pace;
mod policy;
mod remote;
pub mod sampling;
mod table;
mod trial;
mod worker;

pub use config::{NodeConfig, WORKERS_MAX};
pub use error::{Error, Result};
#[doc(hidden)]
pub use inspect::{Holding, Inspection};
pub use knobs::{Act, Knob, Knobs};
pub use metrics::{REPORT_VERSION, Report};
pub use node::{Node, Stopper, TABLES_MAX};
#[doc(hidden)]
pub use pace::Pace;
pub use policy::Policy;
pub use sterna_kernels::{ElementType, Init, Optimizer};
pub use sterna_protocol::{Clock, Rank};
pub use sterna_rdma::{FabricConfig, ProviderChoice};
pub use table::{Table, TableSpec};
pub use worker::{Ticket, Worker};
