//! What a node does in a circuit, in numbers that do not depend on the size of the model: how deep it stands, and how much of
//! the circuit's effect passes it, by where it comes from and where it goes.

use crate::graph::Node;
use crate::model::spec::Branch;
use crate::render::picture::Content;
use std::collections::BTreeMap;

/// What kind of end an edge has at another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Input,
    Heads,
    Mlps,
    Logits,
}

impl End {
    fn of(node: Node) -> End {
        match node {
            Node::Input => End::Input,
            Node::Head(..) => End::Heads,
            Node::Mlp(_) => End::Mlps,
            Node::Logits => End::Logits,
        }
    }
}

/// Scores that enter and leave a node, by kind, as shares of all |score| of the circuit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// 0 for the first layer, 1 for the last.
    pub depth: f64,
    /// By the kind of the other end, the branch, and whether the edge enters or leaves.
    shares: BTreeMap<(bool, End, Option<Branch>), f64>,
}

impl Profile {
    /// Those of all heads and MLPs of a circuit.
    pub fn all(content: &Content) -> Vec<(Node, Profile)> {
        let graph = content.graph;
        let mut profiles: Vec<(Node, Profile)> = content
            .mask
            .nodes(graph)
            .into_iter()
            .filter(|node| matches!(node, Node::Head(..) | Node::Mlp(_)))
            .map(|node| (node, Profile { depth: depth(node, graph.dimensions.layers), shares: BTreeMap::new() }))
            .collect();
        let edges = content.mask.edges(graph);
        let score = |edge| f64::from(content.scores.get(edge));
        let all: f64 = edges.iter().map(|&edge| score(edge).abs()).filter(|size| size.is_finite()).sum();
        for edge in edges {
            let (slot, source) = (graph.slot(edge.destination), graph.node(edge.source));
            // Edges of a circuit without scores are all alike.
            let share = if all > 0.0 { score(edge) / all } else { 1.0 };
            if !share.is_finite() {
                continue;
            }
            for reader in content.mask.readers(graph, slot) {
                for (node, profile) in &mut profiles {
                    if *node == source {
                        *profile.shares.entry((false, End::of(reader), slot.branch())).or_default() += share;
                    }
                    if *node == reader {
                        *profile.shares.entry((true, End::of(source), slot.branch())).or_default() += share;
                    }
                }
            }
        }
        profiles
    }

    /// How much of the circuit's effect passes the node: all shares without their signs.
    pub fn size(&self) -> f64 {
        self.shares.values().map(|share| share.abs()).sum()
    }

    /// From 0 for the same effects to 1 for effects that have nothing in common (Bray and Curtis 1957, with signs).
    pub fn distance(&self, other: &Profile) -> f64 {
        let all = self.size() + other.size();
        if all <= 0.0 {
            return 0.0;
        }
        let share = |of: &Profile, kind: &(bool, End, Option<Branch>)| of.shares.get(kind).copied().unwrap_or(0.0);
        let apart = |kind: &(bool, End, Option<Branch>)| (share(self, kind) - share(other, kind)).abs();
        let here: f64 = self.shares.keys().map(apart).sum();
        let there: f64 = other.shares.keys().filter(|kind| !self.shares.contains_key(*kind)).map(apart).sum();
        ((here + there) / all).min(1.0)
    }
}

/// 0 for the first layer, 1 for the last.
pub fn depth(node: Node, layers: usize) -> f64 {
    match node {
        Node::Input => 0.0,
        Node::Logits => 1.0,
        Node::Head(layer, _) | Node::Mlp(layer) => match layers {
            0 | 1 => 0.5,
            layers => layer.0 as f64 / (layers - 1) as f64,
        },
    }
}
