//! Does a circuit hold for a template that it was not chosen on? Each template is left out of the scores in turn; the
//! selection from the others is run on the fresh pairs of the one left out.
//!
//! Cost: a run of the fresh pairs for each template.

use super::resampled::{OfPairs, overlap};
use crate::circuit::EdgeMask;
use crate::circuit::evidence::HeldOut;
use crate::circuit::select::SelectError;
use crate::dataset::TokenPair;
use crate::eval::Bench;
use crate::eval::bench::mean;
use crate::eval::bootstrap::{faithfulness, faithfulness_interval};
use crate::graph::scores::Scores;
use ndarray::Axis;

/// Every template that scored and fresh pairs have in common, in the order of the scored pairs; nothing where the scored
/// pairs have only one. `all`: the selection from all scored pairs.
///
/// # Errors
/// [`SelectError`] of the rule.
pub fn leave_one_out<S: Fn(&Scores) -> Result<EdgeMask, SelectError> + Sync>(
    of_pairs: &OfPairs<S>,
    scored: &[TokenPair],
    (bench, fresh): (&Bench, &[TokenPair]),
    all: &EdgeMask,
    seed: u64,
) -> Result<Vec<HeldOut>, SelectError> {
    let mut templates: Vec<&str> = Vec::new();
    for pair in scored {
        if !templates.contains(&pair.prompt.frame.as_str()) {
            templates.push(&pair.prompt.frame);
        }
    }
    if templates.len() < 2 {
        return Ok(Vec::new());
    }
    let of_all = bench.circuit(all);
    let mut held_out = Vec::new();
    for template in templates {
        let is_of = |pair: &TokenPair| pair.prompt.frame == template;
        let its: Vec<usize> = (0..fresh.len()).filter(|&index| is_of(&fresh[index])).collect();
        if its.is_empty() {
            continue;
        }
        let others: Vec<usize> = (0..scored.len()).filter(|&index| !is_of(&scored[index])).collect();
        let Some(means) = of_pairs.per_pair.select(Axis(0), &others).mean_axis(Axis(0)) else { continue };
        let selected = of_pairs.selected(means.view())?;
        let outcome = bench.circuit(&selected);
        let on_its = |metric: &[f64]| its.iter().map(|&index| metric[index]).collect::<Vec<f64>>();
        let [ablated, model] = [bench.ablated(), bench.clean()].map(|of| on_its(&of.metric));
        let faithful = |metric: &[f64]| faithfulness(mean(metric), mean(&ablated), mean(&model));
        let metric = on_its(&outcome.metric);
        held_out.push(HeldOut {
            template: template.to_owned(),
            pairs: its.len(),
            faithfulness: faithful(&metric),
            interval: faithfulness_interval(&metric, &ablated, &model, seed),
            faithfulness_of_all: faithful(&on_its(&of_all.metric)),
            jaccard: overlap(of_pairs.table.graph, &selected, all),
        });
    }
    Ok(held_out)
}
