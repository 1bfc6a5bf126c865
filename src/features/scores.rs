//! Scores of features: how much of the metric goes through each, by integrated gradients.
//!
//! score(f) = Σ_pos (f_clean − f_corrupt) · mean over the line x = corrupt + α (clean − corrupt) of ∂m/∂x · d_f, with the
//! feature's direction d_f and the midpoints of equal steps as α. The error's score is what the whole difference gives and the
//! features do not. On a site that everything passes through, a layer's output say, they add up to m(clean) − m(corrupt),
//! within the error of the steps.
//!
//! Paper: Marks et al., arXiv:2403.19647, §3; Sundararajan et al., arXiv:1703.01365. Cost: two forwards, and of each dictionary
//! `steps` forwards and backwards.

use super::runs::values;
use super::{Node, Setting, Unit, along};
use crate::intervene::failure::RunError;
use crate::measure::batch::{Batch, Prefix, batches};
use crate::measure::metric::per_pair;
use crate::metric::MetricKind;
use crate::model::site::Site;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Pass, Start};
use tch::{Device, Kind, Tensor};

/// A node with what it does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scored {
    pub node: Node,
    /// In units of the metric, a mean over pairs: how much it helps.
    pub score: f64,
    /// The strongest value in a clean and in a corrupt prompt, a mean over pairs; 0 of an error.
    pub clean: f64,
    pub corrupt: f64,
}

/// The nodes that are not the same in clean and corrupt prompts, by |score|, the largest first. `progress` is told how much is
/// done, from 0 to 1.
///
/// # Errors
/// [`RunError`] where the model has not the site of a dictionary.
pub fn score(setting: &Setting, steps: usize, progress: &mut dyn FnMut(f64)) -> Result<Vec<Scored>, RunError> {
    let Setting { model, pairs, placed, at_once, .. } = *setting;
    let batches = batches(model, pairs, at_once, Prefix::Recomputed);
    let mut sums: Vec<Sums> = placed.iter().map(|placed| Sums::new(placed.dictionary.features())).collect();
    for (done, batch) in batches.iter().enumerate() {
        let [clean, corrupt] = tch::no_grad(|| -> Result<_, RunError> {
            Ok([values(setting, &batch.clean)?, values(setting, &batch.corrupt)?])
        })?;
        for (index, placed) in placed.iter().enumerate() {
            progress((done * sums.len() + index) as f64 / (batches.len() * sums.len()) as f64);
            let ends = [&clean[index], &corrupt[index]]; // [batch, pos, d_model]
            let gradient = mean_gradient(setting, batch, placed.site, ends, steps); // [batch, pos, d_model]
            let _no_grad = tch::no_grad_guard();
            let [on_clean, on_corrupt] = ends.map(|value| placed.dictionary.encode(value)); // [batch, pos, feature]
            let through = along(&placed.dictionary, ends[0], &gradient); // [batch, pos, feature]
            let effects = (&on_clean - &on_corrupt) * through;
            let whole = ((ends[0] - ends[1]) * &gradient).sum(Kind::Double).double_value(&[]);
            sums[index].add(&effects, whole, [&on_clean, &on_corrupt]);
        }
    }
    let mut all: Vec<Scored> =
        sums.into_iter().enumerate().flat_map(|(index, sums)| sums.nodes(index, pairs.len())).collect();
    all.retain(|scored| scored.score != 0.0);
    all.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()).then(a.node.cmp(&b.node)));
    Ok(all)
}

/// The gradient of the batch's summed metric at a site, a mean over the line from the second value to the first.
pub(super) fn mean_gradient(setting: &Setting, batch: &Batch, site: Site, ends: [&Tensor; 2], steps: usize) -> Tensor {
    let [clean, corrupt] = ends;
    let reference = (setting.metric == MetricKind::Kl).then(|| {
        let _no_grad = tch::no_grad_guard();
        let logits = setting.model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut NoTap).squeeze_dim(1);
        logits.log_softmax(-1, None::<Kind>) // [batch, vocab]
    });
    let mut sum = clean.zeros_like(); // [batch, pos, d_model]
    for step in 0..steps {
        let share = (step as f64 + 0.5) / steps as f64;
        let value = tch::no_grad(|| corrupt + (clean - corrupt) * share);
        let mut leaf = Leaf { site, value: value.detach().set_requires_grad(true) };
        let logits = setting.model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut leaf).squeeze_dim(1);
        let metric = per_pair(setting.metric, &logits, batch, reference.as_ref()).sum(None::<Kind>); // []
        sum += Tensor::run_backward(&[metric], &[&leaf.value], false, false).remove(0);
    }
    sum / steps as f64
}

/// Puts a value that gradients are taken for at a site.
struct Leaf {
    site: Site,
    value: Tensor,
}

impl Tap for Leaf {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, _: Tensor) -> Tensor {
        self.value.shallow_clone()
    }
}

/// Over all pairs, of one dictionary.
struct Sums {
    effects: Vec<f64>,
    /// Of the strongest values in clean and corrupt prompts.
    strongest: [Vec<f64>; 2],
    whole: f64,
}

impl Sums {
    fn new(features: usize) -> Sums {
        let zeros = vec![0.0; features];
        Sums { effects: zeros.clone(), strongest: [zeros.clone(), zeros], whole: 0.0 }
    }

    fn add(&mut self, effects: &Tensor, whole: f64, values: [&Tensor; 2]) {
        let add = |sums: &mut [f64], tensor: &Tensor| {
            let numbers = Vec::<f64>::try_from(tensor.to_kind(Kind::Double).to_device(Device::Cpu));
            for (sum, number) in sums.iter_mut().zip(numbers.unwrap_or_default()) {
                *sum += number;
            }
        };
        add(&mut self.effects, &effects.sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double));
        for (sums, values) in self.strongest.iter_mut().zip(values) {
            let of_prompts = values.amax([1i64].as_slice(), false); // [batch, feature]
            add(sums, &of_prompts.sum_dim_intlist(0, false, Kind::Double));
        }
        self.whole += whole;
    }

    fn nodes(self, dictionary: usize, pairs: usize) -> Vec<Scored> {
        let pairs = pairs as f64;
        let rest = self.whole - self.effects.iter().sum::<f64>();
        let error =
            Scored { node: Node { dictionary, unit: Unit::Error }, score: rest / pairs, clean: 0.0, corrupt: 0.0 };
        let features = self.effects.iter().enumerate().map(|(feature, effect)| Scored {
            node: Node { dictionary, unit: Unit::Feature(feature) },
            score: effect / pairs,
            clean: self.strongest[0][feature] / pairs,
            corrupt: self.strongest[1][feature] / pairs,
        });
        features.chain([error]).collect()
    }
}
