//! `scores.json`: the score of every edge, node or neuron, per-pair mean, in the convention's order, and where the scores of
//! single pairs were kept its 95 % interval, `schema = "penjing.scores/1"`.

use super::file::{ContentError, GraphFileError, GraphV1, MOST_EDGES, Provenance, parse_versioned, pretty, read_with};
use crate::graph::scores::Scores;
use crate::graph::{Graph, Level, Table, Units};
use indexmap::IndexMap;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const SCHEMA: &str = "penjing.scores/1";

/// What a file holds: scores with where they came from.
#[derive(Clone, Debug)]
pub struct ScoredGraph {
    pub provenance: Provenance,
    pub graph: Graph,
    pub level: Level,
    /// Neurons of each MLP, at neuron level.
    pub neurons: usize,
    pub scores: Scores,
    /// The 95 % interval of every score over pairs drawn anew, in the order of the table, where the file has them.
    pub intervals: Option<Vec<[f32; 2]>>,
}

impl ScoredGraph {
    /// What the scores are of.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.graph, self.level, self.neurons)
    }
}

/// The file as written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ScoresV1 {
    pub schema: String,
    pub provenance: Provenance,
    pub graph: GraphV1,
    /// Absent at edge level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Neurons of each MLP, at neuron level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons: Option<usize>,
    /// Name of an edge (a node, a neuron) to score. Every one of the graph is there.
    pub scores: IndexMap<String, f32>,
    /// The same names to the 95 % interval of the score over pairs drawn anew, low and high. Absent where the scores of single
    /// pairs were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<IndexMap<String, [f32; 2]>>,
}

impl ScoresV1 {
    pub fn new(table: &Table, scores: &Scores, provenance: &Provenance) -> ScoresV1 {
        let (level, neurons) = in_file(table);
        ScoresV1 {
            schema: SCHEMA.into(),
            provenance: provenance.clone(),
            graph: GraphV1::new(table.graph),
            level,
            neurons,
            scores: table.cells().into_iter().map(|cell| (table.name(cell), scores.values[cell])).collect(),
            intervals: None,
        }
    }

    /// With the intervals of all scores, in the order of the table. Intervals that are no numbers are not written: JSON has
    /// none such.
    pub fn with_intervals(self, table: &Table, intervals: &[[f64; 2]]) -> ScoresV1 {
        let finite = intervals.len() == table.count() && intervals.iter().flatten().all(|end| end.is_finite());
        let of_all = || table.names().zip(intervals.iter().map(|ends| ends.map(|end| end as f32))).collect();
        ScoresV1 { intervals: finite.then(of_all), ..self }
    }

    pub fn build(self) -> Result<ScoredGraph, ContentError> {
        let graph = self.graph.build()?;
        let table = from_file(&graph, self.level.as_deref(), self.neurons)?;
        let mut values = Array2::zeros(table.shape()); // [source, destination] or [unit, 1]
        fill(&table, &self.scores, &mut values)?;
        let intervals = self.intervals.map(|of_all| -> Result<_, ContentError> {
            let mut ends = Array2::from_elem(table.shape(), [0.0; 2]); // [source, destination] or [unit, 1], of low and high
            fill(&table, &of_all, &mut ends)?;
            Ok(table.cells().into_iter().map(|cell| ends[cell]).collect())
        });
        let intervals = intervals.transpose()?;
        let Units { level, neurons, .. } = table.units;
        Ok(ScoredGraph { provenance: self.provenance, level, neurons, scores: Scores { values }, intervals, graph })
    }
}

/// The level and the neurons of each MLP as a file says them.
pub(super) fn in_file(table: &Table) -> (Option<String>, Option<usize>) {
    let level = (table.level() != Level::Edge).then(|| table.level().name().to_owned());
    (level, (table.level() == Level::Neuron).then_some(table.units.neurons))
}

/// What the numbers of a file are about.
pub(super) fn from_file<'a>(
    graph: &'a Graph,
    level: Option<&str>,
    neurons: Option<usize>,
) -> Result<Table<'a>, ContentError> {
    let name = level.unwrap_or(Level::Edge.name());
    let level = Level::parse(name).ok_or_else(|| ContentError::Level(name.to_owned()))?;
    let table = Table::new(graph, level, neurons.unwrap_or(0));
    match table.count() {
        count if count > MOST_EDGES => Err(ContentError::TooLarge(count)),
        _ => Ok(table),
    }
}

/// Puts the numbers of a file into their cells; refuses numbers of some units only.
pub(super) fn fill<T: Copy>(
    table: &Table,
    numbers: &IndexMap<String, T>,
    values: &mut Array2<T>,
) -> Result<(), ContentError> {
    for (name, number) in numbers {
        values[table.parse(name)?] = *number;
    }
    let mut missing = table.names().filter(|name| !numbers.contains_key(name));
    match missing.next() {
        None => Ok(()),
        Some(first) => Err(ContentError::Missing {
            missing: 1 + missing.count(),
            count: table.count(),
            what: table.level().plural(),
            first,
        }),
    }
}

pub fn to_json(table: &Table, scores: &Scores, provenance: &Provenance) -> Result<String, ContentError> {
    pretty(&ScoresV1::new(table, scores, provenance))
}

/// With the intervals of all scores, in the order of the table, low and high.
pub fn to_json_with_intervals(
    table: &Table,
    scores: &Scores,
    intervals: &[[f64; 2]],
    provenance: &Provenance,
) -> Result<String, ContentError> {
    pretty(&ScoresV1::new(table, scores, provenance).with_intervals(table, intervals))
}

pub fn parse(text: &str) -> Result<ScoredGraph, ContentError> {
    parse_versioned::<ScoresV1>(text, SCHEMA)?.build()
}

pub fn read(path: &Path) -> Result<ScoredGraph, GraphFileError> {
    read_with(path, parse)
}
