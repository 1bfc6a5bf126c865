//! `per-pair.npz`: the score of every edge (node, neuron) on every pair, for notebooks: a bootstrap needs no further pass.
//!
//! Arrays: `scores`, `[pair, edge]`, f32, pairs in the order of the data set and edges in that of `scores.json`; and `edges`,
//! the names of the edges, `[edge, byte]`, ASCII padded with zeros (a `.view("S…")` of that width in numpy). Above edge level
//! the names are called `units`.

use crate::error::{FileError, Hint};
use crate::graph::Table;
use ndarray::Array2;
use ndarray_npy::{NpzReader, NpzWriter, ReadNpzError, WriteNpzError};
use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// What can be wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum PairScoresError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot put scores of each pair into an .npz file: {0}")]
    Write(#[from] WriteNpzError),
    #[error("{} holds no array `scores` of f32: {source}", path.display())]
    Read { path: PathBuf, source: ReadNpzError },
    #[error("{} holds scores of {} pairs and {} edges or units instead of {} and {}", path.display(), found.0, found.1, expected.0, expected.1)]
    Shape { path: PathBuf, found: (usize, usize), expected: (usize, usize) },
}

impl Hint for PairScoresError {
    fn hint(&self) -> Option<String> {
        match self {
            PairScoresError::File(error) => error.hint(),
            PairScoresError::Write(_) => None,
            PairScoresError::Read { .. } | PairScoresError::Shape { .. } => {
                Some("the file was damaged or replaced; score again with --per-pair".into())
            }
        }
    }
}

/// The bytes of the file for scores `[pair, unit]`.
///
/// # Errors
/// [`PairScoresError::Write`], beyond what the format can hold.
pub fn to_npz(table: &Table, scores: &Array2<f32>) -> Result<Vec<u8>, PairScoresError> {
    let names: Vec<String> = table.names().collect();
    let width = names.iter().map(String::len).max().unwrap_or(0);
    let byte = |(unit, place): (usize, usize)| names[unit].as_bytes().get(place).copied().unwrap_or(0);
    let names: Array2<u8> = Array2::from_shape_fn((names.len(), width), byte);
    let mut file = NpzWriter::new(Cursor::new(Vec::new()));
    file.add_array("scores", scores)?;
    file.add_array(table.level().plural(), &names)?;
    Ok(file.finish()?.into_inner())
}

/// The scores `[pair, unit]` of a file that holds them for so many pairs and units.
///
/// # Errors
/// [`PairScoresError`].
pub fn read(path: &Path, shape: (usize, usize)) -> Result<Array2<f32>, PairScoresError> {
    let wrong = |source| PairScoresError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(FileError::reading(path))?;
    let scores: Array2<f32> = NpzReader::new(file).and_then(|mut file| file.by_name("scores")).map_err(wrong)?;
    match scores.dim() {
        found if found == shape => Ok(scores),
        found => Err(PairScoresError::Shape { path: path.to_owned(), found, expected: shape }),
    }
}

/// Those of several parts one after another.
pub fn concatenate(parts: &[Array2<f32>], units: usize) -> Array2<f32> {
    let mut all = Array2::zeros((0, units));
    for row in parts.iter().flat_map(|part| part.rows()) {
        // Rows of another length cannot be there: `read` checks them.
        let _ = all.push_row(row);
    }
    all
}
