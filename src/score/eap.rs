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
use super::gradient::{contract, gradients, stretches};
use crate::measure::sources::Activations;
use ndarray::Array2;
use tch::{Kind, Tensor};

/// Sums over the pairs of one batch: `[source, destination]`.
pub(super) fn score_batch(run: &Run) -> Array2<f64> {
    let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
    let clean = Activations::record(model, &run.batch.clean, run.past);
    let corrupt = Activations::record(model, &run.batch.corrupt, run.past);
    let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
    // The clean run is known, so stretches of layers start from it.
    let entering: Vec<Tensor> = stretches(model, run.stretch)
        .into_iter()
        .map(|layers| clean.before_attention[layers.start].shallow_clone()) // [batch, pos, d_model]
        .collect();
    let gradients = gradients(run, &entering, Some(&reference));
    contract(run, &clean.written_minus(&corrupt, model, dimensions), &[gradients])
}
