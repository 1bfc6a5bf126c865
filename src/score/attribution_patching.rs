//! Attribution patching: a linear guess at the effect of every node or neuron from one gradient.
//!
//! score(u) = Σ over positions of (a_clean[u] − a_ablated[u]) · ∂m/∂a[u], the gradient taken on the clean run.
//!
//! Source: Nanda, "Attribution Patching: Activation Patching At Industrial Scale", 2023; Syed et al., arXiv:2310.10348. It is
//! [`super::eap`] for what nodes carry instead of for edges: the scores of the edges that leave a node add up to the node's.
//! Cost: two forward passes (one of them with gradients) and one backward a batch, whatever the number of units.
//! Not for: saturated attention, where queries and keys have hardly a gradient (take `atp-star`), and metrics that are flat at
//! the clean run (take `eap-ig`).

use super::Run;
use super::eap::Eap;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use ndarray::Array2;

pub const LISTING: Listing = Listing {
    name: "attribution-patching",
    about: "gradient on the clean run times the difference of activations, for nodes and neurons",
    passes: "2 forward, 1 backward",
    memory: "activations of two runs",
};

pub(super) struct AttributionPatching;

impl Scorer for AttributionPatching {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &[Level::Node, Level::Neuron]
    }

    fn needs(&self) -> Needs {
        Eap.needs()
    }

    fn work(&self, graph: &Graph) -> Work {
        Eap.work(graph)
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        Eap.score_batch(run, ledger)
    }
}
