//! The recipes that were found to work, by data set and model.

use sterna::sampling::Scheme;

use super::{KgeConfig, ModelKind, OptimizerKind, Regularizer};
use crate::kge::data::wn18rr;
use crate::kge::{Graph, LossKind};
use crate::task::RunConfig;

impl KgeConfig {
    /// The best recipe known for this model on the graph's data set, or plain defaults if the set is
    /// unknown.
    #[must_use]
    pub fn for_graph(graph: &Graph, model: ModelKind) -> Self {
        let counts = graph.counts();
        if graph.name.eq_ignore_ascii_case(wn18rr::NAME) {
            Self::wn18rr(model)
        } else if (counts.entities, counts.relations, counts.train) == (14_541, 237, 272_115) {
            // By its counts and not its folder's name, which people spell in many ways.
            Self::fb15k_237(model)
        } else {
            Self::of_model(model)
        }
    }

    /// For WN18RR.
    #[must_use]
    pub fn wn18rr(model: ModelKind) -> Self {
        let plain = Self::of_model(model);
        match model {
            ModelKind::ComplEx => Self { dim: 200, run: epochs(20), ..plain },
            ModelKind::DistMult => plain,
            ModelKind::Rescal => Self { run: epochs(25), ..plain },
            // A small pool: with more negatives the answer's rivals crowd out what it is close to.
            ModelKind::TransE => Self { negatives: 256, batch: 512, run: epochs(24), ..plain },
            ModelKind::RotatE => Self { dim: 256, init_std: 0.02, run: epochs(40), ..plain },
        }
    }

    /// For FB15k-237.
    #[must_use]
    pub fn fb15k_237(model: ModelKind) -> Self {
        let plain = Self { batch: 512, valid_max: 3_000, ..Self::of_model(model) };
        let dura = Self { lambda_entity: 0.05, lambda_relation: 0.05, ..plain.clone() };
        match model {
            ModelKind::ComplEx => Self {
                dim: 200,
                run: epochs(22),
                batch: 1024,
                regularizer: Regularizer::N3,
                lambda_entity: 0.1,
                lambda_relation: 0.05,
                init_std: 0.001,
                ..plain
            },
            ModelKind::DistMult | ModelKind::Rescal => Self { run: epochs(16), ..dura },
            ModelKind::TransE => {
                Self { batch: 256, learning_rate: 0.1, init_std: 0.01, run: epochs(16), ..plain }
            }
            ModelKind::RotatE => Self {
                dim: 200,
                batch: 256,
                margin: 9.0,
                temperature: 1.0,
                init_std: 0.06,
                run: RunConfig { valid_every: 20, ..epochs(60) },
                ..plain
            },
        }
    }

    /// For a middling graph of some ten thousand entities.
    fn of_model(model: ModelKind) -> Self {
        let plain = Self { model, ..Self::default() };
        match model {
            ModelKind::ComplEx | ModelKind::DistMult => plain,
            ModelKind::Rescal => Self { dim: 128, ..plain },
            ModelKind::TransE => Self {
                correction: false,
                regularizer: Regularizer::None,
                learning_rate: 0.2,
                init_std: 0.05,
                ..plain
            },
            ModelKind::RotatE => Self {
                dim: 100,
                reciprocal: false,
                negatives: 256,
                loss: LossKind::SelfAdversarial,
                margin: 6.0,
                temperature: 0.5,
                correction: false,
                regularizer: Regularizer::None,
                init_std: 0.04,
                ..plain
            },
        }
    }
}

impl Default for KgeConfig {
    /// ComplEx for a middling graph of some ten thousand entities.
    fn default() -> Self {
        Self {
            run: epochs(30),
            model: ModelKind::ComplEx,
            dim: 256,
            reciprocal: true,
            batch: 0,
            negatives: 1000,
            sampling: Scheme::Local,
            loss: LossKind::Softmax,
            margin: 0.0,
            temperature: 1.0,
            one_vs_all: false,
            optimizer: OptimizerKind::Adagrad,
            learning_rate: 0.1,
            regularizer: Regularizer::Dura,
            lambda_entity: 0.1,
            lambda_relation: 0.1,
            dropout_entity: 0.0,
            dropout_relation: 0.0,
            init_std: 0.1,
            correction: true,
            valid_max: 0,
        }
    }
}

fn epochs(epochs: u32) -> RunConfig {
    RunConfig { epochs, valid_every: 5, patience: 3, ..RunConfig::default() }
}
