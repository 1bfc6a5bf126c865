//! The graph JSON of EAP-IG and the MIB benchmark: `cfg`, `nodes`, and `edges` with `score` and `in_graph`.
//!
//! Reading and writing lose nothing: unknown members stay, names keep their order and scores their 64 bits. The sign of a score
//! is the file's own: EAP-IG scores a *loss*, which agrees with penjing's sign, but some published files have the opposite one.

use super::EdgeMask;
use super::file::{ContentError, GraphFileError, build_graph, read_with};
use crate::graph::scores::Scores;
use crate::graph::{Dimensions, Graph};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::Path;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EapJson {
    pub cfg: EapConfig,
    /// Node name to whatever is said about it, usually `{"in_graph": bool}`. Follows from the edges.
    pub nodes: IndexMap<String, Value>,
    pub edges: IndexMap<String, EapEdge>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EapConfig {
    pub n_layers: usize,
    pub n_heads: usize,
    pub parallel_attn_mlp: bool,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EapEdge {
    pub score: f64,
    pub in_graph: bool,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A file's graph, circuit and scores.
#[derive(Clone, Debug)]
pub struct EapGraph {
    pub graph: Graph,
    pub mask: EdgeMask,
    pub scores: Scores,
}

impl EapJson {
    /// `d_model` is part of the format, though nothing about the graph depends on it.
    pub fn new(graph: &Graph, mask: &EdgeMask, scores: &Scores, d_model: usize) -> EapJson {
        let kept = mask.nodes(graph);
        let edge =
            |edge| EapEdge { score: f64::from(scores.get(edge)), in_graph: mask.contains(edge), rest: Map::new() };
        EapJson {
            cfg: EapConfig {
                n_layers: graph.dimensions.layers,
                n_heads: graph.dimensions.heads,
                parallel_attn_mlp: graph.dimensions.parallel,
                rest: Map::from_iter([("d_model".into(), d_model.into())]),
            },
            nodes: graph.nodes().map(|node| (node.to_string(), json!({ "in_graph": kept.contains(&node) }))).collect(),
            edges: graph.edges().iter().map(|&e| (graph.name(e), edge(e))).collect(),
            rest: Map::new(),
        }
    }

    /// The graph, the edges marked `in_graph`, and the scores. Edges that the file leaves out are outside and score 0.
    pub fn build(&self) -> Result<EapGraph, ContentError> {
        let EapConfig { n_layers, n_heads, parallel_attn_mlp, .. } = self.cfg;
        let graph = build_graph(Dimensions { parallel: parallel_attn_mlp, ..Dimensions::new(n_layers, n_heads) })?;
        let (mut mask, mut scores) = (EdgeMask::empty(&graph), Scores::zeros(&graph));
        for (name, EapEdge { score, in_graph, .. }) in &self.edges {
            let edge = graph.parse_edge(name)?;
            scores.set(edge, *score as f32);
            if *in_graph {
                mask.insert(edge);
            }
        }
        Ok(EapGraph { graph, mask, scores })
    }

    pub fn to_json(&self) -> Result<String, ContentError> {
        Ok(serde_json::to_string(self)?)
    }
}

pub fn parse(text: &str) -> Result<EapJson, ContentError> {
    Ok(serde_json::from_str(text)?)
}

pub fn read(path: &Path) -> Result<EapJson, GraphFileError> {
    read_with(path, parse)
}
