//! Dense parameters as rows of a table.
//!
//! [`Layout`] lays named parts (weights, biases, running statistics) out over one flat buffer of whole rows; the
//! table of that many rows is one that every worker wants for ever. [`DenseRows`] is a worker's copy: it pulls all
//! rows, and pushes the gradients that were found.
//!
//! ```text
//! | weight | pad | bias | pad | .. | running mean | pad | running variance | pad | ..
//! |<---------- pushed: a step of the optimizer ------->|<-- added: a move of their own -->|
//! ```

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Optimizer, TableSpec};

use crate::task::{Export, Parameters, TaskError};

/// Floats of a row: few enough for many keys, which spread over nodes, and enough to copy fast.
const WIDTH: usize = 64;

/// What a part holds at the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Uniform in `-bound..bound`. PyTorch's linear layers start with `1 / sqrt(inputs)`.
    Uniform {
        /// The bound.
        bound: f32,
    },
}

impl Start {
    /// PyTorch's start of a linear layer's weight and bias, `1 / sqrt(inputs)`.
    #[must_use]
    pub fn linear(inputs: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "layers are small")]
        let bound = 1.0 / (inputs.max(1) as f32).sqrt();
        Self::Uniform { bound }
    }

    /// The start of Glorot and Bengio 2010 for a matrix: uniform with bound `sqrt(6 / (inputs + outputs))`.
    #[must_use]
    pub fn glorot(inputs: usize, outputs: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "layers are small")]
        let bound = (6.0 / ((inputs + outputs).max(1) as f32)).sqrt();
        Self::Uniform { bound }
    }
}

/// Names a part of [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartId(usize);

/// A named part.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its name in exports, such as `tower.0.weight`.
    pub name: String,
    /// Its shape; a matrix is kept row by row.
    pub shape: Vec<usize>,
    start: Start,
    is_statistic: bool,
    /// First float among the parts of its kind.
    first: usize,
}

impl Part {
    /// Number of floats.
    #[must_use]
    pub fn floats(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The dense parameters of a model: their names and shapes, and where each lies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    parts: Vec<Part>,
    /// Floats of trained parts and of statistics, both whole rows.
    floats: [usize; 2],
}

impl Layout {
    /// A layout without parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part that the optimizer trains.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], start: Start) -> PartId {
        self.append(name.into(), shape, start, false)
    }

    /// Adds a part that is moved by additions: its "gradient" is what to add.
    pub fn add_statistic(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        start: Start,
    ) -> PartId {
        self.append(name.into(), shape, start, true)
    }

    fn append(
        &mut self,
        name: String,
        shape: &[usize],
        start: Start,
        is_statistic: bool,
    ) -> PartId {
        let floats = &mut self.floats[usize::from(is_statistic)];
        let part = Part { name, shape: shape.to_vec(), start, is_statistic, first: *floats };
        *floats += part.floats().next_multiple_of(WIDTH);
        self.parts.push(part);
        PartId(self.parts.len() - 1)
    }

    /// Whether there is no part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Rows of the table.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.floats() / WIDTH
    }

    /// Floats of the flat buffer that the optimizer steps, those before the statistics.
    #[must_use]
    pub fn trained_floats(&self) -> usize {
        self.floats[0]
    }

    /// Floats of the flat buffer, padding included.
    #[must_use]
    pub fn floats(&self) -> usize {
        self.floats[0] + self.floats[1]
    }

    /// The table for these parameters, zeros until [`Layout::start`].
    #[must_use]
    pub fn table(&self, name: &str, optimizer: Optimizer) -> TableSpec {
        TableSpec::new(name, self.rows() as u64, WIDTH).optimizer(optimizer)
    }

    /// All parts with where they are in the flat buffer, in the order in which they were added.
    pub fn parts(&self) -> impl Iterator<Item = (&Part, Range<usize>)> {
        (0..self.parts.len()).map(|index| (&self.parts[index], self.range(PartId(index))))
    }

    /// Where a part is in the flat buffer.
    #[must_use]
    pub fn range(&self, id: PartId) -> Range<usize> {
        let part = &self.parts[id.0];
        let first = part.first + if part.is_statistic { self.floats[0] } else { 0 };
        first..first + part.floats()
    }

    /// A part of the flat buffer.
    #[must_use]
    pub fn part<'b>(&self, id: PartId, buffer: &'b [f32]) -> &'b [f32] {
        &buffer[self.range(id)]
    }

    /// A part of the flat buffer, to write.
    #[must_use]
    pub fn part_mut<'b>(&self, id: PartId, buffer: &'b mut [f32]) -> &'b mut [f32] {
        &mut buffer[self.range(id)]
    }

    /// Two parts of the flat buffer, to write.
    ///
    /// # Panics
    /// If they are the same.
    #[must_use]
    pub fn two_mut<'b>(
        &self,
        ids: [PartId; 2],
        buffer: &'b mut [f32],
    ) -> (&'b mut [f32], &'b mut [f32]) {
        let parts = buffer.get_disjoint_mut(ids.map(|id| self.range(id)));
        let [one, other] = parts.expect("two different parts");
        (one, other)
    }

    /// The flat buffer at the start. The same seed gives the same.
    #[must_use]
    pub fn start_values(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.floats()];
        for (index, part) in self.parts.iter().enumerate() {
            // Each part its own stream: a part added later changes no other.
            let stream = seed ^ (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut random = Xoshiro256PlusPlus::seed_from_u64(stream);
            let values = self.part_mut(PartId(index), &mut values);
            match part.start {
                Start::Zeros => {}
                Start::Ones => values.fill(1.0),
                Start::Uniform { bound } => {
                    values
                        .iter_mut()
                        .for_each(|value| *value = random.random_range(-bound..=bound));
                }
            }
        }
        values
    }

    /// Writes the values of the start to the table of this number. One worker of the job calls it, before a barrier.
    ///
    /// # Errors
    /// As [`Parameters::set`].
    pub fn start(
        &self,
        seed: u64,
        table: usize,
        parameters: &mut Parameters<'_>,
    ) -> sterna::Result<()> {
        let keys: Vec<u64> = (0..self.rows() as u64).collect();
        parameters.set(table, &keys, &self.start_values(seed))
    }

    /// Exports each part, trained or a statistic, under its own name; a vector as a matrix of one row.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn export(&self, table: usize, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        let keys: Vec<u64> = (0..self.rows() as u64).collect();
        let mut values = vec![0.0; self.floats()];
        export.parameters().pull(table, &keys, &mut values)?;
        for (part, range) in self.parts() {
            let columns = part.shape.last().copied().unwrap_or(1);
            export.values(&part.name, columns, values[range].to_vec());
        }
        Ok(())
    }
}

