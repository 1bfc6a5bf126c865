//! Methods that give every edge of the graph a number: positive where the edge helps the task.
//!
//! A method maps (model, graph, pairs, options) to [`Scores`] and nothing else. Scores are means over pairs.

pub mod eap;
pub mod eap_ig;
pub mod exact;
mod gradient;

use crate::dataset::TokenPair;
use crate::error::{Hint, nearest};
use crate::graph::Graph;
use crate::graph::scores::Scores;
use crate::measure::batch::{DIFFERENCE_BYTES, Prefix, batch_size, batches};
use crate::measure::{Batch, metric};
use crate::metric::MetricKind;
use crate::model::{Model, Past};
use ndarray::Array2;
use tch::Tensor;

/// How edges are scored.
#[derive(Clone, PartialEq, Debug)]
pub enum Method {
    Eap,
    EapIg(eap_ig::Options),
    Exact,
}

/// Name, one line of help and cost of a method, for `penjing score --list`.
pub struct Listing {
    pub name: &'static str,
    pub about: &'static str,
    pub passes: &'static str,
}

/// Every method, in the order of the documentation.
pub const METHODS: [Listing; 3] = [
    Listing {
        name: "eap",
        about: "edge attribution patching: gradient on the clean run times the difference of activations",
        passes: "2 forward, 1 backward",
    },
    Listing {
        name: "eap-ig",
        about: "the same with the gradient averaged on the way from corrupt to clean embeddings",
        passes: "2 + steps forward, steps backward",
    },
    Listing {
        name: "exact",
        about: "activation patching of every edge by itself",
        passes: "2 forward, and 1 from the edge's layer upwards for each edge",
    },
];

/// Why a method cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    #[error("no method is called `{0}`")]
    UnknownMethod(String),
    #[error("metric `{metric}` has no gradient, which method `{method}` needs")]
    NoGradient { method: &'static str, metric: MetricKind },
    #[error("there are no pairs to score on")]
    NoPairs,
    #[error("eap-ig needs at least one step")]
    NoSteps,
}

impl Hint for ScoreError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            ScoreError::UnknownMethod(name) => match nearest(name, METHODS.iter().map(|method| method.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the methods are {}", METHODS.map(|method| method.name).join(", ")),
            },
            ScoreError::NoGradient { .. } => "take `--method exact`, or a task with another metric".into(),
            ScoreError::NoPairs => "ask for more with --pairs".into(),
            ScoreError::NoSteps => "the papers take 5".into(),
        })
    }
}

impl Method {
    pub fn name(&self) -> &'static str {
        match self {
            Method::Eap => METHODS[0].name,
            Method::EapIg(_) => METHODS[1].name,
            Method::Exact => METHODS[2].name,
        }
    }

    /// The options that the scores depend on, as recorded in files.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        match self {
            Method::EapIg(options) => {
                vec![("steps", options.steps.to_string()), ("endpoints", options.endpoints.name().to_owned())]
            }
            Method::Eap | Method::Exact => Vec::new(),
        }
    }
}

/// What a method works on.
pub struct Problem<'a> {
    pub model: &'a Model,
    pub graph: &'a Graph,
    pub pairs: &'a [TokenPair],
    pub metric: MetricKind,
    /// `None` chooses a size that keeps the stored differences under 256 MiB.
    pub batch_size: Option<usize>,
    pub prefix: Prefix,
}

impl<'a> Problem<'a> {
    /// With batches of the default size and the shared prefix computed once.
    pub fn new(model: &'a Model, graph: &'a Graph, pairs: &'a [TokenPair], metric: MetricKind) -> Problem<'a> {
        Problem { model, graph, pairs, metric, batch_size: None, prefix: Prefix::Shared }
    }
}

/// Scores every edge. `progress` is told how much of the work is done, from 0 to 1.
///
/// # Errors
/// [`ScoreError`] when the method cannot work with the metric or there is nothing to score on.
pub fn score(problem: &Problem, method: &Method, progress: &mut dyn FnMut(f64)) -> Result<Scores, ScoreError> {
    if problem.pairs.is_empty() {
        return Err(ScoreError::NoPairs);
    }
    if !matches!(method, Method::Exact) && !problem.metric.differentiable() {
        return Err(ScoreError::NoGradient { method: method.name(), metric: problem.metric });
    }
    if matches!(method, Method::EapIg(options) if options.steps == 0) {
        return Err(ScoreError::NoSteps);
    }
    let size = problem.batch_size.unwrap_or_else(|| batch_size(problem.model, problem.pairs, DIFFERENCE_BYTES));
    let batches = batches(problem.pairs, size, problem.prefix);
    let mut sums = Array2::<f64>::zeros((problem.graph.sources(), problem.graph.destinations()));
    for (index, batch) in batches.iter().enumerate() {
        let past = batch.past(problem.model);
        let run = Run { problem, batch, past: past.as_ref(), stretch: problem.model.spec.layers, passes: usize::MAX };
        let mut part = |share: f64| progress((index as f64 + share) / batches.len() as f64);
        sums += &match method {
            Method::Eap => eap::score_batch(&run),
            Method::EapIg(options) => eap_ig::score_batch(&run, options),
            Method::Exact => exact::score_batch(&run, &mut part),
        };
        progress((index + 1) as f64 / batches.len() as f64);
    }
    let values = sums.mapv(|sum| (sum / problem.pairs.len() as f64) as f32);
    Ok(Scores { values })
}

/// One batch of a problem, with its prefix run.
struct Run<'a> {
    problem: &'a Problem<'a>,
    batch: &'a Batch,
    past: Option<&'a Past>,
    /// How many layers the backward runs over at a time.
    stretch: usize,
    /// How many passes' gradients are kept to be averaged before they are contracted.
    passes: usize,
}

impl Run<'_> {
    /// The metric of each row from last-position logits `[batch, vocab]`: `[batch]`.
    fn metric(&self, logits: &Tensor, reference: Option<&Tensor>) -> Tensor {
        metric::per_pair(self.problem.metric, logits, self.batch, reference)
    }
}
