//! Figures of quality, and which of them a training is to improve.

use serde::{Deserialize, Serialize};

/// Which examples an evaluation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Those to steer by: early stopping, choice of settings.
    Valid,
    /// Those to report on, once, at the end.
    Test,
}

/// Figures by name, the most telling first: `mrr`, `hits10`; `rmse`, `mae`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality(pub Vec<(String, f64)>);

impl Quality {
    /// Of these figures.
    #[must_use]
    pub fn of<const N: usize>(figures: [(&str, f64); N]) -> Self {
        Self(figures.map(|(name, figure)| (name.to_owned(), figure)).into())
    }

    /// The figure of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(known, _)| known == name).map(|&(_, figure)| figure)
    }
}

impl std::fmt::Display for Quality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, figure)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {figure:.4}")?;
        }
        Ok(())
    }
}

/// The figure that training is to improve, and where better is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The larger the better: `mrr`, `auc`, `accuracy`.
    Maximise(&'static str),
    /// The smaller the better: `rmse`, `log_loss`.
    Minimise(&'static str),
}

impl Goal {
    /// The figure's name in [`Quality`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Maximise(name) | Self::Minimise(name) => name,
        }
    }

    /// Whether `figure` is better than the best so far. One that is no number is not.
    #[must_use]
    pub fn better(self, figure: f64, best: Option<f64>) -> bool {
        match (self, best) {
            (_, None) => !figure.is_nan(),
            (Self::Maximise(_), Some(best)) => figure > best,
            (Self::Minimise(_), Some(best)) => figure < best,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Quality};

    #[test]
    fn better_is_larger_or_smaller_as_the_goal_says_and_never_nan() {
        assert!(Goal::Maximise("auc").better(0.2, Some(0.1)));
        assert!(!Goal::Maximise("auc").better(0.1, Some(0.1)));
        assert!(Goal::Minimise("rmse").better(0.1, Some(0.2)));
        assert!(Goal::Minimise("rmse").better(9.0, None));
        for goal in [Goal::Maximise("x"), Goal::Minimise("x")] {
            assert!(!goal.better(f64::NAN, None) && !goal.better(f64::NAN, Some(0.0)));
        }
    }

    #[test]
    fn figures_are_found_by_name_and_shown_in_order() {
        let quality = Quality::of([("rmse", 0.9), ("mae", 0.7)]);
        assert_eq!((quality.get("mae"), quality.get("auc")), (Some(0.7), None));
        assert_eq!(quality.to_string(), "rmse 0.9000, mae 0.7000");
    }
}
