//! DOT for Graphviz, printed by graphviz-rust: the same rows, colours, widths and dashes as the SVG.
//!
//! graphviz-rust escapes nothing, so every identifier and value goes through [`quoted`].

use super::Caption;
use super::figure::{Figure, FigureEdge, FigureNode};
use super::style::Style;
use super::theme::Theme;
use crate::graph::Node;
use crate::model::spec::Branch;
use graphviz_rust::dot_structures::{
    Attribute, Edge, EdgeTy, Graph as DotGraph, GraphAttributes, Id, Node as DotNode, NodeId, Stmt, Subgraph, Vertex,
};
use graphviz_rust::printer::{DotPrinter, PrinterContext};

pub fn draw(figure: &Figure, style: &Style, caption: &Caption) -> String {
    let theme = &style.theme;
    let mut stmts = vec![
        attribute_of_graph("rankdir", "BT"),
        attribute_of_graph("bgcolor", &theme.paper.to_string()),
        attribute_of_graph("fontcolor", &theme.ink.to_string()),
        attribute_of_graph("fontname", "Helvetica"),
        Stmt::GAttribute(GraphAttributes::Node(vec![
            attribute("color", &theme.ink.to_string()),
            attribute("fontname", "Helvetica"),
            attribute("fontsize", "10"),
            attribute("height", "0.25"),
            attribute("shape", "box"),
        ])),
        Stmt::GAttribute(GraphAttributes::Edge(vec![
            attribute("arrowsize", "0.5"),
            attribute("fontcolor", &theme.faint_ink.to_string()),
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
    for row in figure.nodes.chunk_by(|a, b| a.row == b.row) {
        let mut rank = vec![attribute_of_graph("rank", "same")];
        rank.extend(row.iter().map(|node| Stmt::Node(node_statement(node, theme))));
        // A name of its own: graphviz-rust invents random ones for anonymous subgraphs.
        let id = quoted(&format!("row {}", row.first().map(|node| node.label.as_str()).unwrap_or_default()));
        stmts.push(Stmt::Subgraph(Subgraph { id, stmts: rank }));
    }
    let mut edges: Vec<&FigureEdge> = figure.edges.iter().collect();
    edges.sort_by_key(|edge| edge.place);
    for edge in edges {
        let [from, to] = [edge.from, edge.to].map(|node| Vertex::N(node_id(&figure.nodes[node])));
        let attributes = attributes_of(edge, theme, figure.scored());
        stmts.push(Stmt::Edge(Edge { ty: EdgeTy::Pair(from, to), attributes }));
    }
    let document = DotGraph::DiGraph { id: quoted("circuit"), strict: false, stmts };
    document.print(&mut PrinterContext::default()) + "\n"
}

fn attributes_of(edge: &FigureEdge, theme: &Theme, scored: bool) -> Vec<Attribute> {
    let mut attributes = vec![
        attribute("id", &edge.name),
        attribute("color", &theme.of_edge(edge.score, edge.strength, scored).to_string()),
        attribute("penwidth", &format!("{:.2}", edge.width)),
        attribute("arrowhead", if edge.negative() { "tee" } else { "normal" }),
        attribute("tooltip", &format!("{} {:+.4}", edge.name, edge.score)),
    ];
    if let Some(branch) = edge.branch {
        let style = match branch {
            Branch::Query => "dashed",
            Branch::Key => "dotted",
            Branch::Value => "solid",
        };
        attributes.push(attribute("label", &branch.to_string()));
        attributes.push(attribute("style", style));
    }
    attributes
}

fn node_statement(node: &FigureNode, theme: &Theme) -> DotNode {
    let (style, fill, ink) = match node.nodes.first() {
        Some(Node::Head(..)) => ("rounded,filled", theme.paper, theme.ink),
        Some(Node::Mlp(_)) => ("filled", theme.mlp_fill, theme.ink),
        _ => ("rounded,filled", theme.ink, theme.paper),
    };
    let attributes = vec![
        attribute("label", &node.role.iter().fold(node.label.clone(), |label, role| format!("{label}\n{role}"))),
        attribute("style", style),
        attribute("fillcolor", &fill.to_string()),
        attribute("fontcolor", &ink.to_string()),
    ];
    DotNode { id: node_id(node), attributes }
}

fn node_id(node: &FigureNode) -> NodeId {
    NodeId(quoted(&node.label), None)
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
