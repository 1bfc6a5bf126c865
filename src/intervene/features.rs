//! Reading and writing features: the coordinates that a dictionary gives to a vector of the residual stream's width.
//!
//! A changed feature adds its change times its direction, so that what the dictionary does not see of the vector (its error)
//! stays as it was, and a change of nothing is nothing.

use super::cells::{Cells, gather, put};
use super::failure::RunError;
use super::parse;
use super::slice::SiteSlice;
use crate::dictionary::Dictionary;
use crate::model::site::Site;
use crate::model::spec::Spec;
use tch::Tensor;

/// The site of a model that a dictionary says it is of.
pub fn site(dictionary: &Dictionary, spec: &Spec) -> Option<Site> {
    let address = parse::address(dictionary.record.site.as_deref()?).ok()?;
    Some(address.place.slices(spec).ok()?.first()?.site)
}

/// The values at these cells, features among them: `[cell, vector, width]`.
pub(super) fn read(
    value: &Tensor,
    slice: &SiteSlice,
    cells: &Cells,
    dictionary: Option<&Dictionary>,
) -> Result<Tensor, RunError> {
    let (Some(dictionary), Some(units)) = (dictionary, &slice.units) else { return gather(value, slice, cells) };
    let x = gather(value, &SiteSlice::whole(slice.site), cells)?; // [cell, 1, d_model]
    let units: Vec<i64> = units.iter().map(|&unit| unit as i64).collect();
    let units = Tensor::from_slice(&units).to_device(x.device());
    Ok(dictionary.encode(&x).index_select(-1, &units)) // [cell, 1, feature]
}

/// The tensor with `new` values instead of `old` at these cells, both `[cell, vector, width]`.
pub(super) fn write(
    value: &Tensor,
    slice: &SiteSlice,
    cells: &Cells,
    [old, new]: [&Tensor; 2],
    dictionary: Option<&Dictionary>,
) -> Result<Tensor, RunError> {
    let (Some(dictionary), Some(units)) = (dictionary, &slice.units) else { return put(value, slice, cells, new) };
    let whole = SiteSlice::whole(slice.site);
    let x = gather(value, &whole, cells)?; // [cell, 1, d_model]
    put(value, &whole, cells, &dictionary.changed(&x, units, &(new - old)))
}
