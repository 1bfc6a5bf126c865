//! Methods that give every edge of the graph a number: positive where the edge helps the task.
//!
//! A method maps (model, graph, pairs, options) to [`Scores`] and nothing else. Scores are means over pairs.

pub mod acdc;
pub mod clean_corrupted;
mod contract;
pub mod cost;
pub mod eap;
pub mod eap_ig;
pub mod eap_ig_activations;
mod error;
pub mod exact;
mod gradient;
pub mod ifr;
pub mod method;
pub mod random;
pub mod relp;

use crate::dataset::TokenPair;
use crate::graph::Graph;
use crate::graph::scores::Scores;
use crate::measure::batch::{Prefix, batches};
use crate::measure::memory::{Division, MemoryError, Sizes, halving};
use crate::measure::{Batch, metric};
use crate::metric::MetricKind;
use crate::model::{Model, Pass, Past, Rules};
pub use error::ScoreError;
pub use method::{METHODS, Method, Settings};
use ndarray::Array2;
use std::cell::{Cell, RefCell};
use tch::Tensor;

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
        let sizes = Sizes::new(self.model, self.graph.dimensions, self.pairs, self.prefix_for(method));
        let division =
            sizes.divide(method.needs(), self.pairs.len(), self.batch_size, self.memory, self.model.device)?;
        if method.scorer().search().is_some() {
            // All pairs are kept, whatever the number that runs at once.
            let bytes = sizes.peak(method.needs(), self.pairs.len(), 1, 1);
            if bytes > self.memory {
                return Err(MemoryError::Limit { least: bytes, limit: self.memory }.into());
            }
            return Ok(Division { bytes, ..division });
        }
        Ok(Division { stretch: self.stretch.unwrap_or(division.stretch), ..division })
    }

    /// How the common start of prompts is run for a method.
    fn prefix_for(&self, method: &Method) -> Prefix {
        if method.scorer().every_position() { Prefix::Recomputed } else { self.prefix }
    }

    /// The pairs in batches of at most `largest`.
    fn batches(&self, method: &Method, largest: usize) -> Vec<Batch> {
        batches(self.model, self.pairs, largest, self.prefix_for(method))
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
    if method.scorer().uses_gradients() && !problem.metric.differentiable() {
        return Err(ScoreError::NoGradient { method: method.name(), metric: problem.metric });
    }
    if method.scorer().steps() == Some(0) {
        return Err(ScoreError::NoSteps { method: method.name() });
    }
    let division = problem.division(method)?;
    let pairs = problem.pairs.len() as f64;
    if let Some(search) = method.scorer().search() {
        return mean(problem, search.search(problem, &division, &mut |share| progress(Progress::Done(share))));
    }
    let mut sums = Array2::<f64>::zeros((problem.graph.sources(), problem.graph.destinations()));
    let (progress, done) = (RefCell::new(progress), Cell::new(0.0));
    let tell = |event| (progress.borrow_mut())(event);
    halving(
        problem.batches(method, division.pairs),
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
    mean(problem, sums)
}

/// Scores from sums over all pairs.
fn mean(problem: &Problem, sums: Array2<f64>) -> Result<Scores, ScoreError> {
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
    let scorer = method.scorer();
    let run = Run {
        problem,
        batch,
        past: past.as_ref(),
        stretch: division.stretch,
        passes: division.passes,
        rules: scorer.rules(),
    };
    scorer.score_batch(&run, part)
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
    /// How gradients are taken.
    rules: Rules,
}

impl Run<'_> {
    /// A pass over what follows the prefix.
    fn pass(&self) -> Pass<'_> {
        Pass { rules: self.rules, ..Pass::after(self.past) }
    }

    /// The metric of each row from last-position logits `[batch, vocab]`: `[batch]`.
    fn metric(&self, logits: &Tensor, reference: Option<&Tensor>) -> Tensor {
        metric::per_pair(self.problem.metric, logits, self.batch, reference)
    }
}
