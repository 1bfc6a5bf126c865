//! The model as a graph of nodes that write the residual stream and slots that read it.
//!
//! Every source feeds every slot that lies later in the residual stream, so the whole adjacency is one number per slot: how
//! many sources come before it. Node order, slot order, names and the insertion order of edges are those of EAP-IG
//! (Hanna et al., arXiv:2403.17806), so that scores and circuits can be exchanged. With L layers of H heads:
//!
//! - sources, 1 + L(H+1): `input`; then for each layer its heads and its MLP;
//! - slots, L(3H+1) + 1: for each layer the q of all heads, the k of all heads, the v of all heads, the MLP; then `logits`;
//! - edges, 3H·Σ(1+l(H+1)) + Σ(1+l(H+1)+[H if sequential]) + 1 + L(H+1).
//!
//! Where query heads share keys and values, the shared ones can be slots themselves (`a3.kv0<k>`): see [`KvSlots`].
//! Attention-only models have no MLP nodes.
//!
//! petgraph owns the structure: a node's index is its source index, an edge's index its place in the insertion order (an
//! edge into shared keys or values stands there once for each head that uses them). Numbers on edges are dense
//! `[source, destination]` matrices.

mod convention;
mod dimensions;
pub mod mask;
mod name;
pub mod scores;
mod units;

pub use dimensions::{Dimensions, KvSlots};
pub use units::{Level, Table, Unit, Units};

use crate::error::Hint;
use crate::model::spec::{Branch, Head, Layer};
use petgraph::graph::{DiGraph, NodeIndex};

/// A vertex of the graph. Prints as `input`, `a3.h1`, `m3`, `logits`; the order is that of the residual stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Node {
    /// The token embedding, without positions.
    Input,
    Head(Layer, Head),
    Mlp(Layer),
    /// The unembedding. Reads only.
    Logits,
}

/// A place that reads the residual stream. Prints as `a3.h1<q>`, `a3.kv0<k>`, `m3`, `logits`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Slot {
    Head(Layer, Head, Branch),
    /// Keys or values that several query heads share; the head is counted among those of keys and values.
    Shared(Layer, Head, Branch),
    Mlp(Layer),
    Logits,
}

impl Slot {
    /// The layer it belongs to; none for the logits.
    pub fn layer(self) -> Option<Layer> {
        match self {
            Slot::Head(layer, ..) | Slot::Shared(layer, ..) | Slot::Mlp(layer) => Some(layer),
            Slot::Logits => None,
        }
    }

    /// Its place among the slots of its branch.
    pub fn head(self) -> Option<Head> {
        match self {
            Slot::Head(_, head, _) | Slot::Shared(_, head, _) => Some(head),
            Slot::Mlp(_) | Slot::Logits => None,
        }
    }

    pub fn branch(self) -> Option<Branch> {
        match self {
            Slot::Head(_, _, branch) | Slot::Shared(_, _, branch) => Some(branch),
            Slot::Mlp(_) | Slot::Logits => None,
        }
    }
}

/// A row of a score matrix: the index of a node that writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source(pub usize);

/// A column of a score matrix: the index of a slot that reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Destination(pub usize);

/// One edge. Prints, through [`Graph::name`], as `a0.h1->m2` or `input->a0.h0<q>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Edge {
    pub source: Source,
    pub destination: Destination,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("`{0}` is not the name of a node")]
    BadNode(String),
    #[error("`{0}` is not the name of an edge")]
    BadEdge(String),
    #[error("there is no {node} in a model of {layers} layers with {heads} heads")]
    NoSuchNode { node: String, layers: usize, heads: usize },
    #[error("there is no {slot}: keys and values have {kv_slots} slots a layer")]
    NoSuchSlot { slot: String, heads: usize, kv_slots: usize },
    #[error("there is no edge {0}: its source does not come before its destination in the residual stream")]
    NoSuchEdge(String),
}

impl Hint for GraphError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            GraphError::BadNode(_) => "nodes are written `input`, `a3.h1`, `m3` and `logits`".into(),
            GraphError::BadEdge(_) => "edges are written `a0.h1->m2`, `input->a0.h0<q>` or `m2->logits`".into(),
            GraphError::NoSuchNode { layers, heads, .. } => format!(
                "layers run from 0 to {}, heads from 0 to {}",
                layers.saturating_sub(1),
                heads.saturating_sub(1)
            ),
            GraphError::NoSuchSlot { heads, kv_slots, .. } => match heads == kv_slots {
                true => "every head of this graph has keys and values of its own: write `a0.h1<k>`".into(),
                false => "query heads of this graph share keys and values: write `a0.kv0<k>`".into(),
            },
            GraphError::NoSuchEdge(_) => {
                "an edge goes to a later layer, to the logits, or from a head to its own layer's MLP unless the two run in parallel"
                    .into()
            }
        })
    }
}

