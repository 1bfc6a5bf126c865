//! A circuit: the edges of a model that are kept when all others are ablated.
//!
//! [`select`] takes edges by their scores, [`prune`] drops those that lead nowhere, [`report`] holds what evaluation found,
//! and [`file`](mod@file), [`scores_file`], [`shard_file`], [`pair_scores`] and [`eap_json`] are the files. [`merge`] puts
//! the parts of a run together.

pub mod eap_json;
pub mod file;
pub mod merge;
pub mod pair_scores;
pub mod prune;
pub mod report;
pub mod scores_file;
pub mod select;
pub mod shard_file;

use crate::graph::{Edge, Graph, Node, Slot};
use ndarray::{Array2, Zip};

/// A set of edges, dense: `[source, destination]`. True only where the graph has an edge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EdgeMask(pub Array2<bool>);

impl EdgeMask {
    pub fn empty(graph: &Graph) -> EdgeMask {
        EdgeMask(Array2::from_elem((graph.sources(), graph.destinations()), false))
    }

    pub fn full(graph: &Graph) -> EdgeMask {
        EdgeMask::of(graph, graph.edges().iter().copied())
    }

    pub fn of(graph: &Graph, edges: impl IntoIterator<Item = Edge>) -> EdgeMask {
        let mut mask = EdgeMask::empty(graph);
        for edge in edges {
            mask.insert(edge);
        }
        mask
    }

    pub fn contains(&self, edge: Edge) -> bool {
        self.0.get((edge.source.0, edge.destination.0)).copied().unwrap_or(false)
    }

    /// Adds an edge of the graph that the mask was made for.
    pub fn insert(&mut self, edge: Edge) {
        self.0[(edge.source.0, edge.destination.0)] = true;
    }

    pub fn remove(&mut self, edge: Edge) {
        self.0[(edge.source.0, edge.destination.0)] = false;
    }

    pub fn count(&self) -> usize {
        self.0.iter().filter(|kept| **kept).count()
    }

    /// The edges in the convention's order.
    pub fn edges(&self, graph: &Graph) -> Vec<Edge> {
        graph.edges().iter().copied().filter(|edge| self.contains(*edge)).collect()
    }

    /// The nodes that an edge of the set touches, in the order of the residual stream.
    pub fn nodes(&self, graph: &Graph) -> Vec<Node> {
        let mut touched = vec![false; graph.sources() + 1];
        for edge in self.edges(graph) {
            touched[edge.source.0] = true;
            for reader in self.readers(graph, graph.slot(edge.destination)) {
                touched[graph.vertex(reader).index()] = true;
            }
        }
        graph.nodes().zip(touched).filter_map(|(node, touched)| touched.then_some(node)).collect()
    }

    /// The nodes that use what a slot reads: of heads that share keys or values those that write an edge of the set, or
    /// the first of them if none does.
    pub fn readers(&self, graph: &Graph, slot: Slot) -> Vec<Node> {
        let all = graph.readers(slot);
        if all.len() == 1 {
            return all;
        }
        let writes =
            |node: &Node| graph.source(*node).is_some_and(|source| self.0.row(source.0).iter().any(|&kept| kept));
        match all.iter().copied().filter(writes).collect::<Vec<_>>() {
            writing if writing.is_empty() => all[..1].to_vec(),
            writing => writing,
        }
    }

    /// All edges of the graph that are not in this set.
    pub fn complement(&self, graph: &Graph) -> EdgeMask {
        EdgeMask::full(graph).difference(self)
    }

    pub fn union(&self, other: &EdgeMask) -> EdgeMask {
        self.combine(other, |a, b| a || b)
    }

    pub fn intersection(&self, other: &EdgeMask) -> EdgeMask {
        self.combine(other, |a, b| a && b)
    }

    pub fn difference(&self, other: &EdgeMask) -> EdgeMask {
        self.combine(other, |a, b| a && !b)
    }

    pub fn is_subset(&self, other: &EdgeMask) -> bool {
        self.difference(other).count() == 0
    }

    fn combine(&self, other: &EdgeMask, rule: impl Fn(bool, bool) -> bool) -> EdgeMask {
        EdgeMask(Zip::from(&self.0).and(&other.0).map_collect(|a, b| rule(*a, *b)))
    }
}
