//! Why edges cannot be scored.

use super::method::METHODS;
use super::state::Stopped;
use crate::error::{Hint, nearest};
use crate::measure::memory::MemoryError;
use crate::metric::MetricKind;

/// More points on a path than this say nothing that fewer do not.
pub const MOST_STEPS: usize = 10_000;

/// Why a method cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error("no method is called `{0}`")]
    UnknownMethod(String),
    #[error("metric `{metric}` has no gradient, which method `{method}` needs")]
    NoGradient { method: &'static str, metric: MetricKind },
    #[error("there are no pairs to score on")]
    NoPairs,
    #[error("{method} decides on all pairs together, so they cannot be scored apart from each other")]
    NotOfPairs { method: &'static str },
    #[error("{method} takes from 1 to {MOST_STEPS} steps, and {steps} are asked for")]
    Steps { method: &'static str, steps: usize },
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("{count} of the {what} are not finite numbers{}", weights_at_fault(weights))]
    NotFinite { count: usize, what: &'static str, weights: Vec<String> },
}

fn weights_at_fault(weights: &[String]) -> String {
    match weights {
        [] => String::new(),
        weights => format!(": neither are all weights in {}", weights.join(", ")),
    }
}

impl Hint for ScoreError {
    fn hint(&self) -> Option<String> {
        let names = || METHODS.iter().map(|method| method.name);
        Some(match self {
            ScoreError::UnknownMethod(name) => match nearest(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the methods are {}", names().collect::<Vec<_>>().join(", ")),
            },
            ScoreError::Stopped(_) => return None,
            ScoreError::Memory(error) => return error.hint(),
            ScoreError::NotFinite { weights, .. } if weights.is_empty() => {
                "the activations overflow somewhere; if the weights are f16, try --dtype f32".into()
            }
            ScoreError::NotFinite { .. } => "fetch the model again".into(),
            ScoreError::NoGradient { .. } => "take `--method exact`, or a task with another metric".into(),
            ScoreError::NotOfPairs { .. } => "leave --per-pair and --shard out, or take another method".into(),
            ScoreError::NoPairs => "ask for more with --pairs".into(),
            ScoreError::Steps { method: "mask", .. } => {
                "the paper takes 3000; a tenth of that does for small models: leave --mask-steps out".into()
            }
            ScoreError::Steps { .. } => "the papers take 5".into(),
        })
    }
}
