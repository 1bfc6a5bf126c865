//! Puts the parts of a run together: what belongs together is told by what is in the files, not by their names.

use super::file::{ContentError, GraphFileError, Provenance};
use super::shard_file::{self, ShardScores};
use crate::error::Hint;
use crate::graph::Graph;
use crate::graph::scores::Scores;
use crate::identity::Identity;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// A run whose parts are all there.
pub struct Merged {
    pub provenance: Provenance,
    pub graph: Graph,
    /// Over all pairs: `[source, destination]`.
    pub sums: Array2<f64>,
    /// The files in the order of the shards, and whether each has scores of every pair beside it.
    pub files: Vec<PathBuf>,
    pub per_pair: bool,
}

/// Why files are not the parts of one run.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("there is no shard to merge")]
    Nothing,
    #[error(transparent)]
    Read(#[from] GraphFileError),
    #[error("{} and {} are of different runs: {}", first.display(), other.display(), differences.join(", "))]
    Foreign { first: PathBuf, other: PathBuf, differences: Vec<String> },
    #[error("shard {shard} is there twice: {} and {}", first.display(), second.display())]
    Doubled { shard: String, first: PathBuf, second: PathBuf },
    #[error("{missing} of {count} shards are missing: {}", in_words(first, *missing))]
    Missing { count: usize, missing: usize, first: Vec<String> },
    #[error("{}: {source}", path.display())]
    Content { path: PathBuf, source: ContentError },
}

/// How many missing shards a message names.
const SHOWN: usize = 8;

fn in_words(first: &[String], missing: usize) -> String {
    first.join(", ") + if missing > first.len() { ", ..." } else { "" }
}

impl Hint for MergeError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            MergeError::Nothing => {
                "`penjing score TASK --shard 0/4` writes shard-0-of-4.json into its --out folder".into()
            }
            MergeError::Read(error) => return error.hint(),
            MergeError::Foreign { .. } => {
                "score all shards with the same options, --threads too, and name only the files of one run".into()
            }
            MergeError::Doubled { .. } => "name each shard once".into(),
            MergeError::Missing { first, .. } => {
                let shard = first.first().map(String::as_str).unwrap_or_default();
                format!("score with --shard {shard} (and --resume if it was stopped), or name its file too")
            }
            MergeError::Content { source, .. } => return source.hint(),
        })
    }
}

impl Merged {
    /// Reads the parts and adds them in the order of the shards, so that the sums do not depend on the order of `files`.
    ///
    /// # Errors
    /// [`MergeError`].
    pub fn read(files: &[PathBuf]) -> Result<Merged, MergeError> {
        let mut parts = Vec::new();
        for path in files {
            let (graph, part) = shard_file::read(path)?;
            parts.push((path.as_path(), graph, part));
        }
        parts.sort_by_key(|(_, _, part)| part.shard);
        let Some((first, graph, of_first)) = parts.first() else { return Err(MergeError::Nothing) };
        let run = run_of(first, graph, of_first)?;
        for (other, graph, part) in &parts {
            let differences = Identity::differences(&run_of(other, graph, part)?, &run);
            if !differences.is_empty() {
                let (first, other) = (first.to_path_buf(), other.to_path_buf());
                return Err(MergeError::Foreign { first, other, differences });
            }
        }
        for ((first, _, one), (second, _, other)) in parts.iter().zip(&parts[1..]) {
            if one.shard == other.shard {
                let (first, second) = (first.to_path_buf(), second.to_path_buf());
                return Err(MergeError::Doubled { shard: one.shard.to_string(), first, second });
            }
        }
        let count = of_first.shard.count;
        let is_there = |index: usize| parts.iter().any(|(_, _, part)| part.shard.index == index);
        let missing = count - parts.len();
        if missing > 0 {
            let names = (0..count).filter(|&index| !is_there(index)).map(|index| format!("{index}/{count}"));
            return Err(MergeError::Missing { count, missing, first: names.take(SHOWN).collect() });
        }
        let zeros = Array2::zeros(of_first.sums.dim()); // [source, destination]
        Ok(Merged {
            provenance: of_first.provenance.clone(),
            graph: graph.clone(),
            sums: parts.iter().fold(zeros, |sums, (_, _, part)| sums + &part.sums),
            files: parts.iter().map(|(path, _, _)| path.to_path_buf()).collect(),
            per_pair: of_first.per_pair,
        })
    }

    /// The means over all pairs.
    pub fn scores(&self) -> Scores {
        Scores { values: self.sums.mapv(|sum| (sum / self.provenance.pairs as f64) as f32) }
    }
}

/// What a part has to have in common with the others.
fn run_of(path: &Path, graph: &Graph, part: &ShardScores) -> Result<Identity, MergeError> {
    let content = |source: serde_json::Error| MergeError::Content { path: path.to_owned(), source: source.into() };
    let run = part.run().map_err(content)?;
    Ok(run.with("graph", &format!("{:?}", graph.dimensions).into()))
}