/// A worker's copy of dense parameters.
#[derive(Debug)]
pub struct DenseRows {
    keys: Vec<u64>,
    /// Rows that the optimizer steps; the others are moved by additions.
    trained: usize,
    /// The flat buffer as of the last pull.
    pub values: Vec<f32>,
    /// Gradients of trained parts and moves of statistics; zeros after each push.
    pub gradients: Vec<f32>,
}

impl DenseRows {
    /// A copy of the rows of a table of this layout; all 0 before the first pull.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        Self {
            keys: (0..layout.rows() as u64).collect(),
            trained: layout.floats[0] / WIDTH,
            values: vec![0.0; layout.floats()],
            gradients: vec![0.0; layout.floats()],
        }
    }

    /// All keys of the table: what every batch intends to use.
    #[must_use]
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Takes the rows of the table of this number as they are now.
    ///
    /// # Errors
    /// As [`Parameters::pull`].
    pub fn pull(&mut self, table: usize, parameters: &mut Parameters<'_>) -> sterna::Result<()> {
        parameters.pull(table, &self.keys, &mut self.values)
    }

    /// Steps trained rows with their gradients, adds the moves of statistics, and clears both.
    ///
    /// # Errors
    /// As [`Parameters::push`].
    pub fn push(&mut self, table: usize, parameters: &mut Parameters<'_>) -> sterna::Result<()> {
        let (trained, statistics) = self.keys.split_at(self.trained);
        let (gradients, moves) = self.gradients.split_at(self.trained * WIDTH);
        parameters.push(table, trained, gradients)?;
        if !statistics.is_empty() {
            parameters.add(table, statistics, moves)?;
        }
        self.gradients.fill(0.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sterna::{Node, NodeConfig, Optimizer};

    use super::{DenseRows, Layout, Start, WIDTH};
    use crate::task::Parameters;

    fn layout() -> (Layout, [super::PartId; 3]) {
        let mut layout = Layout::new();
        let weight = layout.add("weight", &[3, 50], Start::linear(50));
        let mean = layout.add_statistic("mean", &[3], Start::Ones);
        let bias = layout.add("bias", &[3], Start::Zeros);
        (layout, [weight, mean, bias])
    }

    #[test]
    fn parts_begin_at_rows_and_statistics_come_last() {
        let (layout, [weight, mean, bias]) = layout();
        assert_eq!(layout.range(weight), 0..150);
        assert_eq!(layout.range(bias), 192..195);
        assert_eq!(layout.range(mean), 256..259);
        assert_eq!((layout.rows(), layout.floats()), (5, 5 * WIDTH));
    }

    #[test]
    fn starts_are_within_their_bounds_and_follow_the_seed() {
        let (layout, [weight, mean, bias]) = layout();
        let values = layout.start_values(7);
        let bound = 1.0 / 50_f32.sqrt();
        let weights = layout.part(weight, &values);
        assert!(weights.iter().all(|w| w.abs() <= bound));
        assert!(weights.iter().any(|&w| w < -bound / 2.0));
        assert!(weights.iter().any(|&w| w > bound / 2.0));
        assert_eq!(layout.part(mean, &values), [1.0; 3]);
        assert_eq!(layout.part(bias, &values), [0.0; 3]);
        assert_eq!(values, layout.start_values(7));
        assert_ne!(values, layout.start_values(8));
    }

    #[test]
    fn gradients_step_trained_parts_and_moves_are_added_to_statistics() {
        let (layout, [weight, mean, bias]) = layout();
        let node = Node::start(NodeConfig::with_workers(1)).unwrap();
        let table = node.create_table(layout.table("dense", Optimizer::sgd(0.5))).unwrap();
        let (mut worker, tables) = (node.worker(0).unwrap(), [table]);
        let mut parameters = Parameters::new(&mut worker, &tables);
        let mut rows = DenseRows::new(&layout);
        layout.start(1, 0, &mut parameters).unwrap();
        rows.pull(0, &mut parameters).unwrap();
        let before = layout.part(weight, &rows.values)[149];
        let (d_weight, d_bias) = layout.two_mut([weight, bias], &mut rows.gradients);
        (d_weight[149], d_bias[1]) = (1.0, 4.0);
        layout.part_mut(mean, &mut rows.gradients)[2] = 0.25;
        rows.push(0, &mut parameters).unwrap();
        assert!(rows.gradients.iter().all(|&g| g == 0.0));
        rows.pull(0, &mut parameters).unwrap();
        assert_eq!(layout.part(weight, &rows.values)[149], before - 0.5);
        assert_eq!(layout.part(bias, &rows.values), [0.0, -2.0, 0.0]);
        assert_eq!(layout.part(mean, &rows.values), [1.0, 1.0, 1.25]);
    }
}
