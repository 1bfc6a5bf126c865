//! How long a run will take, measured before it on one block of the model itself, with the shapes of the run.

use super::contract::contract_layer;
use super::gradient::of_stretch;
use super::{Method, Problem, Run};
use crate::graph::Level;
use crate::measure::batch::Batch;
use crate::measure::memory::{Division, rows_side_by_side};
use crate::measure::sources::heads_from_z;
use crate::model::spec::Layer;
use crate::model::tap::NoTap;
use crate::model::{Pass, Past, Rules};
use ndarray::Array2;
use std::time::Instant;
use tch::{Kind, Tensor};

/// The parts of a run, in seconds: a block forward, a block forward and back, the logits, the contraction of a layer in
/// the middle (of all passes that are contracted together), and what the heads of a layer write.
struct Parts {
    block: f64,
    backward: f64,
    logits: f64,
    contraction: f64,
    expansion: f64,
    /// What touching a block's and the unembedding's weights for the first time took beyond that.
    first_touch: f64,
}

/// About how many seconds [`super::score`] will take, within a quarter on an idle machine.
pub fn seconds(problem: &Problem, method: &Method, division: &Division) -> f64 {
    let rows = problem.batches(method, division.pairs);
    let batches =
        || -> Vec<Batch> { rows.iter().map(|rows| rows.batch(problem.pairs, problem.model.device)).collect() };
    if let Some(search) = method.scorer().search()
        && let Some(seconds) = search.seconds(problem, batches())
    {
        return seconds;
    }
    let batches = batches();
    let Some(first) = batches.first() else { return 0.0 };
    let layers = problem.model.spec.layers as f64;
    let work = method.scorer().work(problem.graph);
    // Every unit of a layer goes through the layers from there on.
    let units = if work.patched_units { problem.units().len() as f64 * (layers + 1.0) / 2.0 } else { 0.0 };
    let patched = work.patched + units;
    let parts = measure(problem, division, first, patched > 0.0);
    let tokens = |batch: &Batch| batch.clean.numel() as f64;
    let per_token = |batch: &Batch| {
        let shared = batch.prefix.as_ref().map_or(0.0, |prefix| prefix.numel() as f64) * parts.block * layers;
        let forward = parts.block * layers + parts.logits;
        let backward = parts.backward * layers + parts.logits;
        let again = if division.stretch < problem.model.spec.layers { parts.block * layers } else { 0.0 };
        let contractions = work.backward.div_ceil(division.passes.clamp(1, work.backward.max(1)));
        let seconds = work.recorded as f64 * forward
            + work.expansions * parts.expansion * layers
            + work.backward as f64 * backward
            + work.unrecorded as f64 * again
            + contractions as f64 * parts.contraction * layers
            + patched * parts.block * problem.spans.map_or(1, |spans| spans.names.len()) as f64;
        shared / tokens(first) + seconds / tokens(first) * tokens(batch)
    };
    layers * parts.first_touch + batches.iter().map(per_token).sum::<f64>()
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed().as_secs_f64(), done)
}

fn measure(problem: &Problem, division: &Division, batch: &Batch, side_by_side: bool) -> Parts {
    let (model, dimensions) = (problem.model, problem.graph.dimensions);
    let spec = &model.spec;
    let middle = spec.layers / 2;
    let past = batch.prefix.as_ref().map(|prefix| {
        let shape = [prefix.size()[0], prefix.size()[1], spec.kv_heads as i64, spec.d_head as i64];
        let nothing = || (0..spec.layers).map(|_| Tensor::zeros(shape, (model.kind(), model.device))).collect();
        Past { keys: nothing(), values: nothing() }
    });
    let run = Run::new(problem, division, batch, past.as_ref(), Rules::default());
    let mut residual = tch::no_grad(|| model.embed(&batch.clean, run.past, &mut NoTap)); // [batch, pos, d_model]
    let tokens = residual.size()[0] * residual.size()[1];
    if side_by_side {
        let copies = (rows_side_by_side(spec) as i64 / tokens).max(1);
        residual = residual.repeat([copies, 1, 1]);
    }
    let share = tokens as f64 / (residual.size()[0] * residual.size()[1]) as f64;
    let run_of_copies = |residual: &Tensor| {
        let repeated = run.past.map(|past| past.repeat(residual.size()[0] / batch.len() as i64));
        tch::no_grad(|| {
            model.some_blocks(middle..middle + 1, residual.shallow_clone(), &Pass::after(repeated.as_ref()), &mut NoTap)
        })
    };
    let (first, _) = timed(|| run_of_copies(&residual));
    let (block, _) = timed(|| run_of_copies(&residual));
    let residual = residual.narrow(0, 0, batch.len() as i64); // [batch, pos, d_model]
    let first_touch = (first - block).max(0.0);
    let _ = tch::no_grad(|| model.read(&residual, &Pass::LAST, &mut NoTap));
    let (logits, _) = timed(|| tch::no_grad(|| model.read(&residual, &Pass::LAST, &mut NoTap)));
    let block = block * share;
    if side_by_side {
        return Parts { block, backward: 0.0, logits, contraction: 0.0, expansion: 0.0, first_touch };
    }
    let above = residual.ones_like(); // [batch, pos, d_model]
    let back = || of_stretch(&run, middle..middle + 1, &residual, Some(&above), None, &mut NoTap);
    let (cold, _) = timed(back);
    let (warm, gradients) = timed(back);
    let backward = warm.min(cold);
    let _no_grad = tch::no_grad_guard();
    if problem.level != Level::Edge {
        // A product for each number that was recorded, next to nothing.
        return Parts { block, backward, logits, contraction: 0.0, expansion: 0.0, first_touch };
    }
    let sources = dimensions.before(Layer(middle)) + dimensions.heads;
    let shape = [sources as i64, tokens, spec.d_model as i64];
    let differences = Tensor::zeros(shape, (model.kind(), model.device)).fill_(1.0); // [source, batch · pos, d_model]
    let mut sums = Array2::zeros((problem.graph.sources(), problem.graph.destinations() * run.parts()));
    // The passes of one contraction cost as if they were different ones.
    let of_layer = gradients.layer(&run, Layer(middle));
    let of_layer = vec![&of_layer; division.passes];
    let mut contract = || timed(|| contract_layer(&run, &differences, Layer(middle), &of_layer, &mut sums)).0;
    let contraction = contract().min(contract());
    let z = Tensor::zeros(
        [residual.size()[0], residual.size()[1], spec.heads as i64, spec.d_head as i64],
        (Kind::Float, model.device),
    );
    let into = differences.narrow(0, 0, dimensions.heads as i64); // [head, batch · pos, d_model]
    let (expansion, ()) = timed(|| {
        let written = heads_from_z(model, Layer(middle), &z.to_kind(model.kind())); // [head, batch · pos, d_model]
        into.shallow_clone().copy_(&written);
    });
    Parts { block, backward, logits, contraction, expansion, first_touch }
}
