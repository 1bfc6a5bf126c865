//! Automatic circuit discovery: edges are removed one after another, from the logits down, as long as the loss hardly grows.
//!
//! All edges are there at first. For each destination from the logits down and each of its sources: the edge goes for good
//! if loss(without it) − loss(with it) < τ, both on the circuit as it is by then; the loss is KL(clean model ‖ circuit) or minus
//! the task's metric. A node whose outgoing edges all went loses its incoming ones untested.
//! The score of an edge is that difference when it was tested (0 if it was not), so the circuit is every edge with a score
//! of at least τ.
//!
//! With [`Nodes::Acdc`] the graph is that of the paper, in which q, k and v are nodes: before the edges into the slots of a
//! layer's heads, the direct edges from those slots to their heads are tried. Without its direct edge a slot reads the corrupt
//! run, as without all edges into it, and those go untested.
//!
//! Paper: Conmy et al., "Towards Automated Circuit Discovery", arXiv:2304.14997, algorithm 1. The order of heads changes the
//! result and is recorded.
//! Cost: about one circuit run for each edge, from the edge's layer upwards only. Many candidates run side by side, on the
//! guess that they all fare as the last one did; where one does not, those after it are tried again, so decisions are those
//! of the plain search.
//! Not for: large models, or many pairs: every decision looks at all of them.

mod order;
mod search;

use super::Problem;
use super::method::{Listing, Scorer, Search, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Destination, Graph};
use crate::measure::Batch;
use crate::measure::memory::{Needs, Sizes};
use ndarray::Array2;
pub use order::{Nodes, Order};
pub use search::Loss;

pub const LISTING: Listing = Listing {
    name: "acdc",
    about: "edges removed one by one from the logits down while the loss grows by less than tau",
    passes: "2 forward, and about 1 from the edge's layer upwards for each edge",
    memory: "outputs of all sources for all pairs, twice, and 256 MB of circuits side by side",
};

#[derive(Clone, PartialEq, Debug)]
pub struct Options {
    /// The growth of the loss (nats, or units of the metric) at which an edge stays.
    pub tau: f64,
    pub loss: Loss,
    pub order: Order,
    pub nodes: Nodes,
}

impl Default for Options {
    fn default() -> Self {
        Options { tau: 0.0575, loss: Loss::Kl, order: Order::LastFirst, nodes: Nodes::Eap }
    }
}

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, graph: &Graph) -> Work {
        let of_edges = super::exact::Exact.work(graph);
        let layers = graph.dimensions.layers;
        // A pass for each direct edge, and one for the circuit that a layer's candidates are compared with.
        let passes = |layer: usize| (layers - layer) * (graph.dimensions.direct_edges() / layers + 1);
        let direct = match self.nodes {
            Nodes::Eap => 0,
            Nodes::Acdc => (0..layers).map(passes).sum(),
        };
        Work { patched: of_edges.patched + direct as f64, ..of_edges }
    }

    /// One row more: the effects of removing direct edges, each in its slot's column.
    fn shape(&self, graph: &Graph) -> (usize, usize) {
        (graph.sources() + usize::from(self.nodes == Nodes::Acdc), graph.destinations())
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("tau", self.tau.to_string()),
            ("loss", self.loss.name().to_owned()),
            ("order", self.order.name().to_owned()),
            ("nodes", self.nodes.name().to_owned()),
        ]
    }

    fn search(&self) -> Option<&dyn Search> {
        Some(self)
    }
}

impl Search for Options {
    fn search(&self, problem: &Problem, batches: Vec<Batch>, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        search::search(self, problem, batches, ledger)
    }

    fn peak(&self, sizes: &Sizes, pairs: usize, at_once: usize) -> usize {
        sizes.peak_of_search(pairs, at_once)
    }
}

/// Where the effect of removing a slot's direct edge stands in the sums: `[row, column]`.
pub fn direct_edge(graph: &Graph, slot: Destination) -> [usize; 2] {
    [graph.sources(), slot.0]
}
