//! The gradient of the metric at every destination slot, without a copy of the residual stream per head.
//!
//! One ordinary forward and one backward give ∂m/∂q, ∂m/∂k and ∂m/∂v after projection, where each head has only d_head
//! numbers. The gradient at the private input of a head is then exact in closed form, a layer at a time:
//! g ↦ W g, followed by the Jacobian of LayerNorm, s·(r − mean r − x̂ · mean(r x̂)) with r = gain ∘ W g.
//! Memory: `3 · d_model` numbers a token and layer instead of `3 · heads · d_model`.

use super::Run;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Read, Start};
use ndarray::Array2;
use tch::{Kind, Tensor};

/// Gradients of one pass, enough to pull back to every slot.
pub(super) struct Gradients {
    layers: Vec<LayerGradients>,
    last: Tensor, // [batch, d_model], at the last position
}

struct LayerGradients {
    projections: [Tensor; 3], // q, k, v: [batch, pos, head, d_head]
    residual: Tensor,         // [batch, pos, d_model], before the attention's norm
    mlp: Tensor,              // [batch, pos, d_model]
}

/// Starts the gradient at given embeddings and keeps the handles that gradients are wanted for.
struct Capture<'a> {
    embedding: &'a Tensor, // [batch, pos, d_model]
    residuals: Vec<Tensor>,
    /// In order: q, k, v and the MLP input of layer 0, of layer 1, ..., the last position before the final norm.
    handles: Vec<Tensor>,
}

impl Tap for Capture<'_> {
    fn wants(&self, site: Site) -> bool {
        use Site::*;
        matches!(site, TokenEmbedding | BlockIn(_) | Projection(..) | MlpIn(_) | FinalIn)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::TokenEmbedding => return self.embedding.detach().set_requires_grad(true),
            Site::BlockIn(_) => self.residuals.push(value.detach()),
            _ => self.handles.push(value.shallow_clone()),
        }
        value
    }
}

/// Runs the model from `embedding` and takes the gradient of the summed metric.
pub(super) fn gradients(run: &Run, embedding: &Tensor, reference: Option<&Tensor>) -> Gradients {
    let model = run.problem.model;
    let mut capture = Capture { embedding, residuals: Vec::new(), handles: Vec::new() };
    let pass = Pass { past: run.past, read: Read::Last };
    let logits = model.forward(Start::Tokens(&run.batch.clean), &pass, &mut capture).squeeze_dim(1); // [batch, vocab]
    let metric = run.metric(&logits, reference).sum(None::<Kind>); // []
    let Capture { residuals, handles, .. } = capture;
    let mut found = Tensor::run_backward(&[metric], &handles, false, false)
        .into_iter()
        .zip(&handles)
        // An undefined gradient means that the metric does not depend on the handle.
        .map(|(gradient, handle)| if gradient.defined() { gradient } else { handle.zeros_like() });
    let mut next = || found.next().unwrap_or_default();
    let layers = residuals
        .into_iter()
        .map(|residual| LayerGradients { projections: [next(), next(), next()], residual, mlp: next() })
        .collect();
    let last = next().squeeze_dim(1); // [batch, d_model]
    Gradients { layers, last }
}

/// Σ over batch, positions and d_model of `differences` times the gradient at each slot, the gradients of all `passes`
/// averaged: `[source, destination]`.
///
/// `differences` is clean minus corrupt, `[source, batch · pos · d_model]`, so that a positive sum is an edge that helps.
pub(super) fn contract(run: &Run, differences: &Tensor, passes: &[Gradients]) -> Array2<f64> {
    let _no_grad = tch::no_grad_guard();
    let (model, graph) = (run.problem.model, run.problem.graph);
    let heads = model.spec.heads;
    let mut sums = Array2::<f64>::zeros((graph.sources(), graph.destinations()));
    let mut put = |first: usize, products: Tensor| {
        let (rows, columns) = (products.size()[0] as usize, products.size()[1] as usize);
        let mut flat = vec![0f32; rows * columns];
        products.contiguous().copy_data(&mut flat, rows * columns);
        for (index, product) in flat.into_iter().enumerate() {
            sums[[index / columns, first + index % columns]] = f64::from(product);
        }
    };
    let scale = 1.0 / passes.len() as f64;
    for layer in 0..model.spec.layers {
        let before = (1 + layer * (heads + 1)) as i64;
        let first = layer * (3 * heads + 1);
        let slots = mean(passes.iter().map(|pass| pull_back(model, Layer(layer), &pass.layers[layer])), scale);
        let slots = slots.view([3 * heads as i64, -1]); // [3 · head, batch · pos · d_model]
        put(first, differences.narrow(0, 0, before).matmul(&slots.tr()));
        let mlp = mean(passes.iter().map(|pass| pass.layers[layer].mlp.shallow_clone()), scale).reshape([-1, 1]);
        put(first + 3 * heads, differences.narrow(0, 0, before + heads as i64).matmul(&mlp));
    }
    let last = mean(passes.iter().map(|pass| pass.last.shallow_clone()), scale); // [batch, d_model]
    let (batch, d_model) = (last.size()[0], last.size()[1]);
    let sources = differences.size()[0];
    let at_last = differences.view([sources, batch, -1, d_model]).select(2, -1).reshape([sources, -1]); // [source, batch · d_model]
    put(graph.destinations() - 1, at_last.matmul(&last.reshape([-1, 1])));
    sums
}

fn mean(tensors: impl Iterator<Item = Tensor>, scale: f64) -> Tensor {
    let sum = tensors.reduce(|a, b| a + b).unwrap_or_default();
    if scale == 1.0 { sum } else { sum * scale }
}

/// From the gradients at q, k and v to those at every head's three inputs: `[3 · head, batch · pos, d_model]`.
fn pull_back(model: &Model, layer: Layer, gradients: &LayerGradients) -> Tensor {
    let block = &model.weights.blocks[layer.0];
    let residual = gradients.residual.flatten(0, 1); // [batch · pos, d_model]
    let centred = &residual - residual.mean_dim(-1, true, None::<Kind>); // [batch · pos, d_model]
    let variance = centred.square().mean_dim(-1, true, None::<Kind>); // [batch · pos, 1]
    let scale = (variance + block.attention_norm.epsilon).rsqrt(); // [batch · pos, 1]
    let unit = centred * &scale; // [batch · pos, d_model]
    let parts = Branch::ALL.map(|branch| {
        let weight = block.branch_weight(branch, &model.spec); // [head, d_model, d_head]
        let gradient = gradients.projections[branch.index()].flatten(0, 1).transpose(0, 1); // [head, batch · pos, d_head]
        let raw = gradient.bmm(&weight.transpose(1, 2)) * &block.attention_norm.gain; // [head, batch · pos, d_model]
        let mean = raw.mean_dim(-1, true, None::<Kind>); // [head, batch · pos, 1]
        let along = (&raw * &unit).mean_dim(-1, true, None::<Kind>); // [head, batch · pos, 1]
        (raw - mean - &unit * along) * &scale
    });
    Tensor::cat(&parts, 0)
}