/// All nodes and edges of a model.
#[derive(Clone, Debug)]
pub struct Graph {
    pub dimensions: Dimensions,
    /// Sources in index order, then `logits`; edges in insertion order.
    pub structure: DiGraph<Node, Edge>,
    edges: Vec<Edge>,
}

impl Graph {
    pub fn new(dimensions: Dimensions) -> Graph {
        let mut graph = Graph { dimensions, structure: DiGraph::new(), edges: Vec::new() };
        for source in 0..graph.sources() {
            graph.structure.add_node(graph.node(Source(source)));
        }
        graph.structure.add_node(Node::Logits);

        for layer in (0..dimensions.layers).map(Layer) {
            let attention = graph.attention_slots(layer);
            for source in (0..dimensions.before(layer)).map(Source) {
                for &slot in &attention {
                    graph.add(source, slot);
                }
                if dimensions.parallel && dimensions.mlps {
                    graph.add(source, graph.destination(Slot::Mlp(layer)));
                }
            }
            if !dimensions.parallel && dimensions.mlps {
                let mlp = graph.destination(Slot::Mlp(layer));
                for source in 0..graph.sources_before(mlp) {
                    graph.add(Source(source), mlp);
                }
            }
        }
        let logits = graph.destination(Slot::Logits);
        for source in 0..graph.sources() {
            graph.add(Source(source), logits);
        }
        graph
    }

    /// The slots of a layer's heads in insertion order: q, k and v of each; shared keys and values with the first of
    /// their heads.
    pub fn attention_slots(&self, layer: Layer) -> Vec<Destination> {
        let dimensions = self.dimensions;
        let mut slots = Vec::with_capacity(dimensions.readers());
        for head in 0..dimensions.heads {
            slots.push(Destination(dimensions.slots(layer, Branch::Query).0 + head));
            if head % dimensions.group() == 0 {
                for branch in [Branch::Key, Branch::Value] {
                    slots.push(Destination(dimensions.slots(layer, branch).0 + head / dimensions.group()));
                }
            }
        }
        slots
    }

    fn add(&mut self, source: Source, destination: Destination) {
        let edge = Edge { source, destination };
        for reader in self.readers(self.slot(destination)) {
            let child = self.vertex(reader);
            self.structure.add_edge(NodeIndex::new(source.0), child, edge);
        }
        self.edges.push(edge);
    }

    /// The nodes that use what a slot reads: one, or the heads that share keys or values.
    pub fn readers(&self, slot: Slot) -> Vec<Node> {
        match slot {
            Slot::Head(layer, head, _) => vec![Node::Head(layer, head)],
            Slot::Shared(layer, shared, _) => {
                let group = self.dimensions.group();
                (shared.0 * group..(shared.0 + 1) * group).map(|head| Node::Head(layer, Head(head))).collect()
            }
            Slot::Mlp(layer) => vec![Node::Mlp(layer)],
            Slot::Logits => vec![Node::Logits],
        }
    }

    /// The number of nodes that write: the rows of a score matrix.
    pub fn sources(&self) -> usize {
        self.dimensions.sources()
    }

    /// The number of slots that read: the columns of a score matrix.
    pub fn destinations(&self) -> usize {
        self.dimensions.destinations()
    }

    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// All edges in the convention's insertion order, which breaks ties and orders files.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// All nodes in the order of the residual stream, `logits` last.
    pub fn nodes(&self) -> impl Iterator<Item = Node> {
        self.structure.node_weights().copied()
    }

    /// How many sources feed a slot. They are the first ones: the column of a mask is a prefix.
    pub fn sources_before(&self, destination: Destination) -> usize {
        let dimensions = self.dimensions;
        match self.slot(destination) {
            Slot::Head(layer, ..) | Slot::Shared(layer, ..) => dimensions.before(layer),
            Slot::Mlp(layer) => dimensions.before(layer) + if dimensions.parallel { 0 } else { dimensions.heads },
            Slot::Logits => self.sources(),
        }
    }

    pub fn contains(&self, edge: Edge) -> bool {
        edge.destination.0 < self.destinations() && edge.source.0 < self.sources_before(edge.destination)
    }

    pub fn node(&self, source: Source) -> Node {
        let writers = self.dimensions.writers();
        let Some(index) = source.0.checked_sub(1) else { return Node::Input };
        let layer = Layer(index / writers);
        match index % writers {
            head if head < self.dimensions.heads => Node::Head(layer, Head(head)),
            _ => Node::Mlp(layer),
        }
    }

    /// The row of a node that writes; none for `logits` and for nodes that the model does not have.
    pub fn source(&self, node: Node) -> Option<Source> {
        let dimensions = self.dimensions;
        let index = match node {
            Node::Input => 0,
            Node::Head(layer, head) => dimensions.before(layer) + head.0,
            Node::Mlp(layer) => dimensions.before(layer) + dimensions.heads,
            Node::Logits => return None,
        };
        self.has(node).then_some(Source(index))
    }

