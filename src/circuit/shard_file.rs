//! `shard-0-of-4.json`: what a run over a part of the pairs found, `schema = "penjing.shard/1"`.
//!
//! It holds sums and not means, in f64, so that parts can be added.

use super::file::{ContentError, GraphFileError, GraphV1, Provenance, parse_versioned, pretty, read_with};
use crate::graph::Graph;
use crate::identity::Identity;
use crate::shard::Shard;
use indexmap::IndexMap;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

pub const SCHEMA: &str = "penjing.shard/1";

/// What a part of a run found, with what the whole run depends on.
#[derive(Clone, PartialEq, Debug)]
pub struct ShardScores {
    /// Of the whole run: the file of merged scores has the same.
    pub provenance: Provenance,
    /// Hashes of the weights, and of the tokens of all pairs.
    pub weights: String,
    pub tokens: String,
    pub shard: Shard,
    /// Whether there are also scores of each pair, in a file beside.
    pub per_pair: bool,
    /// Over its pairs: `[source, destination]`.
    pub sums: Array2<f64>,
}

/// The file as written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShardV1 {
    pub schema: String,
    pub provenance: Provenance,
    pub weights: String,
    pub tokens: String,
    pub shard: PartV1,
    pub per_pair: bool,
    pub graph: GraphV1,
    /// Edge name to sum over the pairs of the part. Every edge of the graph is there.
    pub sums: IndexMap<String, f64>,
}

/// Which part it is, and which pairs it stands for; these follow from the part and are checked when read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PartV1 {
    pub index: usize,
    pub count: usize,
    pub first_pair: usize,
    pub pairs: usize,
}

impl ShardScores {
    /// What all parts of a run have in common.
    ///
    /// # Errors
    /// None in practice: a provenance holds nothing that JSON has not.
    pub fn run(&self) -> serde_json::Result<Identity> {
        let of_all = Identity::of(&self.provenance)?;
        let hashes = of_all.with("weights", &self.weights.as_str().into()).with("tokens", &self.tokens.as_str().into());
        Ok(hashes.with("shards", &self.shard.count.into()).with("per_pair", &self.per_pair.into()))
    }
}

impl ShardV1 {
    pub fn new(graph: &Graph, scores: &ShardScores) -> Result<ShardV1, ContentError> {
        let ShardScores { provenance, weights, tokens, shard, per_pair, sums } = scores;
        let Range { start, end } = shard.range(provenance.pairs)?;
        let sum = |edge: &crate::graph::Edge| sums[[edge.source.0, edge.destination.0]];
        Ok(ShardV1 {
            schema: SCHEMA.into(),
            provenance: provenance.clone(),
            weights: weights.clone(),
            tokens: tokens.clone(),
            shard: PartV1 { index: shard.index, count: shard.count, first_pair: start, pairs: end - start },
            per_pair: *per_pair,
            graph: GraphV1::new(graph),
            sums: graph.edges().iter().map(|edge| (graph.name(*edge), sum(edge))).collect(),
        })
    }

    pub fn build(self) -> Result<(Graph, ShardScores), ContentError> {
        let PartV1 { index, count, first_pair, pairs } = self.shard;
        let shard = Shard::new(index, count)?;
        if shard.range(self.provenance.pairs)? != (first_pair..first_pair.saturating_add(pairs)) {
            return Err(ContentError::Part { shard, pairs: self.provenance.pairs });
        }
        let graph = self.graph.build()?;
        let mut sums = Array2::zeros((graph.sources(), graph.destinations()));
        for (name, sum) in &self.sums {
            let edge = graph.parse_edge(name)?;
            sums[[edge.source.0, edge.destination.0]] = *sum;
        }
        super::scores_file::check_complete(&graph, &self.sums)?;
        let ShardV1 { provenance, weights, tokens, per_pair, .. } = self;
        Ok((graph, ShardScores { provenance, weights, tokens, shard, per_pair, sums }))
    }
}

pub fn to_json(graph: &Graph, scores: &ShardScores) -> Result<String, ContentError> {
    pretty(&ShardV1::new(graph, scores)?)
}

pub fn read(path: &Path) -> Result<(Graph, ShardScores), GraphFileError> {
    read_with(path, |text| parse_versioned::<ShardV1>(text, SCHEMA)?.build())
}
