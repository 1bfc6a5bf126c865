//! DOT for Graphviz, printed by graphviz-rust: the same rows, colours, widths and dashes as the SVG.
//!
//! graphviz-rust escapes nothing, so every identifier and value goes through [`quoted`].

use super::{Caption, theme};
use crate::circuit::EdgeMask;
use crate::graph::scores::Scores;
use crate::graph::{Graph, Node};
use crate::model::spec::Branch;
use graphviz_rust::dot_structures::{
    Attribute, Edge, EdgeTy, Graph as DotGraph, GraphAttributes, Id, Node as DotNode, NodeId, Stmt, Subgraph, Vertex,
};
use graphviz_rust::printer::{DotPrinter, PrinterContext};

pub(super) fn draw(graph: &Graph, mask: &EdgeMask, scores: &Scores, caption: &Caption) -> String {
    let mut stmts = vec![
        attribute_of_graph("rankdir", "BT"),
        attribute_of_graph("fontname", "Helvetica"),
        Stmt::GAttribute(GraphAttributes::Node(vec![
            attribute("fontname", "Helvetica"),
            attribute("fontsize", "10"),
            attribute("height", "0.25"),
            attribute("shape", "box"),
        ])),
        Stmt::GAttribute(GraphAttributes::Edge(vec![
            attribute("arrowsize", "0.5"),
            attribute("fontname", "Helvetica"),
            attribute("fontsize", "8"),
        ])),
    ];
    let heading: Vec<&str> =
        [&caption.title, &caption.subtitle].into_iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    if !heading.is_empty() {
        stmts.push(attribute_of_graph("label", &heading.join("\n")));
        stmts.push(attribute_of_graph("labelloc", "t"));
    }

    let nodes = mask.nodes(graph);
    for row in nodes.chunk_by(|a, b| row(*a) == row(*b)) {
        let mut rank = vec![attribute_of_graph("rank", "same")];
        rank.extend(row.iter().map(|node| Stmt::Node(node_statement(*node))));
        // A name of its own: graphviz-rust invents random ones for anonymous subgraphs.
        let id = quoted(&format!("row {}", row.first().map(ToString::to_string).unwrap_or_default()));
        stmts.push(Stmt::Subgraph(Subgraph { id, stmts: rank }));
    }

    let edges = mask.edges(graph);
    let largest = edges.iter().map(|edge| scores.get(*edge).abs()).filter(|size| size.is_finite()).fold(0.0, f32::max);
    for edge in edges {
        let slot = graph.slot(edge.destination);
        let score = scores.get(edge);
        let strength = match f64::from(score.abs() / largest) {
            _ if largest <= 0.0 => 1.0,
            strength if strength.is_finite() => strength,
            _ => 0.0,
        };
        let width = if largest > 0.0 { theme::stroke(strength) } else { 1.0 };
        let mut attributes = vec![
            attribute("id", &graph.name(edge)),
            attribute("color", &theme::colour(score, strength, largest > 0.0)),
            attribute("penwidth", &format!("{width:.2}")),
            attribute("arrowhead", if score < 0.0 { "tee" } else { "normal" }),
            attribute("tooltip", &format!("{} {score:+.4}", graph.name(edge))),
        ];
        if let Some(branch) = slot.branch() {
            attributes.push(attribute("label", &branch.to_string()));
            let style = match branch {
                Branch::Query => "dashed",
                Branch::Key => "dotted",
                Branch::Value => "solid",
            };
            attributes.push(attribute("style", style));
        }
        for reader in mask.readers(graph, slot) {
            let [from, to] = [graph.node(edge.source), reader].map(|node| Vertex::N(node_id(node)));
            stmts.push(Stmt::Edge(Edge { ty: EdgeTy::Pair(from, to), attributes: attributes.clone() }));
        }
    }
    let document = DotGraph::DiGraph { id: quoted("circuit"), strict: false, stmts };
    document.print(&mut PrinterContext::default()) + "\n"
}

/// Nodes of one row share this key.
fn row(node: Node) -> (usize, bool) {
    match node {
        Node::Input => (0, false),
        Node::Head(layer, _) => (1 + layer.0, false),
        Node::Mlp(layer) => (1 + layer.0, true),
        Node::Logits => (usize::MAX, false),
    }
}

fn node_statement(node: Node) -> DotNode {
    let (style, fill, ink) = match node {
        Node::Head(..) => ("rounded,filled", theme::PAPER, theme::INK),
        Node::Mlp(_) => ("filled", theme::MLP_FILL, theme::INK),
        Node::Input | Node::Logits => ("rounded,filled", theme::INK, theme::PAPER),
    };
    let attributes = vec![
        attribute("label", &node.to_string()),
        attribute("style", style),
        attribute("fillcolor", fill),
        attribute("fontcolor", ink),
    ];
    DotNode { id: node_id(node), attributes }
}

fn node_id(node: Node) -> NodeId {
    NodeId(quoted(&node.to_string()), None)
}

fn attribute(name: &str, value: &str) -> Attribute {
    Attribute(Id::Plain(name.to_owned()), quoted(value))
}

fn attribute_of_graph(name: &str, value: &str) -> Stmt {
    Stmt::Attribute(attribute(name, value))
}

/// A quoted DOT string.
fn quoted(text: &str) -> Id {
    let mut escaped = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    Id::Escaped(escaped + "\"")
}
