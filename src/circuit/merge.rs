//! Puts the parts of a run together: what belongs together is told by what is in the files, not by their names.

use super::file::{ContentError, GraphFileError, Provenance};
use super::shard_file::{self, ScoredShard};
use crate::error::Hint;
use crate::graph::scores::Scores;
use crate::graph::{Graph, Level, Table};
use crate::identity::Identity;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// A run whose parts are all there.
pub struct Merged {
    pub provenance: Provenance,
    pub graph: Graph,
    pub level: Level,
    /// Neurons of each MLP, at neuron level.
    pub neurons: usize,
    /// Over all pairs: `[source, destination]`, or `[unit, 1]` above edge level.
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
            parts.push((path.as_path(), shard_file::read(path)?));
        }
        parts.sort_by_key(|(_, part)| part.scores.shard);
        let Some((first, of_first)) = parts.first() else { return Err(MergeError::Nothing) };
        let run = run_of(first, of_first)?;
        for (other, part) in &parts {
            let differences = Identity::differences(&run_of(other, part)?, &run);
            if !differences.is_empty() {
                let (first, other) = (first.to_path_buf(), other.to_path_buf());
                return Err(MergeError::Foreign { first, other, differences });
            }
        }
        for ((first, one), (second, other)) in parts.iter().zip(&parts[1..]) {
            if one.scores.shard == other.scores.shard {
                let (first, second) = (first.to_path_buf(), second.to_path_buf());
                return Err(MergeError::Doubled { shard: one.scores.shard.to_string(), first, second });
            }
        }
        let ScoredShard { graph, level, neurons, scores } = of_first;
        let count = scores.shard.count;
        let is_there = |index: usize| parts.iter().any(|(_, part)| part.scores.shard.index == index);
        let missing = count - parts.len();
        if missing > 0 {
            let names = (0..count).filter(|&index| !is_there(index)).map(|index| format!("{index}/{count}"));
            return Err(MergeError::Missing { count, missing, first: names.take(SHOWN).collect() });
        }
        let zeros = Array2::zeros(scores.sums.dim()); // [source, destination] or [unit, 1]
        Ok(Merged {
            provenance: scores.provenance.clone(),
            graph: graph.clone(),
            level: *level,
            neurons: *neurons,
            sums: parts.iter().fold(zeros, |sums, (_, part)| sums + &part.scores.sums),
            files: parts.iter().map(|(path, _)| path.to_path_buf()).collect(),
            per_pair: scores.per_pair,
        })
    }

    /// What the scores are of.
    pub fn table(&self) -> Table<'_> {
        Table::new(&self.graph, self.level, self.neurons)
    }

    /// The means over all pairs.
    pub fn scores(&self) -> Scores {
        Scores { values: self.sums.mapv(|sum| (sum / self.provenance.pairs as f64) as f32) }
    }
}

/// What a part has to have in common with the others.
fn run_of(path: &Path, part: &ScoredShard) -> Result<Identity, MergeError> {
    let content = |source: serde_json::Error| MergeError::Content { path: path.to_owned(), source: source.into() };
    let run = part.scores.run().map_err(content)?;
    let run = run.with("graph", &format!("{:?}", part.graph.dimensions).into());
    Ok(run.with("level", &part.level.name().into()).with("neurons", &part.neurons.into()))
}
