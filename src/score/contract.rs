//! What the sources wrote times the gradient at every destination slot: the scores of all edges.
//!
//! The gradients of [`super::gradient`] are those at queries, keys and values; they are taken back through the projections
//! and the norm here, one layer at a time, so that no gradient of the size of all slots times d_model outlives its layer.

use super::Run;
use super::gradient::{Gradients, LayerGradients};
use super::units;
use crate::graph::Level;
use crate::measure::memory::contracted_rows;
use crate::measure::sources::{Activations, for_heads};
use crate::model::spec::{Branch, Layer};
use ndarray::{Array2, s};
use tch::{Kind, Tensor};

/// What changes between the clean and the ablated run, of all that is scored.
pub(super) enum Differences {
    /// What the sources write, `[source, batch · pos · d_model]`.
    Sources(Tensor),
    /// What the units carry.
    Units(Box<Activations>),
}

impl Differences {
    pub(super) fn new(run: &Run, clean: &Activations, ablated: &Activations) -> Differences {
        let _no_grad = tch::no_grad_guard();
        match run.problem.level {
            Level::Edge => {
                Differences::Sources(clean.written_minus(ablated, run.problem.model, run.problem.graph.dimensions))
            }
            Level::Node | Level::Neuron => Differences::Units(Box::new(clean.minus(ablated))),
        }
    }
}

/// The scores of all that the level scores, summed over pairs and positions (over each group of positions, or over the
/// positions of each pair, where those are kept apart), from gradients averaged over passes.
pub(super) fn contract(run: &Run, differences: &Differences, passes: &[Gradients]) -> Array2<f64> {
    match differences {
        Differences::Sources(differences) => contract_edges(run, differences, passes),
        Differences::Units(differences) => units::contract(run, differences, passes),
    }
}

/// Σ over batch, positions and d_model of `differences` times the gradient at each slot, the gradients of all `passes`
/// averaged: `[source, destination]`; of each group of positions or each pair one after another where they are kept apart.
///
/// `differences` is clean minus corrupt, `[source, batch · pos · d_model]`, so that a positive sum is an edge that helps.
/// Before a norm that follows the attention, a head's difference counts by what reaches the residual stream to first
/// order: the norm's Jacobian, at the pass, times the difference.
fn contract_edges(run: &Run, differences: &Tensor, passes: &[Gradients]) -> Array2<f64> {
    let _no_grad = tch::no_grad_guard();
    let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
    if !model.spec.placement.after() {
        return contract_mean(run, differences, passes);
    }
    let of_pass = |pass: &Gradients| {
        let arriving = differences.copy();
        for_heads(&arriving, model, dimensions, |layer, change| {
            let sum = pass.layer(run, layer).head_sum.flatten(0, 1); // [batch · pos, d_model]
            model.weights.blocks[layer.0].attention_after.push_forward(run.rules, &sum, change)
        });
        contract_mean(run, &arriving, std::slice::from_ref(pass))
    };
    let sums = passes.iter().map(of_pass).reduce(|a, b| a + b).unwrap_or_default();
    sums / passes.len() as f64
}

fn contract_mean(run: &Run, differences: &Tensor, passes: &[Gradients]) -> Array2<f64> {
    let (model, graph) = (run.problem.model, run.problem.graph);
    let (sources, d_model) = (graph.sources() as i64, model.spec.d_model as i64);
    let differences = differences.view([sources, -1, d_model]); // [source, batch · pos, d_model]
    let last = mean(passes.iter().map(Gradients::last), passes.len()); // [batch, d_model]
    let at_last = differences.view([sources, run.batch.len() as i64, -1, d_model]).select(2, -1); // [source, batch, d_model]
    let of_layers = |pass: &Gradients| (0..model.spec.layers).map(|layer| pass.layer(run, Layer(layer))).collect();
    let passes: Vec<Vec<LayerGradients>> = passes.iter().map(of_layers).collect();
    let Some(spans) = run.problem.spans else {
        return contract_tokens(run, &differences, &passes, &at_last, &last);
    };
    let columns = graph.destinations();
    let mut sums = Array2::<f64>::zeros((graph.sources(), columns * spans.names.len()));
    for span in 0..spans.names.len() {
        let [tokens, rows] = run.batch.tokens_of(spans, span).map(|of| Tensor::from_slice(&of).to_device(model.device));
        if tokens.numel() == 0 {
            continue;
        }
        let differences = differences.index_select(1, &tokens); // [source, token, d_model]
        let (at_last, last) = (at_last.index_select(1, &rows), last.index_select(0, &rows)); // [source, row, d_model], [row, d_model]
        let of_tokens = |pass: &Vec<LayerGradients>| pass.iter().map(|layer| layer.of_tokens(&tokens)).collect();
        let passes: Vec<Vec<LayerGradients>> = passes.iter().map(of_tokens).collect();
        let found = contract_tokens(run, &differences, &passes, &at_last, &last);
        sums.slice_mut(s![.., span * columns..(span + 1) * columns]).assign(&found);
    }
    sums
}

