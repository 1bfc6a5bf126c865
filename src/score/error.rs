//! Why edges cannot be scored.

use super::method::{METHODS, Method, Settings};
use super::state::Stopped;
use crate::ablation::Ablation;
use crate::error::{Hint, nearest};
use crate::graph::Level;
use crate::measure::memory::MemoryError;
use crate::measure::origin::Origin;
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
    #[error("method `{method}` does not work with ablation `{ablation}`")]
    Ablation { method: &'static str, ablation: Ablation },
    #[error("method `{method}` has no scores at the level of {level}s")]
    Level { method: &'static str, level: Level },
    #[error("ablation `optimal` knows no constants for what is scored at the level of {level}s")]
    OptimalUnits { level: Level },
    #[error("method `{method}` does not tell positions apart")]
    Positions { method: &'static str },
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("{count} of the {what} are not finite numbers{}{}", first_at(origin), weights_at_fault(weights))]
    NotFinite {
        count: usize,
        what: &'static str,
        /// Nowhere in the forward passes, where only gradients are at fault.
        origin: Option<Box<Origin>>,
        weights: Vec<String>,
    },
}

impl ScoreError {
    /// The same where the pairs were those of a data set from its pair `first` on.
    pub fn of_pairs_from(mut self, first: usize) -> ScoreError {
        if let ScoreError::NotFinite { origin: Some(origin), .. } = &mut self {
            origin.pair += first;
        }
        self
    }
}

fn first_at(origin: &Option<Box<Origin>>) -> String {
    match origin {
        Some(origin) => format!(": the first is at {origin}"),
        None => ", though all of the forward passes are".into(),
    }
}

fn weights_at_fault(weights: &[String]) -> String {
    match weights {
        [] => String::new(),
        weights => format!(", and not all weights in {} are finite", weights.join(", ")),
    }
}

/// Names the methods that can.
fn these(can: impl Fn(&Method) -> bool) -> String {
    let all = Method::all(&Settings::default());
    let names: Vec<&str> = all.iter().filter(|method| can(method)).map(Method::name).collect();
    format!("these do: {}", names.join(", "))
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
                "numbers overflow; try --dtype f32 if weights are kept as f16, else --dtype f64".into()
            }
            ScoreError::NotFinite { .. } => "fetch the model again".into(),
            ScoreError::NoGradient { .. } => "take `--method exact`, or a task with another metric".into(),
            ScoreError::NotOfPairs { .. } => "leave --per-pair and --shard out, or take another method".into(),
            ScoreError::Ablation { ablation, .. } => these(|method| method.check_ablation(*ablation).is_ok()),
            ScoreError::Level { level, .. } => these(|method| method.scorer().levels().contains(level)),
            ScoreError::OptimalUnits { .. } => "take --ablation mean, or --level edge".into(),
            ScoreError::Positions { .. } => these(|method| method.scorer().by_position()),
            ScoreError::NoPairs => "ask for more with --pairs".into(),
            ScoreError::Steps { method: "mask", .. } => {
                "the paper takes 3000; a tenth of that does for small models: leave --mask-steps out".into()
            }
            ScoreError::Steps { .. } => "the papers take 5".into(),
        })
    }
}
