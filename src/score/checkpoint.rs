//! `checkpoint.bin`: a run in the middle, `penjing.checkpoint/1`.
//!
//! A line with the schema, a line of JSON (what the run depends on, the division, the batches to do), the sums as
//! little-endian f64, the scores of each pair as little-endian f32, and the blake3 hash of all that.

use super::{Begun, Method, Problem, State};
use crate::error::{FileError, Hint};
use crate::identity::Identity;
use crate::measure::batch::Rows;
use crate::measure::memory::Division;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub const SCHEMA: &str = "penjing.checkpoint/1";

const HASH: usize = blake3::OUT_LEN;

/// Why a run cannot go on from a file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("there is nothing to resume: {} does not exist", path.display())]
    Nothing { path: PathBuf },
    #[error("{} is no checkpoint of this version", path.display())]
    Schema { path: PathBuf },
    #[error("{} is damaged", path.display())]
    Damaged { path: PathBuf },
    #[error("{} is of another run: {}", path.display(), differences.join(", "))]
    Other { path: PathBuf, differences: Vec<String> },
}

impl Hint for CheckpointError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            CheckpointError::File(error) => return error.hint(),
            CheckpointError::Nothing { .. } => {
                "leave --resume out to start from the beginning, or name the folder of the stopped run with --out".into()
            }
            CheckpointError::Schema { .. } | CheckpointError::Damaged { .. } => {
                "leave --resume out to start from the beginning".into()
            }
            CheckpointError::Other { .. } => {
                "repeat the stopped run's options, choose another --out, or leave --resume out to start from the beginning"
                    .into()
            }
        })
    }
}

/// The line of JSON.
#[derive(Serialize, Deserialize)]
struct HeaderV1 {
    run: Identity,
    division: DivisionV1,
    pairs: usize,
    left: Vec<RowsV1>,
    together: bool,
    /// Rows and columns of the sums.
    shape: (usize, usize),
    begun: Option<BegunV1>,
    /// Edges for which the scores of each pair are kept.
    per_pair: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct DivisionV1 {
    pairs: usize,
    stretch: usize,
    passes: usize,
    bytes: usize,
}

#[derive(Serialize, Deserialize)]
struct RowsV1 {
    indices: Vec<usize>,
    shared: usize,
}

#[derive(Serialize, Deserialize)]
struct BegunV1 {
    done: usize,
    steps: usize,
    /// How many sums stand beside each other: one for each pair of the batch where they are kept apart.
    parts: usize,
}

/// The bytes of the file for a run that depends on `run`.
///
/// # Errors
/// None in practice: the header holds nothing that JSON has not.
pub fn to_bytes(state: &State, run: &Identity) -> serde_json::Result<Vec<u8>> {
    let Division { pairs, stretch, passes, bytes } = state.division;
    let header = HeaderV1 {
        run: run.clone(),
        division: DivisionV1 { pairs, stretch, passes, bytes },
        pairs: state.pairs,
        left: state
            .left
            .iter()
            .map(|Rows { indices, shared }| RowsV1 { indices: indices.clone(), shared: *shared })
            .collect(),
        together: state.together,
        shape: state.sums.dim(),
        begun: state.begun.as_ref().map(|Begun { done, steps, sums }| BegunV1 {
            done: *done,
            steps: *steps,
            parts: sums.ncols() / state.sums.ncols().max(1),
        }),
        per_pair: state.per_pair.as_ref().map(Array2::ncols),
    };
    let mut bytes = format!("{SCHEMA}\n{}\n", serde_json::to_string(&header)?).into_bytes();
    for sums in std::iter::once(&state.sums).chain(state.begun.as_ref().map(|begun| &begun.sums)) {
        bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    if let Some(scores) = &state.per_pair {
        bytes.extend(scores.iter().flat_map(|score| score.to_le_bytes()));
    }
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    Ok(bytes)
}

/// The state in a file, which has to be one of this problem and of the run that depends on `run`.
///
/// # Errors
/// [`CheckpointError`].
pub fn read(path: &Path, run: &Identity, problem: &Problem, method: &Method) -> Result<State, CheckpointError> {
    let path = || path.to_owned();
    let bytes = match std::fs::read(path()) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CheckpointError::Nothing { path: path() });
        }
        Err(error) => return Err(FileError::reading(&path())(error).into()),
    };
    let content = bytes.strip_prefix(SCHEMA.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
    let content = content.ok_or_else(|| CheckpointError::Schema { path: path() })?;
    let damaged = || CheckpointError::Damaged { path: path() };
    let (hashed, hash) = bytes.split_last_chunk::<HASH>().ok_or_else(damaged)?;
    if blake3::hash(hashed).as_bytes() != hash {
        return Err(damaged());
    }
    let content = content.get(..content.len() - HASH).ok_or_else(damaged)?;
    let line = content.iter().position(|&byte| byte == b'\n').ok_or_else(damaged)?;
    let header: HeaderV1 = serde_json::from_slice(&content[..line]).map_err(|_| damaged())?;
    let differences = Identity::differences(run, &header.run);
    if !differences.is_empty() {
        return Err(CheckpointError::Other { path: path(), differences });
    }
    state(header, &content[line + 1..]).filter(|state| state.fits(problem, method)).ok_or_else(damaged)
}

/// Header and numbers put together; nothing where they do not match.
fn state(header: HeaderV1, numbers: &[u8]) -> Option<State> {
    let HeaderV1 { division, pairs, left, together, shape, begun, per_pair, .. } = header;
    let DivisionV1 { pairs: at_once, stretch, passes, bytes } = division;
    let mut numbers = Numbers(numbers);
    let sums = numbers.take(shape, f64::from_le_bytes)?;
    let begun = match begun {
        Some(BegunV1 { done, steps, parts }) => {
            let shape = (shape.0, shape.1.checked_mul(parts)?);
            Some(Begun { done, steps, sums: numbers.take(shape, f64::from_le_bytes)? })
        }
        None => None,
    };
    let per_pair = match per_pair {
        Some(edges) => Some(numbers.take((pairs, edges), f32::from_le_bytes)?),
        None => None,
    };
    let division = Division { pairs: at_once, stretch, passes, bytes };
    let left = left.into_iter().map(|RowsV1 { indices, shared }| Rows { indices, shared }).collect();
    numbers.0.is_empty().then_some(State { division, pairs, left, together, sums, begun, per_pair })
}

/// The numbers that are still to be read.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<T, const N: usize>(&mut self, shape: (usize, usize), number: fn([u8; N]) -> T) -> Option<Array2<T>> {
        let size = shape.0.checked_mul(shape.1)?.checked_mul(N)?;
        let (these, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        let values = these.as_chunks::<N>().0.iter().copied().map(number).collect();
        Array2::from_shape_vec(shape, values).ok()
    }
}
