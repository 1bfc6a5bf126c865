//! The graph JSON that the viewers of attribution graphs read (circuit-tracer's front end, Neuronpedia): `metadata`, `qParams`,
//! `nodes`, `links`.
//!
//! Their nodes are features at positions; ours are heads and MLPs at all positions together, so each stands in the column of
//! position 0, with its name and role as its description. Edges into a head's query, key and value are one link with their
//! scores added: the format has one link for two nodes.

use super::picture::{Content, Detail, Picture};
use super::style::Branches;
use crate::graph::Node;
use serde_json::{Value, json};

/// `slug` names the graph, `scan` the model.
pub fn draw(content: &Content, slug: &str, scan: &str) -> Value {
    let picture = Picture::new(content, Detail { branches: Branches::Merged, ..Detail::FULL });
    let layers = content.graph.dimensions.layers;
    let node = |node: Node| content_node(content, node, layers);
    let name = |index: usize| picture.boxes[index].nodes.first().copied().unwrap_or(Node::Input);
    let id = |node: Node| identity(node, layers, content.graph.dimensions.heads).join("_");
    let links = picture.links.iter().map(|link| {
        let score = if link.score.is_finite() { link.score } else { 0.0 };
        json!({ "source": id(name(link.from)), "target": id(name(link.to)), "weight": score })
    });
    json!({
        "metadata": {
            "slug": slug,
            "scan": scan,
            "transcoder_list": [],
            "prompt_tokens": ["all positions"],
            "prompt": slug,
            "node_threshold": null,
            "schema_version": 1,
        },
        "qParams": { "pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": "" },
        "nodes": (0..picture.boxes.len()).map(|index| node(name(index))).collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
    })
}

/// Layer, number in the layer and position, as the format's identities have them.
fn identity(node: Node, layers: usize, heads: usize) -> [String; 3] {
    let (layer, number) = match node {
        Node::Input => ("E".to_owned(), 0),
        Node::Head(layer, head) => (layer.0.to_string(), head.0),
        Node::Mlp(layer) => (layer.0.to_string(), heads),
        Node::Logits => ((layers + 1).to_string(), 0),
    };
    [layer, number.to_string(), "0".to_owned()]
}

fn content_node(content: &Content, node: Node, layers: usize) -> Value {
    let parts = identity(node, layers, content.graph.dimensions.heads);
    let kind = match node {
        Node::Input => "embedding",
        Node::Logits => "logit",
        Node::Head(..) | Node::Mlp(_) => "cross layer transcoder",
    };
    let role = content.role(node).map(|role| format!(", {role}")).unwrap_or_default();
    json!({
        "node_id": parts.join("_"),
        "feature": parts[1].parse::<usize>().unwrap_or(0),
        "layer": parts[0],
        "ctx_idx": 0,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": node == Node::Logits,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": format!("{}_{}-0", parts[0], parts[1]),
        "clerp": format!("{node}{role}"),
        "influence": null,
        "activation": null,
    })
}
