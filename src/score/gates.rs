//! The derivative of a loss by every gate of a circuit in which edges are to a degree.
//!
//! With gates z in what slots read (`measure/circuit.rs`), ∂loss/∂z_uv = Σ over positions of (a_now\[u\] − a_corrupt\[u\]) ·
//! ∂loss/∂x_v. On open gates, with minus the metric for the loss, that is minus the score of `eap`.
//!
//! Cost: one forward and one backward with split heads, for all gates at once.

use super::acdc::Loss;
use super::{Method, Problem, ScoreError, mask};
use crate::measure::batch::Batch;
use crate::measure::circuit::{Kept, Setting};
use crate::measure::constants::ablated;
use crate::measure::metric;
use crate::measure::sources::Activations;
use crate::model::Past;
use ndarray::Array2;
use tch::{Device, Kind, Tensor};

/// A batch with what does not change from step to step.
pub(super) struct Prepared {
    pub batch: Batch,
    past: Option<Past>,
    corrupt: Activations,
    reference: Tensor, // clean log-probabilities, [batch, vocab]
    /// The metric on the clean less that on the corrupt prompts, summed over pairs.
    pub effect: f64,
}

impl Prepared {
    pub fn new(problem: &Problem, batch: Batch) -> Prepared {
        let past = batch.past(problem.model);
        let clean = Activations::record(problem.model, &batch.clean, past.as_ref()).logits; // [batch, vocab]
        let corrupt = ablated(problem.level, problem.model, &batch, past.as_ref(), problem.constants);
        let reference = clean.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let sum = |logits: &Tensor| {
            metric::per_pair(problem.metric, logits, &batch, Some(&reference)).sum(Kind::Double).double_value(&[])
        };
        let effect = sum(&clean) - sum(&corrupt.logits);
        Prepared { corrupt, reference, past, effect, batch }
    }

    /// The derivative of the loss, summed over the batch's pairs, by every gate: `[source, destination]` from gates of that
    /// shape.
    pub fn gradient(&self, problem: &Problem, loss: Loss, gates: &Array2<f64>) -> Array2<f64> {
        let Problem { model, graph, metric, .. } = *problem;
        let shape = [gates.nrows() as i64, gates.ncols() as i64];
        let flat: Vec<f64> = gates.iter().copied().collect();
        let gates = Tensor::from_slice(&flat).view(shape).to_kind(model.kind()).to_device(model.device); // [source, destination]
        let gates = gates.set_requires_grad(true);
        let setting = Setting {
            model,
            dimensions: graph.dimensions,
            batch: &self.batch,
            past: self.past.as_ref(),
            corrupt: &self.corrupt,
            written: None,
        };
        let logits = setting.logits(&Kept::gated(graph, &gates, model)); // [batch, vocab]
        let loss = loss.per_pair(metric, &logits, &self.batch, &self.reference).sum(None::<Kind>); // []
        let gradient = Tensor::run_backward(&[loss], &[&gates], false, false).remove(0); // [source, destination]
        let mut flat = vec![0f64; flat.len()];
        gradient.to_kind(Kind::Double).to_device(Device::Cpu).contiguous().copy_data(&mut flat, gradient.numel());
        let mut numbers = flat.into_iter();
        Array2::from_shape_simple_fn(shape.map(|size| size as usize), || numbers.next().unwrap_or_default())
    }
}

/// The mean over pairs of the derivative of the metric by every gate where all gates are open, `[source, destination]`:
/// Δa · ∂m/∂x_v, which is the score of `eap`.
///
/// # Errors
/// [`ScoreError`] when the metric has no gradient, there are no pairs, or memory is short.
pub fn of_open_gates(problem: &Problem) -> Result<Array2<f64>, ScoreError> {
    let method = Method::Mask(mask::Options { loss: Loss::Metric, ..mask::Options::default() });
    problem.check(&method)?;
    let division = problem.division(&method)?;
    let shape = (problem.graph.sources(), problem.graph.destinations());
    let mut sums = Array2::zeros(shape);
    for rows in problem.batches(&method, division.pairs) {
        let prepared = Prepared::new(problem, rows.batch(problem.pairs, problem.model.device));
        // The loss is minus the metric.
        sums -= &prepared.gradient(problem, Loss::Metric, &Array2::ones(shape));
    }
    Ok(sums / problem.pairs.len() as f64)
}
