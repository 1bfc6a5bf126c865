//! What the search tries to remove, and in which order.

use crate::graph::{Destination, Graph, Slot};
use crate::model::spec::Layer;

/// Which edges there are to remove.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// Those of the graph, as EAP has them.
    Eap,
    /// Also the direct ones from the q, k and v of a head to the head, as in ACDC's paper.
    Acdc,
}

impl Nodes {
    pub fn name(self) -> &'static str {
        match self {
            Nodes::Eap => "eap",
            Nodes::Acdc => "acdc",
        }
    }
}

/// In which order the slots of a layer, and the sources of a slot, are visited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Against the order of the graph: values before keys before queries, the last head first, the nearest source first.
    LastFirst,
    /// Within a layer and among sources in the order of the graph.
    FirstFirst,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Order::LastFirst => "last-first",
            Order::FirstFirst => "first-first",
        }
    }

    pub(super) fn sort<T>(self, items: &mut [T]) {
        if self == Order::LastFirst {
            items.reverse();
        }
    }
}

/// A step of the search: candidates that are tried one after another.
pub(super) enum Visit {
    /// The edges into a slot.
    Slot(Destination),
    /// The direct edges from the slots of a layer's heads.
    Direct(Vec<Destination>),
}

/// The steps from the logits down, within a layer in the given order.
pub(super) fn visits(graph: &Graph, nodes: Nodes, order: Order) -> Vec<Visit> {
    let mut all = vec![Visit::Slot(graph.destination(Slot::Logits))];
    for layer in (0..graph.dimensions.layers).rev().map(Layer) {
        // In sequential blocks the MLP reads the heads, so it comes before them.
        if graph.dimensions.mlps {
            all.push(Visit::Slot(graph.destination(Slot::Mlp(layer))));
        }
        // Head by head; what heads share is with the first of them.
        let mut of_heads = graph.attention_slots(layer);
        if nodes == Nodes::Acdc {
            let mut direct = of_heads.clone();
            order.sort(&mut direct);
            all.push(Visit::Direct(direct));
        }
        // Branch by branch.
        of_heads.sort_unstable();
        order.sort(&mut of_heads);
        all.extend(of_heads.into_iter().map(Visit::Slot));
    }
    all
}
