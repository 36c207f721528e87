//! What can be chosen by name.

use serde::{Deserialize, Serialize};

/// Which model scores the triples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Trouillon et al. 2016: `Re <h, r, conj(t)>` over complex rows. Asymmetric relations too.
    ComplEx,
    /// Yang et al. 2015: `<h, r, t>` over real rows. Symmetric in head and tail.
    DistMult,
    /// Nickel et al. 2011: `h^T W_r t` with a matrix for each relation.
    Rescal,
    /// Bordes et al. 2013: relations move entities, `-|h + r - t|`.
    TransE,
    /// Sun et al. 2019: relations turn complex entities, `-sum_k |h_k exp(i r_k) - t_k|`.
    RotatE,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ComplEx, Self::DistMult, Self::Rescal, Self::TransE, Self::RotatE];

    /// The name in settings and reports: the one in papers, in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ComplEx => "complex",
            Self::DistMult => "distmult",
            Self::Rescal => "rescal",
            Self::TransE => "transe",
            Self::RotatE => "rotate",
        }
    }
}

/// What keeps rows small. It is weighed by use: a row is counted each time a triple has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Regularizer {
    /// Nothing.
    None,
    /// Sum of cubed moduli of the triple's rows (Lacroix et al. 2018).
    N3,
    /// Sum of squares of the triple's rows.
    L2,
    /// Sum of squares of both entities and of both queries (Zhang et al. 2020): what is answered
    /// lies close to what is asked. The weight for relations is the one of the queries.
    Dura,
}

impl Regularizer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::N3, Self::L2, Self::Dura];

    /// The name in settings and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::N3 => "n3",
            Self::L2 => "l2",
            Self::Dura => "dura",
        }
    }
}

/// How gradients change rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adagrad with an accumulator for each value: rows of twice the length.
    Adagrad,
    /// Adam, whose moments change when a row is used: rows of three times the length.
    Adam,
}

impl OptimizerKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Adagrad, Self::Adam];

    /// The name in settings and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adagrad => "adagrad",
            Self::Adam => "adam",
        }
    }
}
