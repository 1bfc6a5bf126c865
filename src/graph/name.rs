//! Names of nodes, slots and edges. They print and parse without loss: one name per thing, one thing per name.

use super::{Dimensions, Edge, Graph, GraphError, Node, Slot};
use crate::model::spec::{Branch, Head, Layer};
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Input => f.write_str("input"),
            Node::Head(layer, head) => write!(f, "a{}.h{}", layer.0, head.0),
            Node::Mlp(layer) => write!(f, "m{}", layer.0),
            Node::Logits => f.write_str("logits"),
        }
    }
}

impl FromStr for Node {
    type Err = GraphError;

    fn from_str(text: &str) -> Result<Node, GraphError> {
        parse_node(text).ok_or_else(|| GraphError::BadNode(text.to_owned()))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Slot::Head(layer, head, branch) => write!(f, "{}<{branch}>", Node::Head(layer, head)),
            Slot::Shared(layer, head, branch) => write!(f, "a{}.kv{}<{branch}>", layer.0, head.0),
            Slot::Mlp(layer) => Node::Mlp(layer).fmt(f),
            Slot::Logits => Node::Logits.fmt(f),
        }
    }
}

impl FromStr for Slot {
    type Err = GraphError;

    fn from_str(text: &str) -> Result<Slot, GraphError> {
        parse_slot(text).ok_or_else(|| GraphError::BadNode(text.to_owned()))
    }
}

impl Graph {
    /// The edge's name: `a0.h1->m2`, `input->a0.h0<q>`.
    pub fn name(&self, edge: Edge) -> String {
        format!("{}->{}", self.node(edge.source), self.slot(edge.destination))
    }

    /// The edge of a name that [`Graph::name`] prints.
    pub fn parse_edge(&self, text: &str) -> Result<Edge, GraphError> {
        let (source, slot) = text
            .split_once("->")
            .and_then(|(source, slot)| Some((parse_node(source)?, parse_slot(slot)?)))
            .ok_or_else(|| GraphError::BadEdge(text.to_owned()))?;
        let Dimensions { layers, heads, kv_slots, .. } = self.dimensions;
        for node in std::iter::once(source).chain(named(slot)) {
            if !self.has(node) {
                return Err(GraphError::NoSuchNode { node: node.to_string(), layers, heads });
            }
        }
        if !self.has_slot(slot) {
            return Err(GraphError::NoSuchSlot { slot: slot.to_string(), heads, kv_slots });
        }
        let missing = || GraphError::NoSuchEdge(text.to_owned());
        let edge = Edge { source: self.source(source).ok_or_else(missing)?, destination: self.destination(slot) };
        if self.contains(edge) { Ok(edge) } else { Err(missing()) }
    }
}

pub(super) fn parse_node(text: &str) -> Option<Node> {
    if text == "input" {
        return Some(Node::Input);
    }
    if text == "logits" {
        return Some(Node::Logits);
    }
    if let Some(layer) = text.strip_prefix('m') {
        return Some(Node::Mlp(Layer(parse_index(layer)?)));
    }
    let (layer, head) = text.strip_prefix('a')?.split_once(".h")?;
    Some(Node::Head(Layer(parse_index(layer)?), Head(parse_index(head)?)))
}

pub(super) fn parse_slot(text: &str) -> Option<Slot> {
    if let Some((node, branch)) = text.strip_suffix('>').and_then(|text| text.split_once('<')) {
        let branch = Branch::ALL.into_iter().find(|known| branch.chars().eq([known.letter()]))?;
        if let Some((layer, head)) = node.strip_prefix('a').and_then(|node| node.split_once(".kv")) {
            return Some(Slot::Shared(Layer(parse_index(layer)?), Head(parse_index(head)?), branch));
        }
        return match parse_node(node)? {
            Node::Head(layer, head) => Some(Slot::Head(layer, head, branch)),
            _ => None,
        };
    }
    match parse_node(text)? {
        Node::Mlp(layer) => Some(Slot::Mlp(layer)),
        Node::Logits => Some(Slot::Logits),
        Node::Input | Node::Head(..) => None,
    }
}

/// The node that a slot's name holds.
fn named(slot: Slot) -> Option<Node> {
    match slot {
        Slot::Head(layer, head, _) => Some(Node::Head(layer, head)),
        Slot::Mlp(layer) => Some(Node::Mlp(layer)),
        Slot::Shared(..) | Slot::Logits => None,
    }
}

/// A decimal number as printed: no sign and no leading zero, so that a thing has one name only.
pub(super) fn parse_index(text: &str) -> Option<usize> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_are_refused() {
        let graph = Graph::new(Dimensions::new(2, 4));
        let check = |text: &str, message: &str| {
            assert_eq!(graph.parse_edge(text).unwrap_err().to_string(), message);
        };
        for text in ["", "input", "input->", "->m0", "a0->m1", "input->a0.h0", "input->a0.h0<o>", "input->m0<q>"] {
            check(text, &format!("`{text}` is not the name of an edge"));
        }
        for text in ["a00.h1->m1", "a+1.h1->logits", "m1 ->logits", "logits->input", "m99999999999999999999->logits"] {
            check(text, &format!("`{text}` is not the name of an edge"));
        }
        check("a2.h0->logits", "there is no a2.h0 in a model of 2 layers with 4 heads");
        check("a0.h4->logits", "there is no a0.h4 in a model of 2 layers with 4 heads");
        for text in ["m1->m1", "m1->m0", "logits->m0", "logits->logits", "a1.h0->a1.h1<v>"] {
            check(
                text,
                &format!(
                    "there is no edge {text}: its source does not come before its destination in the residual stream"
                ),
            );
        }
    }

    #[test]
    fn parallel_blocks_have_no_edge_from_a_head_to_its_own_mlp() {
        let check = |parallel: bool, exists: bool| {
            let graph = Graph::new(Dimensions { parallel, ..Dimensions::new(2, 4) });
            assert_eq!(graph.parse_edge("a1.h3->m1").is_ok(), exists);
        };
        check(false, true);
        check(true, false);
    }
}
