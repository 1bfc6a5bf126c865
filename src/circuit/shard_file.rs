//! `shard-0-of-4.json`: what a run over a part of the pairs found, `schema = "penjing.shard/1"`.
//!
//! It holds sums and not means, in f64, so that parts can be added.

use super::file::{ContentError, GraphFileError, GraphV1, Provenance, parse_versioned, pretty, read_with};
use super::scores_file::{fill, from_file, in_file};
use crate::graph::{Graph, Level, Table, Units};
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
    /// Over its pairs: `[source, destination]`, or `[unit, 1]` above edge level.
    pub sums: Array2<f64>,
}

/// A part, with what its sums are of.
#[derive(Clone, Debug)]
pub struct ScoredShard {
    pub graph: Graph,
    pub level: Level,
    /// Neurons of each MLP, at neuron level.
    pub neurons: usize,
    pub scores: ShardScores,
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
    /// Absent at edge level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Neurons of each MLP, at neuron level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons: Option<usize>,
    /// Name of an edge (a node, a neuron) to sum over the pairs of the part. Every one of the graph is there.
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
    pub fn new(table: &Table, scores: &ShardScores) -> Result<ShardV1, ContentError> {
        let ShardScores { provenance, weights, tokens, shard, per_pair, sums } = scores;
        let Range { start, end } = shard.range(provenance.pairs)?;
        let (level, neurons) = in_file(table);
        Ok(ShardV1 {
            schema: SCHEMA.into(),
            provenance: provenance.clone(),
            weights: weights.clone(),
            tokens: tokens.clone(),
            shard: PartV1 { index: shard.index, count: shard.count, first_pair: start, pairs: end - start },
            per_pair: *per_pair,
            graph: GraphV1::new(table.graph),
            level,
            neurons,
            sums: table.cells().into_iter().map(|cell| (table.name(cell), sums[cell])).collect(),
        })
    }

    pub fn build(self) -> Result<ScoredShard, ContentError> {
        let PartV1 { index, count, first_pair, pairs } = self.shard;
        let shard = Shard::new(index, count)?;
        if shard.range(self.provenance.pairs)? != (first_pair..first_pair.saturating_add(pairs)) {
            return Err(ContentError::Part { shard, pairs: self.provenance.pairs });
        }
        let graph = self.graph.build()?;
        let table = from_file(&graph, self.level.as_deref(), self.neurons)?;
        let mut sums = Array2::zeros(table.shape()); // [source, destination] or [unit, 1]
        fill(&table, &self.sums, &mut sums)?;
        let Units { level, neurons, .. } = table.units;
        let ShardV1 { provenance, weights, tokens, per_pair, .. } = self;
        let scores = ShardScores { provenance, weights, tokens, shard, per_pair, sums };
        Ok(ScoredShard { graph, level, neurons, scores })
    }
}

pub fn to_json(table: &Table, scores: &ShardScores) -> Result<String, ContentError> {
    pretty(&ShardV1::new(table, scores)?)
}

pub fn read(path: &Path) -> Result<ScoredShard, GraphFileError> {
    read_with(path, |text| parse_versioned::<ShardV1>(text, SCHEMA)?.build())
}
