//! Tables: what the user asks for, and the handle that all calls take.

use std::fmt;
use std::sync::Arc;

use sterna_kernels::{ElementType, Init, Optimizer, RowShape};
use sterna_protocol::record::payload_bytes_max;
use sterna_protocol::{Key, Rank, TableId};
use sterna_rdma::RECORD_BYTES_MAX;
use sterna_store::{BlockPool, RowTable, TableShape};

use crate::error::{Error, Result};
use crate::remote::PeerChunks;

/// The longest name of a table, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// A table to make: a name, keys `0..keys`, rows of `dim` values.
///
/// A row travels in one record, so neither a row (values and optimizer state) nor an update of it may take more than about 248 KiB
/// ([`Node::create_table`](crate::Node::create_table) tells the exact limit of the one that does). An update is the values' differences
/// and what the optimizer's state needs: 4 bytes a value for SGD, 8 for momentum. The other optimizers also have room for eight gradients
/// of rows that are not here: 40 bytes a value for Adagrad, 36 for row-wise Adagrad, 44 for Adam. So rows may have about 63,000 values with
/// SGD, 31,000 with momentum, 6,300 with Adagrad, 7,000 with row-wise Adagrad and 5,700 with Adam.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSpec {
    pub(crate) name: String,
    pub(crate) keys: u64,
    pub(crate) dim: usize,
    pub(crate) element: ElementType,
    pub(crate) optimizer: Optimizer,
    pub(crate) init: Init,
    pub(crate) check_finite: bool,
    pub(crate) hot: HotKeys,
}

/// Keys that policy `mixed` replicates everywhere.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct HotKeys(pub(crate) Arc<[u64]>);

impl fmt::Debug for HotKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All nodes must name the same keys; a digest tells as much.
        let mix = |sum: u64, key: &u64| (sum ^ key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        write!(f, "{} keys, digest {:x}", self.0.len(), self.0.iter().fold(0, mix))
    }
}

impl TableSpec {
    /// A table of zeros with plain gradient descent, learning rate 0.01.
    #[must_use]
    pub fn new(name: impl Into<String>, keys: u64, dim: usize) -> Self {
        Self {
            name: name.into(),
            keys,
            dim,
            element: ElementType::F32,
            optimizer: Optimizer::sgd(0.01),
            init: Init::Zeros,
            check_finite: false,
            hot: HotKeys::default(),
        }
    }

    /// The type that values are kept in; what calls give and take is `f32`.
    #[must_use]
    pub fn element(mut self, element: ElementType) -> Self {
        self.element = element;
        self
    }

    /// How gradients change rows.
    #[must_use]
    pub fn optimizer(mut self, optimizer: Optimizer) -> Self {
        self.optimizer = optimizer;
        self
    }

    /// What rows hold at the start.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// Refuses updates that hold a NaN or an infinity.
    #[must_use]
    pub fn check_finite(mut self, check: bool) -> Self {
        self.check_finite = check;
        self
    }

    /// Keys that are used far more often than others: policy `mixed` keeps a replica of each at every node. Other policies find out
    /// by themselves.
    #[must_use]
    pub fn hot(mut self, keys: impl IntoIterator<Item = u64>) -> Self {
        self.hot = HotKeys(keys.into_iter().collect());
        self
    }

    /// Number of keys; they are `0..keys`.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Values of a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes that a row takes at the node that holds it: values, optimizer state, header, and its place in the directory.
    ///
    /// # Errors
    /// For a specification that cannot work.
    pub fn bytes_per_key(&self) -> Result<usize> {
        self.validate()?;
        Ok(slot_shape(self, 1)?.slot_bytes() + size_of::<u64>())
    }

    pub(crate) fn shape(&self) -> RowShape {
        RowShape { optimizer: self.optimizer, dim: self.dim }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let fault = |reason: &str| {
            Err(Error::Table { table: self.name.clone(), reason: reason.to_owned() })
        };
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return fault("a name has 1 to 64 bytes");
        }
        if self.keys == 0 {
            return fault("a table has at least one key");
        }
        if self.dim == 0 {
            return fault("a row has at least one value");
        }
        if let Optimizer::Ftrl { lr, beta, l1, l2 } = self.optimizer {
            let positive = |x: f32| x.is_finite() && x > 0.0;
            if !(positive(lr) && positive(beta) && l1 >= 0.0 && l2 >= 0.0) {
                return fault("FTRL's learning rate and beta are above 0, its penalties not below");
            }
        }
        if let Some(key) = self.hot.0.iter().find(|&&key| key >= self.keys) {
            return fault(&format!("hot key {key}: there are {}", self.keys));
        }
        Ok(())
    }
}

/// A table of a node; cheap to clone.
#[derive(Clone)]
pub struct Table(pub(crate) Arc<TableState>);

