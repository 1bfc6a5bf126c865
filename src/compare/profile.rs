//! What a node does in a circuit, in numbers that do not depend on the size of the model: how deep it stands, how it ranks by
//! its effect, and where that comes from and goes to.

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

/// Scores that enter and leave a node, by kind.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Profile {
    /// 0 for the first layer, 1 for the last.
    pub depth: f64,
    /// 0 for the node with the largest effect, 1 for the one with the smallest.
    pub rank: f64,
    /// By whether the edge enters or leaves, the kind of the other end, and the branch: as shares of all |score| of the node.
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
            .map(|node| (node, Profile { depth: depth(node, graph.dimensions.layers), ..Profile::default() }))
            .collect();
        let edges = content.mask.edges(graph);
        let scored = edges.iter().any(|&edge| content.scores.get(edge).abs() > 0.0);
        for edge in edges {
            let (slot, source) = (graph.slot(edge.destination), graph.node(edge.source));
            // Edges of a circuit without scores are all alike.
            let score = if scored { f64::from(content.scores.get(edge)) } else { 1.0 };
            if !score.is_finite() {
                continue;
            }
            for reader in content.mask.readers(graph, slot) {
                for (node, profile) in &mut profiles {
                    if *node == source {
                        *profile.shares.entry((false, End::of(reader), slot.branch())).or_default() += score;
                    }
                    if *node == reader {
                        *profile.shares.entry((true, End::of(source), slot.branch())).or_default() += score;
                    }
                }
            }
        }
        let sizes: Vec<f64> = profiles.iter().map(|(_, profile)| profile.size()).collect();
        let last = sizes.len().saturating_sub(1).max(1) as f64;
        for ((_, profile), size) in profiles.iter_mut().zip(&sizes) {
            profile.rank = sizes.iter().filter(|other| *other > size).count() as f64 / last;
            if *size > 0.0 {
                profile.shares.values_mut().for_each(|share| *share /= size);
            }
        }
        profiles
    }

    fn size(&self) -> f64 {
        self.shares.values().map(|share| share.abs()).sum()
    }

    /// From 0 for the same effects to 1: half of it how far the ranks are apart, half of it the part of the shares, with their
    /// signs, that the two do not have in common (Bray and Curtis 1957).
    pub fn distance(&self, other: &Profile) -> f64 {
        let share = |of: &Profile, kind: &(bool, End, Option<Branch>)| of.shares.get(kind).copied().unwrap_or(0.0);
        let apart = |kind: &(bool, End, Option<Branch>)| (share(self, kind) - share(other, kind)).abs();
        let here: f64 = self.shares.keys().map(apart).sum();
        let there: f64 = other.shares.keys().filter(|kind| !self.shares.contains_key(*kind)).map(apart).sum();
        (here + there) / 4.0 + (self.rank - other.rank).abs() / 2.0
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
