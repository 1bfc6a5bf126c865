//! Methods that give every edge of the graph a number: positive where the edge helps the task.
//!
//! A method maps (model, graph, pairs, options) to [`Scores`] and nothing else. Scores are means over pairs.

pub mod cost;
pub mod eap;
pub mod eap_ig;
pub mod exact;
mod gradient;

use crate::dataset::TokenPair;
use crate::error::{Hint, nearest};
use crate::graph::Graph;
use crate::graph::scores::Scores;
use crate::measure::batch::{Prefix, batches};
use crate::measure::memory::{Division, MemoryError, Needs, Sizes, halving};
use crate::measure::{Batch, metric};
use crate::metric::MetricKind;
use crate::model::{Model, Past};
use ndarray::Array2;
use std::cell::{Cell, RefCell};
use tch::Tensor;

fn weights_at_fault(weights: &[String]) -> String {
    match weights {
        [] => String::new(),
        weights => format!(": neither are all weights in {}", weights.join(", ")),
    }
}

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
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("{count} of the {what} are not finite numbers{}", weights_at_fault(weights))]
    NotFinite { count: usize, what: &'static str, weights: Vec<String> },
}

impl Hint for ScoreError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            ScoreError::UnknownMethod(name) => match nearest(name, METHODS.iter().map(|method| method.name)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the methods are {}", METHODS.map(|method| method.name).join(", ")),
            },
            ScoreError::Memory(error) => return error.hint(),
            ScoreError::NotFinite { weights, .. } if weights.is_empty() => {
                "the activations overflow somewhere; if the weights are f16, try --dtype f32".into()
            }
            ScoreError::NotFinite { .. } => "fetch the model again".into(),
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

    /// What it keeps at the same time.
    pub fn needs(&self) -> Needs {
        match self {
            Method::Eap => Needs { passes: 1, stretches_free: true },
            Method::EapIg(options) => Needs { passes: options.steps, stretches_free: false },
            Method::Exact => Needs { passes: 0, stretches_free: true },
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
    /// Pairs run at once; `None`: as many as are fast and fit.
    pub batch_size: Option<usize>,
    pub prefix: Prefix,
    /// The most that the run may use, weights included, in bytes.
    pub memory: usize,
    /// Layers that run backwards together; `None`: as many as are fast and fit.
    pub stretch: Option<usize>,
}

impl<'a> Problem<'a> {
    /// With batches of the default size, the shared prefix computed once, and no limit of memory.
    pub fn new(model: &'a Model, graph: &'a Graph, pairs: &'a [TokenPair], metric: MetricKind) -> Problem<'a> {
        Problem {
            model,
            graph,
            pairs,
            metric,
            batch_size: None,
            prefix: Prefix::Shared,
            memory: usize::MAX,
            stretch: None,
        }
    }

    /// How the run is divided to stay within [`Problem::memory`].
    ///
    /// # Errors
    /// [`ScoreError::Memory`] when even the smallest division does not.
    pub fn division(&self, method: &Method) -> Result<Division, ScoreError> {
        let sizes = Sizes::new(self.model, self.graph.dimensions, self.pairs);
        let division =
            sizes.divide(method.needs(), self.pairs.len(), self.batch_size, self.memory, self.model.device)?;
        Ok(Division { stretch: self.stretch.unwrap_or(division.stretch), ..division })
    }
}

/// What [`score`] tells while it works.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Progress {
    /// How much of the work is done, from 0 to 1.
    Done(f64),
    /// The device ran out of memory; the run goes on with so many pairs at once.
    SmallerBatch(usize),
}

/// Scores every edge.
///
/// # Errors
/// [`ScoreError`] when the method cannot work with the metric, there is nothing to score on, or memory is short.
pub fn score(problem: &Problem, method: &Method, progress: &mut dyn FnMut(Progress)) -> Result<Scores, ScoreError> {
    if problem.pairs.is_empty() {
        return Err(ScoreError::NoPairs);
    }
    if !matches!(method, Method::Exact) && !problem.metric.differentiable() {
        return Err(ScoreError::NoGradient { method: method.name(), metric: problem.metric });
    }
    if matches!(method, Method::EapIg(options) if options.steps == 0) {
        return Err(ScoreError::NoSteps);
    }
    let division = problem.division(method)?;
    let mut sums = Array2::<f64>::zeros((problem.graph.sources(), problem.graph.destinations()));
    let pairs = problem.pairs.len() as f64;
    let (progress, done) = (RefCell::new(progress), Cell::new(0.0));
    let tell = |event| (progress.borrow_mut())(event);
    halving(
        batches(problem.model, problem.pairs, division.pairs, problem.prefix),
        problem.model.device,
        |batch| {
            let halves = (batch.len() > 1).then(|| batch.halves());
            halves.inspect(|halves| tell(Progress::SmallerBatch(halves[0].len())))
        },
        |batch| {
            let mut part = |share: f64| tell(Progress::Done((done.get() + share * batch.len() as f64) / pairs));
            score_batch(problem, method, &division, batch, &mut part)
        },
        |batch, scores| {
            sums += &scores;
            done.set(done.get() + batch.len() as f64);
            tell(Progress::Done(done.get() / pairs));
        },
    )?;
    let values = sums.mapv(|sum| (sum / problem.pairs.len() as f64) as f32);
    check_finite(problem.model, "scores", values.iter().map(|&score| f64::from(score)))?;
    Ok(Scores { values })
}

/// Refuses numbers that are none, with the weights that are to blame if there are any; `what` they are, for the message.
///
/// # Errors
/// [`ScoreError::NotFinite`].
pub fn check_finite(
    model: &Model,
    what: &'static str,
    numbers: impl IntoIterator<Item = f64>,
) -> Result<(), ScoreError> {
    match numbers.into_iter().filter(|number| !number.is_finite()).count() {
        0 => Ok(()),
        count => Err(ScoreError::NotFinite { count, what, weights: model.not_finite() }),
    }
}

/// Sums over the pairs of one batch: `[source, destination]`.
fn score_batch(
    problem: &Problem,
    method: &Method,
    division: &Division,
    batch: &Batch,
    part: &mut dyn FnMut(f64),
) -> Array2<f64> {
    let past = batch.past(problem.model);
    let run = Run { problem, batch, past: past.as_ref(), stretch: division.stretch, passes: division.passes };
    match method {
        Method::Eap => eap::score_batch(&run),
        Method::EapIg(options) => eap_ig::score_batch(&run, options),
        Method::Exact => exact::score_batch(&run, part),
    }
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
