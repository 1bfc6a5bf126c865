//! GraphML: the circuit as it is, for networkx, Gephi, Cytoscape and yEd. Nodes have a layer and a kind, edges a name, a branch
//! and a score.

use super::picture::Content;
use super::svg::escape;
use crate::graph::Node;
use std::fmt::Write;

pub fn draw(content: &Content) -> String {
    let Content { graph, mask, scores, .. } = *content;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str("<graphml xmlns=\"http://graphml.graphdrawing.org/xmlns\">\n");
    for (id, of, kind) in [
        ("kind", "node", "string"),
        ("layer", "node", "int"),
        ("role", "node", "string"),
        ("name", "edge", "string"),
        ("branch", "edge", "string"),
        ("score", "edge", "double"),
    ] {
        let _ = writeln!(out, "  <key id=\"{of}-{id}\" for=\"{of}\" attr.name=\"{id}\" attr.type=\"{kind}\"/>");
    }
    out.push_str("  <graph id=\"circuit\" edgedefault=\"directed\">\n");
    for node in mask.nodes(graph) {
        let (kind, layer) = match node {
            Node::Input => ("input", None),
            Node::Head(layer, _) => ("head", Some(layer.0)),
            Node::Mlp(layer) => ("mlp", Some(layer.0)),
            Node::Logits => ("logits", None),
        };
        let _ = write!(out, "    <node id=\"{node}\"><data key=\"node-kind\">{kind}</data>");
        if let Some(layer) = layer {
            let _ = write!(out, "<data key=\"node-layer\">{layer}</data>");
        }
        if let Some(found) = content.roles.iter().find(|found| found.node == node) {
            let _ = write!(out, "<data key=\"node-role\">{}</data>", escape(&found.role.to_string()));
        }
        out.push_str("</node>\n");
    }
    for edge in mask.edges(graph) {
        let slot = graph.slot(edge.destination);
        for reader in mask.readers(graph, slot) {
            let (source, name) = (graph.node(edge.source), escape(&graph.name(edge)));
            // Two edges of a pair of nodes differ by their branch, so the name is the identity.
            let _ = write!(out, "    <edge id=\"{name} {reader}\" source=\"{source}\" target=\"{reader}\">");
            let _ = write!(out, "<data key=\"edge-name\">{name}</data>");
            if let Some(branch) = slot.branch() {
                let _ = write!(out, "<data key=\"edge-branch\">{branch}</data>");
            }
            let score = scores.get(edge);
            // The numbers of XML Schema.
            let score = if score.is_nan() {
                "NaN".to_owned()
            } else if score.is_infinite() {
                if score > 0.0 { "INF" } else { "-INF" }.to_owned()
            } else {
                score.to_string()
            };
            let _ = writeln!(out, "<data key=\"edge-score\">{score}</data></edge>");
        }
    }
    out.push_str("  </graph>\n</graphml>\n");
    out
}
