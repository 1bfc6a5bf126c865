//! What heads and MLPs write straight to the logits at the last position: their part of the final norm's output, at the
//! scale that the norm has in the prompt, through the unembedding (direct logit attribution; Elhage et al. 2021, "A
//! mathematical framework for transformer circuits"). A cap on logits, if the model has one, is left out.

use super::run::Run;
use crate::dataset::TokenPair;
use crate::graph::Node;
use crate::measure::sources::heads_from_z;
use crate::model::Model;
use crate::model::spec::{Head, Layer};
use tch::{Device, Kind, Tensor};

/// What `part` `[.., d_model]` of the residual stream adds to the final norm's output in a prompt.
fn normed(model: &Model, run: &Run, part: &Tensor) -> Tensor {
    model.weights.final_norm.part(&run.final_in.view([1, -1]), part)
}

/// Logits of parts of the norm's output `[.., d_model]`, without the bias.
fn unembedded(model: &Model, parts: &Tensor) -> Tensor {
    let unembedding = &model.weights.unembedding;
    let logits = unembedding.apply(parts);
    match &unembedding.bias {
        Some(bias) => logits - bias,
        None => logits,
    }
}

/// Of each MLP, its part of the model's logit difference on a pair: mean of the right answers less mean of the wrong ones.
pub(super) fn of_mlps(model: &Model, run: &Run, pair: &TokenPair) -> Vec<f64> {
    if run.mlps.is_empty() {
        return Vec::new();
    }
    let difference = |logits: Tensor| {
        // [row, vocab]
        let mean = |ids: &[u32]| {
            let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
            let ids = Tensor::from_slice(&ids).to_device(model.device);
            logits.index_select(1, &ids).mean_dim(1, false, Kind::Double) // [row]
        };
        let difference = if pair.wrong.is_empty() { mean(&pair.right) } else { mean(&pair.right) - mean(&pair.wrong) };
        Vec::<f64>::try_from(difference.to_device(Device::Cpu)).unwrap_or_default()
    };
    let parts = Tensor::cat(&run.mlps.iter().map(|mlp| mlp.view([1, -1])).collect::<Vec<_>>(), 0); // [layer, d_model]
    let of_model = model.weights.unembedding.apply(&model.weights.final_norm.apply(&run.final_in.view([1, -1])));
    let whole = difference(of_model).first().copied().unwrap_or_default();
    let parts = difference(unembedded(model, &normed(model, run, &parts)));
    parts.into_iter().map(|part| if whole == 0.0 { 0.0 } else { part / whole.abs() }).collect()
}

/// The mean over prompts of what each head and MLP adds to the final norm's output.
pub(super) struct MeanLogits<'a> {
    model: &'a Model,
    heads: Vec<Tensor>, // a layer: [head, d_model]
    mlps: Vec<Tensor>,  // a layer: [1, d_model]
}

pub(super) fn mean_logits<'a>(model: &'a Model, runs: &[Run]) -> MeanLogits<'a> {
    let spec = &model.spec;
    // Where a norm follows the attention or the MLP, what a head writes is not its own part of the sum.
    let plain = !spec.placement.after();
    let mean = |of: &dyn Fn(&Run) -> Tensor| {
        let sum = runs.iter().map(|run| normed(model, run, &of(run))).reduce(|sum, part| sum + part);
        sum.map_or_else(Tensor::new, |sum| sum / runs.len() as f64)
    };
    let heads = |layer: usize| mean(&|run| heads_from_z(model, Layer(layer), &run.z[layer]).squeeze_dim(1));
    let mlp = |layer: usize| mean(&|run| run.mlps[layer].view([1, -1]));
    let any = !runs.is_empty();
    MeanLogits {
        model,
        heads: (0..spec.layers).filter(|_| any && plain).map(heads).collect(),
        mlps: (0..spec.layers).filter(|_| any && spec.mlp.is_some()).map(mlp).collect(),
    }
}

impl MeanLogits<'_> {
    /// The tokens whose logits a node raises most, and lowers most, so many of each, with how much.
    pub fn of(&self, node: Node, count: usize) -> Vec<(u32, f64)> {
        let part = match node {
            Node::Head(Layer(layer), Head(head)) => self.heads.get(layer).map(|heads| heads.get(head as i64)),
            Node::Mlp(Layer(layer)) => self.mlps.get(layer).map(|mlp| mlp.get(0)),
            Node::Input | Node::Logits => None,
        };
        let Some(part) = part else { return Vec::new() };
        let logits = unembedded(self.model, &part.unsqueeze(0)).squeeze_dim(0); // [vocab]
        let count = (count as i64).min(logits.size()[0] / 2);
        let mut found = Vec::new();
        for largest in [true, false] {
            let (values, ids) = logits.topk(count, 0, largest, true);
            let values = Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(Device::Cpu)).unwrap_or_default();
            let ids = Vec::<i64>::try_from(ids.to_device(Device::Cpu)).unwrap_or_default();
            let pairs = ids.into_iter().zip(values).map(|(id, value)| (id as u32, value));
            if largest { found.extend(pairs) } else { found.extend(pairs.collect::<Vec<_>>().into_iter().rev()) }
        }
        found
    }
}
