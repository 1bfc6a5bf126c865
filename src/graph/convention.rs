//! How ACDC counts edges.
//!
//! ACDC (Conmy et al., arXiv:2304.14997) makes the q, k and v of a head nodes of their own, and each has one more edge: the
//! direct one to its head, 3·L·H of them in a model of L layers of H heads. A direct edge is there exactly if anything that its
//! slot reads matters, so a circuit has one for each slot of a head that keeps an edge. Slots of MLPs and the logits have none.

use super::mask::EdgeMask;
use super::{Destination, Dimensions, Graph};

impl Dimensions {
    /// The direct edges: one for each slot of a head, or of heads that share keys or values.
    pub fn direct_edges(self) -> usize {
        self.layers.saturating_mul(self.heads.saturating_add(self.kv_slots.saturating_mul(2)))
    }

    /// The number of edges as ACDC counts them: 32,923 instead of 32,491 for GPT-2 small.
    pub fn edges_by_acdc(self) -> usize {
        self.edges().saturating_add(self.direct_edges())
    }
}

impl EdgeMask {
    /// The number of edges as ACDC counts them.
    pub fn count_by_acdc(&self, graph: &Graph) -> usize {
        let is_direct = |column: usize| graph.slot(Destination(column)).branch().is_some();
        let keeps = |column: usize| self.0.column(column).iter().any(|&kept| kept);
        self.count() + (0..graph.destinations()).filter(|&column| is_direct(column) && keeps(column)).count()
    }
}
