//! Means of sites over prompts: what `mean` edits put in.
//!
//! m = the mean of x over the prompts and, in each, over the positions that are asked for, in f64. Prompts run one by one, so
//! nothing is padded. Cost: one forward a prompt. A mean over other prompts than those that an edit runs on keeps what these
//! have in common out of the ablation; where prompts differ in length and position matters, name one position.

use super::row;
use super::vectors::Encoded;
use crate::intervene::address::Position;
use crate::intervene::failure::RunError;
use crate::intervene::plan::{Plan, Verb};
use crate::intervene::record::{Keep, Record};
use crate::model::site::Site;
use crate::model::{Model, Pass, Start};
use indexmap::IndexMap;
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// The sites that the `mean` edits of a plan write.
///
/// # Errors
/// [`RunError`]: a place that the model does not have.
pub fn wanted(plan: &Plan, model: &Model) -> Result<BTreeSet<Site>, RunError> {
    let mut sites = BTreeSet::new();
    for edit in plan.edits.iter().filter(|edit| edit.verb == Verb::Mean) {
        sites.extend(edit.writes(&model.spec)?.into_iter().map(|write| write.target.site));
    }
    Ok(sites)
}

/// The mean of each site at a position of every prompt, shaped as [`Site::shape`] says. `progress` is told how much is done.
///
/// # Errors
/// [`RunError`]: a position that a prompt does not have, or a site that is never announced.
pub fn of(
    model: &Model,
    sites: &BTreeSet<Site>,
    prompts: &[Encoded],
    position: &Position,
    progress: &mut dyn FnMut(f64),
) -> Result<IndexMap<Site, Tensor>, RunError> {
    let _no_grad = tch::no_grad_guard();
    let mut sums: IndexMap<Site, Tensor> = IndexMap::new();
    let mut count = 0;
    for (index, (tokens, prompt)) in prompts.iter().enumerate() {
        progress(index as f64 / prompts.len() as f64);
        let set = prompt
            .resolve(position)
            .map_err(|error| RunError::Position { action: format!("mean at {position}"), error })?;
        let positions: Vec<i64> = set.within(&(0..tokens.len())).iter().map(|&(_, at)| at as i64).collect();
        count += positions.len();
        let positions = Tensor::from_slice(&positions).to_device(model.device);
        let mut record = Record::new(sites.iter().copied()).keeping(Keep::Values);
        let _ = model.forward(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut record);
        for (site, value) in record.finish()?.values {
            let sum = value.get(0).index_select(0, &positions).sum_dim_intlist(0, false, Kind::Double); // [..]
            match sums.get_mut(&site) {
                Some(total) => *total += sum,
                None => drop(sums.insert(site, sum)),
            }
        }
    }
    for sum in sums.values_mut() {
        *sum /= count.max(1) as f64;
    }
    Ok(sums)
}
