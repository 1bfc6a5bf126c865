//! Edge attribution patching: a linear guess at the effect of every edge from one gradient.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · ∂m/∂x_v, the gradient taken on the clean run.
//!
//! Paper: Syed, Rager and Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", arXiv:2310.10348;
//! graph and sign as in Hanna et al., arXiv:2403.17806.
//! Cost: two forward passes and one backward a batch, whatever the number of edges.
//! Not for: metrics that are flat at the clean run (KL to the clean run has zero gradient there; saturated probabilities
//! and attention have nearly none). Take `eap-ig` for those.

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
    name: "eap",
    about: "edge attribution patching: gradient on the clean run times the difference of activations",
    passes: "2 forward, 1 backward",
    memory: "differences of all sources",
};

pub(super) struct Eap;

impl Scorer for Eap {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 1, stretches_free: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work::with_backward(1)
    }

    fn score_batch(&self, run: &Run, _: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
        let clean = Activations::record(model, &run.batch.clean, run.past);
        let corrupt = Activations::record(model, &run.batch.corrupt, run.past);
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        // The clean run is known, so stretches of layers start from it.
        let gradients = gradients(run, &entering_recorded(run, &clean), Some(&reference), &mut NoTap);
        Ok(contract(run, &clean.written_minus(&corrupt, model, dimensions), &[gradients]))
    }
}
