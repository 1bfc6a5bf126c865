//! Pairs on which many circuits of features are run.

use super::{Kept, Node, Placed, Setting, Unit};
use crate::eval::bench::{Outcome, measure};
use crate::intervene::failure::RunError;
use crate::intervene::record::{Keep, Record};
use crate::measure::batch::{Batch, Prefix, batches};
use crate::model::site::Site;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Model, Pass, Start};
use tch::{Kind, Tensor};

/// The pairs in batches, with what the corrupt prompts have at the sites.
pub struct Runs<'a> {
    pub setting: Setting<'a>,
    prepared: Vec<Prepared>,
    /// The model on the clean prompts, and with every node ablated.
    pub clean: Outcome,
    pub ablated: Outcome,
}

struct Prepared {
    batch: Batch,
    reference: Tensor,     // clean log-probabilities [batch, vocab]
    corrupt: Vec<Corrupt>, // of each dictionary
}

/// What the corrupt prompts have at a site.
struct Corrupt {
    value: Tensor,    // [batch, pos, d_model]
    features: Tensor, // [batch, pos, feature]
}

impl<'a> Runs<'a> {
    /// # Errors
    /// [`RunError`] where the model has not the site of a dictionary.
    pub fn new(setting: Setting<'a>) -> Result<Runs<'a>, RunError> {
        let _no_grad = tch::no_grad_guard();
        let Setting { model, pairs, metric, placed, at_once } = setting;
        let mut clean = Outcome::of(pairs.len());
        let mut prepared = Vec::new();
        for batch in batches(model, pairs, at_once, Prefix::Recomputed) {
            let corrupt = values(&setting, &batch.corrupt)?
                .into_iter()
                .zip(placed)
                .map(|(value, placed)| Corrupt { features: placed.dictionary.encode(&value), value });
            let corrupt = corrupt.collect();
            let logits = model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut NoTap).squeeze_dim(1); // [batch, vocab]
            let reference = logits.log_softmax(-1, None::<Kind>);
            clean.fill(&batch, &measure(metric, &logits, &batch, &reference));
            prepared.push(Prepared { batch, reference, corrupt });
        }
        let mut runs = Runs { setting, prepared, clean, ablated: Outcome::default() };
        runs.ablated = runs.circuit(&Kept::new());
        Ok(runs)
    }

    /// A circuit on the clean prompts.
    pub fn circuit(&self, kept: &Kept) -> Outcome {
        let _no_grad = tch::no_grad_guard();
        let Setting { model, metric, placed, pairs, .. } = self.setting;
        let split: Vec<Split> =
            (0..placed.len()).map(|dictionary| Split::new(&placed[dictionary], dictionary, kept)).collect();
        let mut outcome = Outcome::of(pairs.len());
        for Prepared { batch, reference, corrupt } in &self.prepared {
            let mut splice = Splice { placed, corrupt, split: &split };
            let logits = model.forward(Start::Tokens(&batch.clean), &Pass::LAST, &mut splice).squeeze_dim(1); // [batch, vocab]
            outcome.fill(batch, &measure(metric, &logits, batch, reference));
        }
        outcome
    }
}

/// The values at the site of each dictionary, `[batch, pos, d_model]`, of prompts `[batch, pos]`.
pub(super) fn values(setting: &Setting, tokens: &Tensor) -> Result<Vec<Tensor>, RunError> {
    let mut record = Record::new(setting.placed.iter().map(|placed| placed.site)).keeping(Keep::Values);
    let _ = setting.model.forward(Start::Tokens(tokens), &Pass::LAST, &mut record);
    let recording = record.finish()?;
    Ok(setting.placed.iter().map(|placed| recording.values[&placed.site].shallow_clone()).collect())
}

/// The features of a dictionary inside and outside of a circuit.
struct Split {
    inside: Vec<usize>,
    outside: Vec<usize>,
    error: bool,
}

impl Split {
    fn new(placed: &Placed, dictionary: usize, kept: &Kept) -> Split {
        let has = |unit| kept.contains(&Node { dictionary, unit });
        let (inside, outside) = (0..placed.dictionary.features()).partition(|&feature| has(Unit::Feature(feature)));
        Split { inside, outside, error: has(Unit::Error) }
    }
}

/// Gives the nodes outside of a circuit their corrupt values.
struct Splice<'a> {
    placed: &'a [Placed],
    corrupt: &'a [Corrupt],
    split: &'a [Split],
}

impl Tap for Splice<'_> {
    fn wants(&self, site: Site) -> bool {
        self.placed.iter().any(|placed| placed.site == site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let Some(index) = self.placed.iter().position(|placed| placed.site == site) else { return value };
        let (dictionary, corrupt, split) = (&self.placed[index].dictionary, &self.corrupt[index], &self.split[index]);
        // With the error inside, what is outside moves to the corrupt prompt's; without it, what is inside moves away from it.
        // So the whole and the empty circuit are exact, whatever the dictionary does not see.
        let (base, features, from, to) = {
            let own = dictionary.encode(&value); // [batch, pos, feature]
            let other = corrupt.features.shallow_clone();
            if split.error { (&value, &split.outside, own, other) } else { (&corrupt.value, &split.inside, other, own) }
        };
        if features.is_empty() {
            return base.shallow_clone();
        }
        let ids: Vec<i64> = features.iter().map(|&feature| feature as i64).collect();
        let ids = Tensor::from_slice(&ids).to_device(value.device());
        let change = (to - from).index_select(-1, &ids); // [batch, pos, features]
        dictionary.changed(base, features, &change)
    }
}

/// The dictionaries in the order in which a forward pass comes to their sites.
///
/// # Errors
/// [`RunError`] where the model has not the site of one.
pub fn in_order(model: &Model, mut placed: Vec<Placed>) -> Result<Vec<Placed>, RunError> {
    let mut order = Order { sites: placed.iter().map(|placed| placed.site).collect(), seen: Vec::new() };
    // Which sites there are is for the recording to say, with the nearest one.
    let mut record = Record::new(order.sites.clone()).keeping(Keep::Values);
    let token = Tensor::zeros([1, 1], (Kind::Int64, model.device)); // [batch, pos]
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&token), &Pass::LAST, &mut (&mut order, &mut record)));
    record.finish()?;
    placed.sort_by_key(|placed| order.seen.iter().position(|site| *site == placed.site));
    Ok(placed)
}

/// Notes in which order a pass comes to some sites.
struct Order {
    sites: Vec<Site>,
    seen: Vec<Site>,
}

impl Tap for Order {
    fn wants(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        self.seen.push(site);
        value
    }
}
