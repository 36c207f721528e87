//! The two tables of a model: how long their rows are, how they start, how gradients change them.

use sterna::{Init, Optimizer, TableSpec};

use super::step::relation_rows;
use super::{Graph, KgeConfig, ModelKind, OptimizerKind};

/// The tables of entities and of relations.
#[must_use]
pub(super) fn specs(graph: &Graph, config: &KgeConfig) -> [TableSpec; 2] {
    let optimizer = match config.optimizer {
        OptimizerKind::Adagrad => Optimizer::adagrad(config.learning_rate),
        OptimizerKind::Adam => Optimizer::adam(config.learning_rate),
    };
    let normal = Init::Normal { std: config.init_std };
    let relations = match config.model {
        // All directions alike.
        ModelKind::RotatE => {
            Init::Uniform { low: -std::f32::consts::PI, high: std::f32::consts::PI }
        }
        _ => normal,
    };
    let (model, dim) = (config.model, config.dim);
    let parts = model.relation_parts(dim);
    let relation_keys = (relation_rows(config, graph.relations.len()) * parts) as u64;
    let entity = TableSpec::new("entity", graph.entities.len() as u64, model.row_len(dim));
    let relation = TableSpec::new("relation", relation_keys, model.relation_len(dim) / parts);
    [entity.init(normal), relation.init(relations)].map(|spec| spec.optimizer(optimizer))
}
