//! `positions.json`: scores of every edge, node or neuron at each group of positions, `schema = "penjing.positions/1"`.

use super::file::{ContentError, GraphFileError, GraphV1, Provenance, parse_versioned, pretty, read_with};
use super::scores_file::{from_file, in_file};
use crate::graph::Table;
use crate::graph::scores::Scores;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const SCHEMA: &str = "penjing.positions/1";

/// The file as written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PositionsV1 {
    pub schema: String,
    pub provenance: Provenance,
    pub graph: GraphV1,
    /// Absent at edge level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Neurons of each MLP, at neuron level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neurons: Option<usize>,
    /// The groups of positions, every position of a prompt in one of them.
    pub positions: Vec<String>,
    /// Name of an edge (a node, a neuron) to its score in each of them.
    pub scores: IndexMap<String, Vec<f32>>,
}

/// The file's text for scores in each of the groups of positions.
///
/// # Errors
/// None in practice: scores are finite.
pub fn to_json(
    table: &Table,
    positions: &[String],
    scores: &[Scores],
    provenance: &Provenance,
) -> Result<String, ContentError> {
    let (level, neurons) = in_file(table);
    let of_cell = |cell| (table.name(cell), scores.iter().map(|scores| scores.values[cell]).collect());
    pretty(&PositionsV1 {
        schema: SCHEMA.into(),
        provenance: provenance.clone(),
        graph: GraphV1::new(table.graph),
        level,
        neurons,
        positions: positions.to_vec(),
        scores: table.cells().into_iter().map(of_cell).collect(),
    })
}

/// # Errors
/// A file that cannot be read, of another schema, or with names that its graph has not or numbers that are missing.
pub fn read(path: &Path) -> Result<PositionsV1, GraphFileError> {
    read_with(path, |text| {
        let file: PositionsV1 = parse_versioned(text, SCHEMA)?;
        let graph = file.graph.build()?;
        let table = from_file(&graph, file.level.as_deref(), file.neurons)?;
        for (name, scores) in &file.scores {
            table.parse(name)?;
            if scores.len() != file.positions.len() {
                return Err(ContentError::Positions { name: name.clone() });
            }
        }
        Ok(file)
    })
}
