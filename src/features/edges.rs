//! Which features act through which: from the nodes of each dictionary to those of the next.
//!
//! weight(u → d) = Σ ∂m/∂d · ∂d/∂u · (u_clean − u_corrupt), summed over positions and averaged over pairs, with ∂m/∂d as the
//! scores have it and ∂d/∂u on the clean prompts, through everything between the two sites. What a node does past the next
//! dictionary (to one further up, or around a site that not everything passes through) is not in it.
//!
//! Paper: Marks et al., arXiv:2403.19647. Cost: of each pair of neighbouring dictionaries a forward and, for every node of the
//! upper one, a backward.

use super::runs::values;
use super::scores::mean_gradient;
use super::{Kept, Node, Setting, Unit, along};
use crate::intervene::failure::RunError;
use crate::intervene::record::{Keep, Record};
use crate::measure::batch::{Prefix, batches};
use crate::model::{Pass, Start};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// An edge between nodes of neighbouring dictionaries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Edge {
    pub from: Node,
    pub to: Node,
    /// In units of the metric: how much of what `to` does comes from `from`.
    pub weight: f64,
}

/// All edges between kept nodes, in order. `progress` is told how much is done, from 0 to 1.
///
/// # Errors
/// [`RunError`] where the model has not the site of a dictionary.
pub fn edges(
    setting: &Setting,
    kept: &Kept,
    steps: usize,
    progress: &mut dyn FnMut(f64),
) -> Result<Vec<Edge>, RunError> {
    let Setting { model, pairs, placed, at_once, .. } = *setting;
    let mut weights: BTreeMap<(Node, Node), f64> = BTreeMap::new();
    let batches = batches(model, pairs, at_once, Prefix::Recomputed);
    for (done, batch) in batches.iter().enumerate() {
        let [clean, corrupt] = tch::no_grad(|| -> Result<_, RunError> {
            Ok([values(setting, &batch.clean)?, values(setting, &batch.corrupt)?])
        })?;
        for (index, pair) in placed.windows(2).enumerate() {
            let [lower, upper] = pair else { continue };
            let of = |dictionary| kept.iter().copied().filter(move |node| node.dictionary == dictionary);
            let ends = [&clean[index + 1], &corrupt[index + 1]];
            let gradient = mean_gradient(setting, batch, upper.site, ends, steps); // [batch, pos, d_model]
            let mut record = Record::new([lower.site, upper.site]).keeping(Keep::Gradients);
            let _ = model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut record);
            let recorded = record.finish()?.values;
            let (below, above) = (&recorded[&lower.site], &recorded[&upper.site]); // [batch, pos, d_model]
            let features = upper.dictionary.encode(above); // [batch, pos, feature]
            let rest = above - upper.dictionary.decode(&features, above);
            let through = tch::no_grad(|| along(&upper.dictionary, above, &gradient)); // [batch, pos, feature]
            let change =
                tch::no_grad(|| lower.dictionary.encode(&clean[index]) - lower.dictionary.encode(&corrupt[index])); // [batch, pos, feature]
            for to in of(index + 1) {
                progress((done * placed.len() + index) as f64 / (batches.len() * placed.len()) as f64);
                let acts = match to.unit {
                    Unit::Feature(feature) => {
                        (features.select(-1, feature as i64) * through.select(-1, feature as i64)).sum(None::<Kind>)
                    }
                    Unit::Error => (&rest * &gradient).sum(None::<Kind>),
                };
                let back = Tensor::f_run_backward(&[acts], &[below], true, false).map_err(RunError::torch)?.remove(0);
                let _no_grad = tch::no_grad_guard();
                let effects = &change * along(&lower.dictionary, below, &back); // [batch, pos, feature]
                let of_features = effects.sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double); // [feature]
                let whole = ((&clean[index] - &corrupt[index]) * &back).sum(Kind::Double);
                let of_error = (whole - of_features.sum(Kind::Double)).double_value(&[]);
                for from in of(index) {
                    let weight = match from.unit {
                        Unit::Feature(feature) => of_features.double_value(&[feature as i64]),
                        Unit::Error => of_error,
                    };
                    *weights.entry((from, to)).or_default() += weight / pairs.len() as f64;
                }
            }
        }
    }
    progress(1.0);
    Ok(weights.into_iter().map(|((from, to), weight)| Edge { from, to, weight }).collect())
}
