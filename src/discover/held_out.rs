//! Does a circuit hold for a template that it was not chosen on? Each template is left out of the scores in turn; the
//! selection from the others is run on the fresh pairs of the one left out.
//!
//! Cost: a run of the fresh pairs for each template.

use super::resampled::{OfPairs, overlap};
use crate::circuit::EdgeMask;
use crate::circuit::evidence::{HeldOut, Template};
use crate::circuit::select::SelectError;
use crate::dataset::TokenPair;
use crate::eval::Bench;
use crate::eval::bench::mean;
use crate::eval::bootstrap::{faithfulness, faithfulness_interval};
use crate::graph::scores::Scores;
use ndarray::Axis;

/// Every fresh pair of a template that was scored, under the selection from all other templates; nothing where the scored
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
) -> Result<Option<HeldOut>, SelectError> {
    let mut names: Vec<&str> = Vec::new();
    for pair in scored {
        if !names.contains(&pair.prompt.frame.as_str()) {
            names.push(&pair.prompt.frame);
        }
    }
    if names.len() < 2 {
        return Ok(None);
    }
    let of_all = bench.circuit(all);
    let mut templates = Vec::new();
    let mut pooled: Vec<[f64; 4]> = Vec::new();
    for name in names {
        let is_of = |pair: &TokenPair| pair.prompt.frame == name;
        let others: Vec<usize> = (0..scored.len()).filter(|&index| !is_of(&scored[index])).collect();
        let its: Vec<usize> = (0..fresh.len()).filter(|&index| is_of(&fresh[index])).collect();
        let Some(means) = of_pairs.per_pair.select(Axis(0), &others).mean_axis(Axis(0)) else { continue };
        if its.is_empty() {
            continue;
        }
        let selected = of_pairs.selected(means.view())?;
        let outcome = bench.circuit(&selected);
        let runs = [&outcome, bench.ablated(), bench.clean(), &of_all];
        let of_template: Vec<[f64; 4]> = its.iter().map(|&index| runs.map(|run| run.metric[index])).collect();
        let (faithfulness, interval, faithfulness_of_all) = measured(&of_template, seed);
        templates.push(Template {
            name: name.to_owned(),
            pairs: its.len(),
            faithfulness,
            interval,
            faithfulness_of_all,
            jaccard: overlap(of_pairs.table.graph, &selected, all),
        });
        pooled.extend(of_template);
    }
    if pooled.is_empty() {
        return Ok(None);
    }
    let (faithfulness, interval, faithfulness_of_all) = measured(&pooled, seed);
    Ok(Some(HeldOut { pairs: pooled.len(), faithfulness, interval, faithfulness_of_all, templates }))
}

/// Faithfulness with its interval, and that of the selection from all templates, from the metric of each pair in four runs:
/// its circuit, all ablated, the model, the circuit of all templates.
fn measured(pairs: &[[f64; 4]], seed: u64) -> (f64, [f64; 2], f64) {
    let run = |index: usize| pairs.iter().map(|pair| pair[index]).collect::<Vec<f64>>();
    let [own, ablated, model, of_all] = [run(0), run(1), run(2), run(3)];
    let faithful = |metric: &[f64]| faithfulness(mean(metric), mean(&ablated), mean(&model));
    (faithful(&own), faithfulness_interval(&own, &ablated, &model, seed), faithful(&of_all))
}
