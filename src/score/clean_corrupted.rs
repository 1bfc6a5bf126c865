//! Edge attribution with the gradients of both ends: on the clean run and on the corrupt one, averaged.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · ½ (∂m/∂x_v on the clean run + ∂m/∂x_v on the corrupt run).
//!
//! The trapezoid rule for EAP-IG over activations with one step; `clean-corrupted` in the EAP-IG package (Hanna et al.,
//! arXiv:2403.17806).
//! Cost: two forward passes and two backward a batch; the contraction is done once, on the averaged gradients.
//! Not for: metrics that saturate between the two ends, which it never looks at.

use super::Run;
use super::contract::{Differences, contract};
use super::gradient::{Replace, gradients_and_record};
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::ablation::Ablation;
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use crate::model::site::Site;
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

    fn levels(&self) -> &'static [Level] {
        &Level::ALL
    }

    fn needs(&self) -> Needs {
        Needs { passes: 2, differences_last: true }
    }

    fn ablations(&self) -> &'static [Ablation] {
        // With constants in the place of all sources, no gradient passes through any of them.
        &[Ablation::Counterfactual]
    }

    fn work(&self, _: &Graph) -> Work {
        Work { recorded: 0, unrecorded: 2, ..Work::with_backward(2) }
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, _: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let (of_clean, clean) = gradients_and_record(run, None, &mut NoTap);
        let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
        let embedding = tch::no_grad(|| run.problem.model.embed_tokens(&run.batch.corrupt)); // [batch, pos, d_model]
        let mut edit = Replace { site: Site::TokenEmbedding, value: embedding };
        let (of_corrupt, corrupt) = gradients_and_record(run, Some(&reference), &mut edit);
        Ok(contract(run, &Differences::new(run, &clean, &corrupt), &[of_clean, of_corrupt]))
    }
}