/// The contraction of some tokens: `differences` `[source, token, d_model]` with the gradients of all layers in each pass,
/// and what the logits read, `at_last` `[source, row, d_model]` with the gradient `last` `[row, d_model]`.
fn contract_tokens(
    run: &Run,
    differences: &Tensor,
    passes: &[Vec<LayerGradients>],
    at_last: &Tensor,
    last: &Tensor,
) -> Array2<f64> {
    let graph = run.problem.graph;
    let parts = if run.pairs_apart() { run.batch.len() } else { 1 };
    let mut sums = Array2::<f64>::zeros((graph.sources(), graph.destinations() * parts));
    for layer in (0..run.problem.model.spec.layers).map(Layer) {
        let passes: Vec<&LayerGradients> = passes.iter().map(|layers| &layers[layer.0]).collect();
        contract_layer(run, differences, layer, &passes, &mut sums);
    }
    let products = product(at_last, &last.unsqueeze(0), parts as i64); // [part, source, 1]
    add(run, &mut sums, graph.destinations() - 1, 0, &products);
    sums
}

/// Adds the scores of all edges into one layer to `sums` `[source, destination]`, of each pair in turn where they are kept
/// apart. `differences`: `[source, batch · pos, d_model]`, of the sources before the layer's MLP at least.
///
/// Tokens are gone through in portions of whole pairs, or of parts of one, so that no portion takes more than it may.
pub(super) fn contract_layer(
    run: &Run,
    differences: &Tensor,
    layer: Layer,
    passes: &[&LayerGradients],
    sums: &mut Array2<f64>,
) {
    let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
    let before = dimensions.before(layer) as i64;
    let heads = dimensions.readers() - usize::from(dimensions.mlps);
    let tokens = differences.size()[1];
    let pairs = if run.pairs_apart() { run.batch.len() as i64 } else { 1 };
    let of_pair = tokens / pairs; // all tokens, where pairs are not kept apart
    let at_once = contracted_rows(&model.spec) as i64;
    let whole = (at_once / of_pair).clamp(1, pairs); // pairs of a portion
    for pair in (0..pairs).step_by(whole as usize) {
        let (start, end) = (pair * of_pair, (pair + whole).min(pairs) * of_pair);
        let step = if end - start > at_once { at_once } else { end - start };
        for first in (start..end).step_by(step as usize) {
            let count = step.min(end - first);
            let differences = differences.narrow(0, 0, before).narrow(1, first, count); // [source, count, d_model]
            let slots = into_slots(run, layer, passes, first, count); // [slot, count, d_model]
            let products = product(&differences, &slots, (count / of_pair).max(1)); // [pair, source, slot]
            add(run, sums, dimensions.first_slot(layer), pair as usize, &products);
        }
    }
    if dimensions.mlps {
        let mlp = passes.iter().filter_map(|pass| pass.mlp.as_ref().map(Tensor::shallow_clone));
        let mlp = mean(mlp, passes.len()).flatten(0, 1).unsqueeze(0); // [1, batch · pos, d_model]
        let before = before + if dimensions.parallel { 0 } else { dimensions.heads as i64 };
        let products = product(&differences.narrow(0, 0, before), &mlp, pairs); // [pair, source, 1]
        add(run, sums, dimensions.first_slot(layer) + heads, 0, &products);
    }
}

