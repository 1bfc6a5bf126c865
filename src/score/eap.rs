//! Edge attribution patching: a linear guess at the effect of every edge from one gradient.
//!
//! score(u→v) = Σ over positions of (a_clean[u] − a_corrupt[u]) · ∂m/∂x_v, the gradient taken on the clean run.
//!
//! Paper: Syed, Rager and Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", arXiv:2310.10348;
//! graph and sign as in Hanna et al., arXiv:2403.17806.
//! Cost: two forward passes (one of them with gradients) and one backward a batch, whatever the number of edges.
//! Not for: metrics that are flat at the clean run (KL to the clean run has zero gradient there; saturated probabilities
//! and attention have nearly none). Take `eap-ig` for those.

use super::Run;
use super::contract::{Differences, contract};
use super::gradient::gradients_and_record;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::Graph;
use crate::measure::memory::Needs;
use crate::model::tap::NoTap;
use ndarray::Array2;

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
        Needs { passes: 1, differences_last: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work { recorded: 1, unrecorded: 1, ..Work::with_backward(1) }
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, _: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let (gradients, clean) = gradients_and_record(run, None, &mut NoTap);
        Ok(contract(run, &Differences::new(run, &clean, &run.ablated()), &[gradients]))
    }
}
