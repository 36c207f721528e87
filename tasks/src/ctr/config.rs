//! Settings of a click-through training, and the recipes that are its defaults.

use serde::{Deserialize, Serialize};
use sterna::Optimizer;

use super::Clicks;
use super::interaction::RowParts;
use crate::task::{RunConfig, TaskError};

/// Which model predicts the clicks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Logistic regression.
    Lr,
    /// Factorisation machine (Rendle 2010).
    Fm,
    /// Wide & Deep (Cheng et al. 2016).
    WideDeep,
    /// `DeepFM` (Guo et al. 2017).
    #[serde(rename = "deepfm")]
    DeepFm,
    /// Deep & Cross Network, version 2 (Wang et al. 2021), cross and tower side by side.
    #[serde(rename = "dcn-v2")]
    DcnV2,
}

impl ModelKind {
    /// All models.
    pub const ALL: [Self; 5] = [Self::Lr, Self::Fm, Self::WideDeep, Self::DeepFm, Self::DcnV2];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lr => "lr",
            Self::Fm => "fm",
            Self::WideDeep => "wide-deep",
            Self::DeepFm => "deepfm",
            Self::DcnV2 => "dcn-v2",
        }
    }

    /// Whether it has a tower, and so needs the same fields in every example.
    #[must_use]
    pub const fn is_deep(self) -> bool {
        matches!(self, Self::WideDeep | Self::DeepFm | Self::DcnV2)
    }
}

/// How gradients change the rows of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RowOptimizer {
    /// Adagrad with an accumulator per value.
    Adagrad,
    /// Adagrad with one accumulator per row: less memory, quality close to it.
    RowAdagrad,
    /// Adam.
    Adam,
    /// FTRL-proximal: with a penalty, features that tell nothing have weights of exactly 0.
    Ftrl,
    /// Plain gradient descent.
    Sgd,
}

impl RowOptimizer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Adagrad, Self::RowAdagrad, Self::Adam, Self::Ftrl, Self::Sgd];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adagrad => "adagrad",
            Self::RowAdagrad => "row-adagrad",
            Self::Adam => "adam",
            Self::Ftrl => "ftrl",
            Self::Sgd => "sgd",
        }
    }

    const fn optimizer(self, lr: f32, initial: f32, l1: f32) -> Optimizer {
        /// As [`Optimizer::adagrad`] has it.
        const EPS: f32 = 1e-10;
        match self {
            Self::Adagrad => Optimizer::Adagrad { lr, eps: EPS, initial },
            Self::RowAdagrad => Optimizer::RowAdagrad { lr, eps: EPS, initial },
            Self::Adam => Optimizer::adam(lr),
            Self::Ftrl => Optimizer::Ftrl { lr, beta: 1.0, l1, l2: 0.0 },
            Self::Sgd => Optimizer::sgd(lr),
        }
    }
}

/// All settings of a training. Start from [`CtrConfig::for_clicks`] and change what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtrConfig {
    /// The model.
    pub model: ModelKind,
    /// Dimension of embeddings; logistic regression has none.
    pub dim: usize,
    /// Outputs of the tower's hidden layers.
    pub hidden: Vec<usize>,
    /// Layers of the cross network.
    pub cross_layers: usize,
    /// Whether hidden layers normalise over the batch.
    pub batch_norm: bool,
    /// Probability of dropping an output of a hidden layer while training.
    pub dropout: f32,
    /// How gradients change the rows of features.
    pub optimizer: RowOptimizer,
    /// Learning rate of the rows of features.
    pub learning_rate: f32,
    /// What Adagrad's sums of squared gradients start from. Gradients are those of a batch's mean loss, so 1 / batch^2 makes the
    /// first examples of a rare feature step as plain descent would, and 0 makes each first step as large as the rate.
    pub initial_accumulator: f32,
    /// Learning rate of dense parameters, by Adam; a model without a tower steps its bias as it does rows.
    pub dense_learning_rate: f32,
    /// Weight of the squares of a row's values, added once per batch for each row that the batch uses.
    pub l2: f32,
    /// FTRL's weight of values' absolute sum, beside gradients of a batch's mean loss.
    pub l1: f32,
    /// Standard deviation of embeddings at the start.
    pub init_std: f32,
    /// Examples in a batch of one worker; 0 picks by model and number of workers.
    pub batch: usize,
    /// Whether training is steered by the log loss and not by AUC.
    pub by_log_loss: bool,
    /// The settings that all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
}

impl CtrConfig {
    /// The recipe of a model. They were found on Frappe (202,027 examples of 10 fields, 5,382 features); the mean loss of
    /// a batch is what is stepped by, so L2 and learning rates go with the batch size.
    #[must_use]
    pub fn of(model: ModelKind) -> Self {
        let run = RunConfig { epochs: 40, patience: 3, keep_best: true, ..RunConfig::default() };
        let deep = Self {
            model,
            dim: 16,
            hidden: vec![128, 64],
            cross_layers: 2,
            batch_norm: true,
            dropout: 0.3,
            optimizer: RowOptimizer::Adagrad,
            learning_rate: 0.1,
            initial_accumulator: 0.0,
            dense_learning_rate: 1e-3,
            l2: 2e-4,
            l1: 1e-6,
            init_std: 0.1,
            batch: 0,
            by_log_loss: false,
            run,
        };
        match model {
            ModelKind::Lr => Self {
                l2: 3e-5,
                by_log_loss: true,
                run: RunConfig { patience: 5, ..deep.run.clone() },
                ..deep
            },
            ModelKind::Fm => Self { l2: 0.0, init_std: 0.01, ..deep },
            ModelKind::DeepFm => Self { batch_norm: false, ..deep },
            ModelKind::WideDeep | ModelKind::DcnV2 => deep,
        }
    }