    pub fn slot(&self, destination: Destination) -> Slot {
        let dimensions @ Dimensions { layers, heads, kv_slots, .. } = self.dimensions;
        let layer = Layer(destination.0 / dimensions.readers());
        if layer.0 >= layers {
            return Slot::Logits;
        }
        let kv = |index, branch| match kv_slots == heads {
            true => Slot::Head(layer, Head(index), branch),
            false => Slot::Shared(layer, Head(index), branch),
        };
        match destination.0 % dimensions.readers() {
            index if index < heads => Slot::Head(layer, Head(index), Branch::Query),
            index if index < heads + kv_slots => kv(index - heads, Branch::Key),
            index if index < heads + 2 * kv_slots => kv(index - heads - kv_slots, Branch::Value),
            _ => Slot::Mlp(layer),
        }
    }

    /// The column of a slot. The slot must be one of this model's.
    pub fn destination(&self, slot: Slot) -> Destination {
        let dimensions = self.dimensions;
        debug_assert!(self.has_slot(slot), "{slot} is not in {dimensions:?}");
        Destination(match slot {
            Slot::Head(layer, head, branch) | Slot::Shared(layer, head, branch) => {
                dimensions.slots(layer, branch).0 + head.0
            }
            Slot::Mlp(layer) => dimensions.first_slot(layer) + dimensions.heads + 2 * dimensions.kv_slots,
            Slot::Logits => dimensions.layers * dimensions.readers(),
        })
    }

    /// Whether the model has this node.
    pub fn has(&self, node: Node) -> bool {
        let Dimensions { layers, heads, mlps, .. } = self.dimensions;
        match node {
            Node::Input | Node::Logits => true,
            Node::Head(layer, head) => layer.0 < layers && head.0 < heads,
            Node::Mlp(layer) => layer.0 < layers && mlps,
        }
    }

    /// Whether the model has this slot.
    pub fn has_slot(&self, slot: Slot) -> bool {
        let Dimensions { layers, heads, kv_slots, .. } = self.dimensions;
        match slot {
            Slot::Head(layer, head, branch) => {
                self.has(Node::Head(layer, head)) && (branch == Branch::Query || kv_slots == heads)
            }
            Slot::Shared(layer, head, branch) => {
                layer.0 < layers && head.0 < kv_slots && kv_slots < heads && branch != Branch::Query
            }
            Slot::Mlp(layer) => self.has(Node::Mlp(layer)),
            Slot::Logits => true,
        }
    }

    /// The vertex of a node in [`Graph::structure`].
    pub fn vertex(&self, node: Node) -> NodeIndex {
        NodeIndex::new(self.source(node).map_or(self.sources(), |source| source.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_convention() {
        let graph = Graph::new(Dimensions::new(2, 4));
        let check = |slot: &str, index: usize, before: usize| {
            let slot: Slot = slot.parse().unwrap();
            assert_eq!(graph.destination(slot), Destination(index), "{slot}");
            assert_eq!(graph.slot(Destination(index)), slot);
            assert_eq!(graph.sources_before(Destination(index)), before, "{slot}");
        };
        check("a0.h0<q>", 0, 1);
        check("a0.h3<q>", 3, 1);
        check("a0.h0<k>", 4, 1);
        check("a0.h3<v>", 11, 1);
        check("m0", 12, 5);
        check("a1.h0<q>", 13, 6);
        check("m1", 25, 10);
        check("logits", 26, 11);
        for (index, name) in ["input", "a0.h0", "a0.h1", "a0.h2", "a0.h3", "m0", "a1.h0"].iter().enumerate() {
            let node: Node = name.parse().unwrap();
            assert_eq!(graph.source(node), Some(Source(index)), "{name}");
            assert_eq!(graph.node(Source(index)), node);
        }
        assert_eq!(graph.source(Node::Logits), None);
        assert_eq!(graph.source(Node::Mlp(Layer(2))), None);
    }

    #[test]
    fn petgraph_indices_are_source_and_insertion_indices() {
        let graph = Graph::new(Dimensions { parallel: true, ..Dimensions::new(3, 2) });
        for (source, node) in graph.nodes().take(graph.sources()).enumerate() {
            assert_eq!(graph.source(node), Some(Source(source)));
        }
        for (index, edge) in graph.edges().iter().enumerate() {
            let index = petgraph::graph::EdgeIndex::new(index);
            assert_eq!(graph.structure.edge_weight(index), Some(edge));
            let (parent, child) = graph.structure.edge_endpoints(index).unwrap();
            assert_eq!(graph.structure[parent], graph.node(edge.source));
            assert_eq!([graph.structure[child]], graph.readers(graph.slot(edge.destination))[..]);
        }
        assert!(!petgraph::algo::is_cyclic_directed(&graph.structure));
    }
}