/// Σ over the tokens of each part and d_model of `differences` `[source, token, d_model]` times `gradients`
/// `[slot, token, d_model]`: `[part, source, slot]`. The tokens are those of `parts` parts of equal length.
fn product(differences: &Tensor, gradients: &Tensor, parts: i64) -> Tensor {
    let [sources, slots] = [differences, gradients].map(|tensor| tensor.size()[0]);
    if parts == 1 {
        return differences.flatten(1, 2).matmul(&gradients.flatten(1, 2).tr()).unsqueeze(0);
    }
    let differences = differences.reshape([sources, parts, -1]).transpose(0, 1); // [part, source, token · d_model]
    let gradients = gradients.reshape([slots, parts, -1]).permute([1, 2, 0]); // [part, token · d_model, slot]
    differences.bmm(&gradients)
}

/// The gradient at the q, k and v slots of a layer for `count` tokens from `first` on, averaged over passes:
/// `[slot, count, d_model]`.
///
/// With s the norm's scale at x, x̂ = s (x − mean) and W what reads x̂, the gradient at a slot's input is
/// s (W g − x̂ · mean(x̂ ∘ W g)) for g at q, k or v. W is the same in all passes, so s g is averaged before it is expanded; the
/// second part, which points along x̂, takes one number a token.
fn into_slots(run: &Run, layer: Layer, passes: &[&LayerGradients], first: i64, count: i64) -> Tensor {
    let model = run.problem.model;
    let block = &model.weights.blocks[layer.0];
    let norm = &block.attention_norm;
    let d_model = model.spec.d_model as f64;
    let tokens = |tensor: &Tensor| tensor.flatten(0, 1).narrow(0, first, count); // [count, ..]
    let units: Vec<(Tensor, Tensor)> = passes.iter().map(|pass| norm.unit(&tokens(&pass.residual))).collect(); // [count, d_model], [count, 1]
    let expanded = Branch::ALL.map(|branch| {
        let weight = norm.reading_unit(&block.branch_weight(branch, &model.spec)); // [head or kv_head, d_model, d_head]
        let scaled: Vec<Tensor> = passes
            .iter()
            .zip(&units)
            .map(|(pass, (_, scale))| {
                let gradient = tokens(&pass.projections[branch.index()]).transpose(0, 1); // [slot, count, d_head]
                gradient * scale / passes.len() as f64
            })
            .collect(); // a pass: [slot, count, d_head]
        let slots = scaled.first().map_or(0, |one| one.size()[0]);
        let for_slots = |each: &Tensor| match slots / each.size()[0] {
            1 => each.shallow_clone(),
            group => each.repeat_interleave_self_int(group, 0, None),
        };
        let sum = scaled.iter().map(Tensor::shallow_clone).reduce(|a, b| a + b).unwrap_or_default(); // [slot, count, d_head]
        let mut expanded = sum.bmm(&for_slots(&weight).transpose(1, 2)); // [slot, count, d_model]
        if norm.moves_with_its_input(run.rules) {
            for (gradient, (unit, _)) in scaled.iter().zip(&units) {
                let read = for_slots(&unit.unsqueeze(0).matmul(&weight)); // [slot, count, d_head]
                let along = (read * gradient).sum_dim_intlist(-1, true, None::<Kind>) / -d_model; // [slot, count, 1]
                expanded = expanded.addcmul_(&along, unit);
            }
        }
        expanded
    });
    Tensor::cat(&expanded, 0) // [q, k and v slots, count, d_model]
}

/// Adds products `[part, source, slot]` to the columns from `first` on of the parts from `part` on.
fn add(run: &Run, sums: &mut Array2<f64>, first: usize, part: usize, products: &Tensor) {
    let (parts, rows, columns) =
        products.size3().map(|(a, b, c)| (a as usize, b as usize, c as usize)).unwrap_or_default();
    let mut flat = vec![0f64; parts * rows * columns];
    products.to_kind(Kind::Double).contiguous().copy_data(&mut flat, parts * rows * columns);
    let width = run.problem.graph.destinations();
    for (index, rows_of_part) in flat.chunks(rows * columns).enumerate() {
        let from = (part + index) * width + first;
        for (row, products) in rows_of_part.chunks(columns).enumerate() {
            for (sum, product) in sums.slice_mut(s![row, from..from + columns]).iter_mut().zip(products) {
                *sum += product;
            }
        }
    }
}

fn mean(tensors: impl Iterator<Item = Tensor>, count: usize) -> Tensor {
    let sum = tensors.reduce(|a, b| a + b).unwrap_or_default();
    if count == 1 { sum } else { sum / count as f64 }
}
