//! Reading and writing some rows, positions and units of a site's tensor, out of place.

use super::address::Position;
use super::failure::RunError;
use super::position::{PositionSet, Prompt};
use super::slice::SiteSlice;
use crate::model::site::Site;
use std::ops::Range;
use tch::{Device, Tensor};

/// Places in a tensor, as row and position pairs counted from the tensor's own start.
#[derive(Default)]
pub(super) struct Cells {
    pub rows: Vec<i64>,
    pub positions: Vec<i64>,
}

impl Cells {
    pub fn push(&mut self, row: usize, position: usize) {
        self.rows.push(row as i64);
        self.positions.push(position as i64);
    }
}

/// Which positions of the prompt a value covers, if its last one is `end - 1`: a pass may leave out a prefix, and the
/// final norm may see the last position alone.
pub(super) fn window(action: &str, site: Site, value: &Tensor, end: usize) -> Result<Range<usize>, RunError> {
    let axis = if matches!(site, Site::Pattern(_)) { 2 } else { 1 };
    let length = value.size().get(axis).map_or(0, |&size| size as usize);
    let too_long = || RunError::PassLength { action: action.into(), length, end };
    end.checked_sub(length).map(|start| start..end).ok_or_else(too_long)
}

/// Index tensors that broadcast to `[cell, unit]`, or `[cell, 1]` where the site has no units.
fn indices(slice: &SiteSlice, cells: &Cells, device: Device) -> Vec<Option<Tensor>> {
    let column = |values: &[i64]| Some(Tensor::from_slice(values).view([-1, 1]).to_device(device)); // [cell, 1]
    let (rows, positions) = (column(&cells.rows), column(&cells.positions));
    let Some(units) = &slice.units else { return vec![rows, positions] };
    let units: Vec<i64> = units.iter().map(|&unit| unit as i64).collect();
    let units = Some(Tensor::from_slice(&units).view([1, -1]).to_device(device)); // [1, unit]
    match slice.site {
        Site::Pattern(_) => vec![rows, units, positions],
        _ => vec![rows, positions, units],
    }
}

fn holds_neurons(slice: &SiteSlice) -> bool {
    matches!(slice.site, Site::MlpPre(_) | Site::MlpPost(_))
}

/// The values at these cells: `[cell, vector, width]`, with gradients.
pub(super) fn gather(value: &Tensor, slice: &SiteSlice, cells: &Cells) -> Result<Tensor, RunError> {
    let values = value.f_index(&indices(slice, cells, value.device())).map_err(RunError::torch)?;
    Ok(if holds_neurons(slice) { values.unsqueeze(1) } else { values })
}

/// The tensor with other values `[cell, vector, width]` at these cells; a new one, so that what others hold is not changed.
pub(super) fn put(value: &Tensor, slice: &SiteSlice, cells: &Cells, values: &Tensor) -> Result<Tensor, RunError> {
    let values = if holds_neurons(slice) { values.squeeze_dim(1) } else { values.shallow_clone() };
    value.f_index_put(&indices(slice, cells, value.device()), &values, false).map_err(RunError::torch)
}

/// The positions in each prompt, all of one length.
pub(super) fn resolve_rows(
    action: &str,
    prompts: &[Prompt],
    position: &Position,
) -> Result<Vec<PositionSet>, RunError> {
    let lengths = prompts.iter().map(|prompt| prompt.tokens);
    if let (Some(shorter), Some(longer)) = (lengths.clone().min(), lengths.max())
        && shorter != longer
    {
        return Err(RunError::Lengths { shorter, longer });
    }
    let resolve =
        |prompt: &Prompt| prompt.resolve(position).map_err(|error| RunError::Position { action: action.into(), error });
    prompts.iter().map(resolve).collect()
}

/// The positions of one row; a single prompt serves a whole batch.
pub(super) fn row_of<'a>(
    action: &str,
    rows: &'a [PositionSet],
    row: usize,
    batch: usize,
) -> Result<&'a PositionSet, RunError> {
    match rows {
        [only] => Ok(only),
        _ if rows.len() == batch => Ok(&rows[row]),
        _ => Err(RunError::Batch { action: action.into(), prompts: rows.len(), rows: batch }),
    }
}
