//! `scores.json`: the score of every edge, per-pair mean, in the convention's order, `schema = "penjing.scores/1"`.

use super::file::{ContentError, GraphFileError, GraphV1, Provenance, parse_versioned, pretty, read_with};
use crate::graph::Graph;
use crate::graph::scores::Scores;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const SCHEMA: &str = "penjing.scores/1";

/// What a file holds: scores with where they came from.
#[derive(Clone, Debug)]
pub struct ScoredGraph {
    pub provenance: Provenance,
    pub graph: Graph,
    pub scores: Scores,
}

/// The file as written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScoresV1 {
    pub schema: String,
    pub provenance: Provenance,
    pub graph: GraphV1,
    /// Edge name to score. Every edge of the graph is there.
    pub scores: IndexMap<String, f32>,
}

impl ScoresV1 {
    pub fn new(graph: &Graph, scores: &Scores, provenance: &Provenance) -> ScoresV1 {
        ScoresV1 {
            schema: SCHEMA.into(),
            provenance: provenance.clone(),
            graph: GraphV1::new(graph),
            scores: graph.edges().iter().map(|edge| (graph.name(*edge), scores.get(*edge))).collect(),
        }
    }

    pub fn build(self) -> Result<ScoredGraph, ContentError> {
        let graph = self.graph.build()?;
        let mut scores = Scores::zeros(&graph);
        for (name, score) in &self.scores {
            scores.set(graph.parse_edge(name)?, *score);
        }
        check_complete(&graph, &self.scores)?;
        Ok(ScoredGraph { provenance: self.provenance, graph, scores })
    }
}

/// Refuses numbers of some edges only.
pub(super) fn check_complete<T>(graph: &Graph, numbers: &IndexMap<String, T>) -> Result<(), ContentError> {
    let mut missing = graph.edges().iter().map(|edge| graph.name(*edge)).filter(|name| !numbers.contains_key(name));
    match missing.next() {
        None => Ok(()),
        Some(first) => {
            Err(ContentError::MissingEdges { missing: 1 + missing.count(), edges: graph.edge_count(), first })
        }
    }
}

pub fn to_json(graph: &Graph, scores: &Scores, provenance: &Provenance) -> Result<String, ContentError> {
    pretty(&ScoresV1::new(graph, scores, provenance))
}

pub fn parse(text: &str) -> Result<ScoredGraph, ContentError> {
    parse_versioned::<ScoresV1>(text, SCHEMA)?.build()
}

pub fn read(path: &Path) -> Result<ScoredGraph, GraphFileError> {
    read_with(path, parse)
}
