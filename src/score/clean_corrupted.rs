//! Edge attribution with the gradients of both ends: on the clean run and on the corrupt one, averaged.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · ½ (∂m/∂x_v on the clean run + ∂m/∂x_v on the corrupt run).
//!
//! The trapezoid rule for EAP-IG over activations with one step; `clean-corrupted` in the EAP-IG package (Hanna et al.,
//! arXiv:2403.17806).
//! Cost: two forward passes and two backward a batch; the contraction is done once, on the averaged gradients.
//! Not for: metrics that saturate between the two ends, which it never looks at.

use super::Run;
use super::gradient::{contract, entering_recorded, gradients};
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::Graph;
use crate::measure::memory::Needs;
use crate::measure::sources::Activations;
use crate::model::tap::NoTap;
use ndarray::Array2;
use tch::Kind;

pub const LISTING: Listing = Listing {
    name: "clean-corrupted",
    about: "edge attribution with the gradients of the clean and of the corrupt run averaged",
    passes: "2 forward, 2 backward",
    memory: "differences of all sources, gradients of two runs",
};

pub(super) struct CleanCorrupted;

impl Scorer for CleanCorrupted {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 2, stretches_free: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work::with_backward(2)
    }

    fn score_batch(&self, run: &Run, _: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
        let clean = Activations::record(model, &run.batch.clean, run.past);
        let corrupt = Activations::record(model, &run.batch.corrupt, run.past);
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let differences = clean.written_minus(&corrupt, model, dimensions); // [source, batch · pos · d_model]
        let ends = [&clean, &corrupt];
        let of = |end: &Activations| gradients(run, &entering_recorded(run, end), Some(&reference), &mut NoTap);
        if run.passes >= ends.len() {
            return Ok(contract(run, &differences, &ends.map(of)));
        }
        let [clean, corrupt] = ends.map(|end| contract(run, &differences, &[of(end)]));
        Ok((clean + corrupt) / ends.len() as f64)
    }
}