pub(crate) struct TableState {
    pub(crate) spec: TableSpec,
    pub(crate) shape: RowShape,
    pub(crate) rows: RowTable,
    /// Blocks for updates of rows of other homes.
    pub(crate) pool: BlockPool,
    /// Where other nodes keep their rows.
    pub(crate) peers: PeerChunks,
    /// The node that made it: a handle is of use there only.
    pub(crate) node: usize,
}

impl Table {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.spec.name
    }

    /// Number of keys; they are `0..keys`.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.0.spec.keys
    }

    /// Values of a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.0.spec.dim
    }

    /// The type that values are kept in.
    #[must_use]
    pub fn element(&self) -> ElementType {
        self.0.spec.element
    }

    /// Floats of a row: values, then optimizer state.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.0.shape.row_len()
    }

    /// The node that always has room for a key's row and knows where it is.
    ///
    /// # Panics
    /// If the table has no such key.
    #[must_use]
    pub fn home(&self, key: u64) -> Rank {
        self.0.rows.placement().locate(Key(key)).expect("a key of the table").home
    }

    /// How gradients change rows.
    #[must_use]
    pub fn optimizer(&self) -> Optimizer {
        self.0.spec.optimizer
    }

    /// Bytes of row and directory memory that this node holds for the table's home keys.
    #[must_use]
    pub fn bytes_at_home(&self) -> usize {
        let rows = &self.0.rows;
        rows.chunks_needed() * rows.shape().chunk_bytes()
            + rows.directory().chunks_needed() * rows.directory().chunk_bytes()
    }

    /// Whether a row is at this node now, as main copy or as replica.
    pub(crate) fn is_here(&self, key: u64) -> bool {
        self.0.rows.slot(Key(key)).is_some_and(|slot| {
            let (found, meta) = slot.header();
            found == Key(key) && meta.state().readable()
        })
    }

    pub(crate) fn id(&self) -> TableId {
        self.0.rows.id()
    }

    /// Checks every key.
    pub(crate) fn check_keys(&self, keys: &[Key]) -> Result<()> {
        // One pass without a branch per key; which key it was matters only in the error.
        let largest = keys.iter().map(|key| key.0).max().unwrap_or(0);
        if largest >= self.keys() {
            let key = keys.iter().map(|key| key.0).find(|&key| key >= self.keys());
            return Err(Error::KeyOutOfRange {
                table: self.name().to_owned(),
                key: key.expect("the largest is out of range"),
                keys: self.keys(),
            });
        }
        Ok(())
    }

    /// Checks that a buffer holds `floats` floats for each key.
    pub(crate) fn check_len(&self, keys: usize, floats: usize, found: usize) -> Result<()> {
        let expected = keys.saturating_mul(floats);
        if expected == found {
            return Ok(());
        }
        let table = self.name().to_owned();
        Err(Error::WrongLength { table, keys, floats, expected, found })
    }

    /// Checks that values are finite, if the table asks for it.
    /// An error if values follow from the optimizer's state.
    pub(crate) fn check_additions(&self) -> Result<()> {
        if self.optimizer().takes_additions() {
            return Ok(());
        }
        let reason =
            "its values follow from FTRL's state: push gradients, or set values".to_owned();
        Err(Error::Table { table: self.name().to_owned(), reason })
    }

    pub(crate) fn check_finite(&self, keys: &[Key], floats: usize, values: &[f32]) -> Result<()> {
        if !self.0.spec.check_finite {
            return Ok(());
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::NotFinite {
                table: self.name().to_owned(),
                key: keys[at / floats].0,
                index: at % floats,
                value: values[at],
            }),
        }
    }

    pub(crate) fn busy(&self, key: Key) -> Error {
        Error::Busy { table: self.name().to_owned(), key: key.0 }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.0.spec).finish()
    }
}

/// The form of a table's slots at every node.
pub(crate) fn slot_shape(spec: &TableSpec, slots_most: u32) -> Result<TableShape> {
    let shape = spec.shape();
    let travels = |dim: usize| {
        let shape = RowShape { dim, ..shape };
        shape.update_bytes_max().max(shape.row_len() * size_of::<f32>())
    };
    let most = payload_bytes_max(RECORD_BYTES_MAX);
    if travels(shape.dim) > most {
        // What travels grows by the same number of bytes with each value.
        let fits = (most - travels(0)) / (travels(1) - travels(0));
        let reason = format!(
            "a row of {} values with {}, or an update of it, takes up to {} bytes, {most} fit a record: use at most {fits} values, \
             or split rows over keys",
            shape.dim,
            shape.optimizer.name(),
            travels(shape.dim)
        );
        return Err(Error::Table { table: spec.name.clone(), reason });
    }
    TableShape::new(spec.element, shape.dim, shape.state_len(), slots_most)
        .map_err(|error| Error::Table { table: spec.name.clone(), reason: error.to_string() })
}
