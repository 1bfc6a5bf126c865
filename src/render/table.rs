//! CSV: a line for every edge of the circuit.

use super::picture::Content;
use crate::graph::Node;

/// # Errors
/// None in practice: it is written to memory.
pub fn draw(content: &Content) -> csv::Result<String> {
    let Content { graph, mask, scores, .. } = *content;
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(["edge", "source", "source_layer", "destination", "destination_layer", "branch", "score"])?;
    for edge in mask.edges(graph) {
        let slot = graph.slot(edge.destination);
        let source = graph.node(edge.source);
        for reader in mask.readers(graph, slot) {
            table.write_record([
                graph.name(edge),
                source.to_string(),
                layer(source),
                reader.to_string(),
                layer(reader),
                slot.branch().map(|branch| branch.to_string()).unwrap_or_default(),
                scores.get(edge).to_string(),
            ])?;
        }
    }
    let bytes = table.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

/// Nothing for the two ends of the model.
fn layer(node: Node) -> String {
    match node {
        Node::Head(layer, _) | Node::Mlp(layer) => layer.0.to_string(),
        Node::Input | Node::Logits => String::new(),
    }
}