    /// The recipe of a model for a data set: [`CtrConfig::of`], and gentler where most features are rare, as in Criteo's and
    /// Avazu's logs. There large steps learn rare features by heart in one epoch.
    ///
    /// Found on a million generated clicks, where it is worth 0.05 of a factorisation machine's AUC.
    #[must_use]
    pub fn for_clicks(model: ModelKind, clicks: &Clicks) -> Self {
        /// Frappe has 38 examples for each feature.
        const EXAMPLES_PER_FEATURE: usize = 25;
        let recipe = Self::of(model);
        if clicks.train.len() / EXAMPLES_PER_FEATURE >= clicks.features {
            return recipe;
        }
        Self {
            learning_rate: 0.02,
            initial_accumulator: 1e-6,
            l2: if model == ModelKind::Lr { recipe.l2 } else { 1e-4 },
            init_std: 0.01,
            run: RunConfig { epochs: 10, patience: 1, ..recipe.run.clone() },
            ..recipe
        }
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        const LAYERS_MAX: usize = 64;
        self.run.check()?;
        if self.dim == 0 && self.model != ModelKind::Lr {
            return Err(TaskError::setting("dim", &self.dim, "must be at least 1"));
        }
        if self.model.is_deep() {
            let reason = "needs 1 to 64 layers of at least one output";
            if !(1..=LAYERS_MAX).contains(&self.hidden.len()) || self.hidden.contains(&0) {
                return Err(TaskError::setting("hidden", &format!("{:?}", self.hidden), reason));
            }
            if self.model == ModelKind::DcnV2 && !(1..=LAYERS_MAX).contains(&self.cross_layers) {
                return Err(TaskError::setting(
                    "cross_layers",
                    &self.cross_layers,
                    "must be 1 to 64",
                ));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(TaskError::setting("dropout", &self.dropout, "must be in 0..1"));
        }
        let amounts = [
            ("learning_rate", self.learning_rate, f32::MIN_POSITIVE),
            ("dense_learning_rate", self.dense_learning_rate, f32::MIN_POSITIVE),
            ("initial_accumulator", self.initial_accumulator, 0.0),
            ("l2", self.l2, 0.0),
            ("init_std", self.init_std, 0.0),
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                let reason = "must be a finite number, not negative";
                return Err(TaskError::setting(name, &value, reason));
            }
        }
        Ok(())
    }

    /// Examples in a batch of one worker when the job has so many workers.
    #[must_use]
    pub fn batch_for(&self, workers: usize) -> usize {
        const RECIPE: usize = 1024;
        const LEAST: usize = 128;
        match self.batch {
            // Workers see each other's batches late. Factorisation machines suffer when many examples are under way together;
            // the others suffer more from small batches, which weaken L2, and let Adam take more steps and batch norm see less.
            0 if self.model == ModelKind::Fm => (RECIPE / workers.max(1)).max(LEAST),
            0 => RECIPE,
            batch => batch,
        }
    }

    pub(super) const fn row_parts(&self) -> RowParts {
        RowParts {
            dim: if matches!(self.model, ModelKind::Lr) { 0 } else { self.dim },
            linear: !matches!(self.model, ModelKind::DcnV2),
            pairs: matches!(self.model, ModelKind::Fm | ModelKind::DeepFm),
        }
    }

    pub(super) const fn row_optimizer(&self) -> Optimizer {
        self.optimizer.optimizer(self.learning_rate, self.initial_accumulator, self.l1)
    }

    pub(super) const fn dense_optimizer(&self) -> Optimizer {
        if self.model.is_deep() {
            Optimizer::adam(self.dense_learning_rate)
        } else {
            self.row_optimizer()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clicks, CtrConfig, ModelKind};
    use crate::task::TaskError;

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Change = fn(&mut CtrConfig);
        let cases: [(&str, Change); 6] = [
            ("dim", |c| c.dim = 0),
            ("hidden", |c| c.hidden = vec![64, 0]),
            ("cross_layers", |c| c.cross_layers = 0),
            ("dropout", |c| c.dropout = 1.0),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("l2", |c| c.l2 = f32::NAN),
        ];
        for model in ModelKind::ALL {
            assert!(CtrConfig::of(model).check().is_ok());
        }
        for (expected, change) in cases {
            let mut config = CtrConfig::of(ModelKind::DcnV2);
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn batches_get_smaller_with_workers_for_factorisation_machines() {
        let batch = |model, workers| CtrConfig::of(model).batch_for(workers);
        assert_eq!([1, 4, 100].map(|workers| batch(ModelKind::Fm, workers)), [1024, 256, 128]);
        assert_eq!(batch(ModelKind::DeepFm, 4), 1024);
        assert_eq!(CtrConfig { batch: 7, ..CtrConfig::of(ModelKind::Lr) }.batch_for(4), 7);
    }

    #[test]
    fn rare_features_get_gentler_steps() {
        let mut clicks = Clicks { features: 4, ..Clicks::default() };
        for number in 0..100 {
            clicks.train.feature(number % 4, 1.0);
            clicks.train.end(true);
        }
        let rate = |clicks: &Clicks| CtrConfig::for_clicks(ModelKind::Fm, clicks).learning_rate;
        let usual = CtrConfig::of(ModelKind::Fm).learning_rate;
        assert_eq!(rate(&clicks), usual);
        clicks.features = 5;
        assert!(rate(&clicks) < usual);
    }

    #[test]
    fn names_are_those_of_serialised_settings() {
        for model in ModelKind::ALL {
            assert_eq!(serde_json::json!(model), model.name());
        }
        for optimizer in super::RowOptimizer::ALL {
            assert_eq!(serde_json::json!(optimizer), optimizer.name());
        }
    }
}
