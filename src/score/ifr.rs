//! Information flow routes: how much of what a destination reads came from each source.
//!
//! score(u→v) = mean over positions of p(u, v) / Σ_w p(w, v), with p(u, v) = max(0, ‖x_v‖₁ − ‖x_v − a[u]‖₁), on the clean
//! run; nothing is corrupted, and all scores are positive.
//!
//! Paper: Ferrando and Voita, "Information Flow Routes", arXiv:2403.00824; normalised over sources as in the EAP-IG
//! package. Where no source is near its destination (the sums of all sources cancel) the package has no number, and here
//! the score is 0. Where a norm follows the attention, a head counts by what of it reaches the residual stream, the norm's
//! scale taken from the run; the package counts what it wrote before that norm.
//! Cost: one forward pass over whole prompts (the shared prefix counts too), then one look at every source for every layer.
//! Not for: telling what matters for a task. It says what is written, not what it does.

use super::Run;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::Graph;
use crate::measure::memory::Needs;
use crate::measure::sources::{Activations, for_heads};
use crate::model::Rules;
use crate::model::spec::Layer;
use ndarray::{Array2, s};
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "ifr",
    about: "information flow routes: the share of each source in what a destination reads, on the clean run",
    passes: "1 forward",
    memory: "outputs of all sources, at every position",
};

/// Under a constant scale, a norm takes parts of its input to parts of its output.
const PARTS: Rules = Rules { norms: true, activations: false, products: false, patterns: false };

pub(super) struct Ifr;

impl Scorer for Ifr {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, graph: &Graph) -> Work {
        // Each look at a source reads, subtracts and sums: about three times what writing it takes.
        let looks = 3 * (graph.dimensions.layers + 1);
        Work { recorded: 1, expansions: 1.0 + looks as f64, ..Work::with_backward(0) }
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn every_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let _no_grad = tch::no_grad_guard();
        let (model, dimensions) = (run.problem.model, run.problem.graph.dimensions);
        let clean = Activations::record(model, &run.batch.clean, run.past);
        let written = clean.written(model, dimensions); // [source, batch · pos · d_model]
        for_heads(&written, model, dimensions, |layer, heads| {
            let sum = clean.head_sums[layer.0].flatten(0, 1); // [batch · pos, d_model]
            model.weights.blocks[layer.0].attention_after.push_forward(PARTS, &sum, heads)
        });
        let written = written.view([dimensions.sources() as i64, -1, model.spec.d_model as i64]); // [source, batch · pos, d_model]
        let pos = clean.embedding.size()[1] as f64;
        let add = |sums: &mut Array2<f64>, read: &Tensor, first: usize, count: usize, sources: usize| {
            let shares = shares(&read.flatten(0, 1), &written.narrow(0, 0, sources as i64)); // [source, batch · pos]
            let of_pairs = shares.view([sources as i64, run.batch.len() as i64, -1]); // [source, batch, pos]
            let of_pairs = of_pairs.sum_dim_intlist(-1, false, Kind::Double) / pos; // [source, batch]
            let of_parts = if run.pairs_apart() { of_pairs } else { of_pairs.sum_dim_intlist(1, true, Kind::Double) }; // [source, part]
            let parts = run.parts();
            let mut flat = vec![0f64; sources * parts];
            of_parts.contiguous().copy_data(&mut flat, sources * parts);
            for (index, share) in flat.into_iter().enumerate() {
                let (source, part) = (index / parts, index % parts);
                let columns = part * dimensions.destinations() + first;
                sums.slice_mut(s![source, columns..columns + count]).fill(share);
            }
        };
        ledger.steps(model.spec.layers + 1, |step, sums| {
            if step == model.spec.layers {
                return add(sums, &clean.out, dimensions.destinations() - 1, 1, dimensions.sources());
            }
            let layer = Layer(step);
            let (first, before) = (dimensions.first_slot(layer), dimensions.before(layer));
            let attention_slots = dimensions.readers() - usize::from(dimensions.mlps);
            add(sums, &clean.before_attention[layer.0], first, attention_slots, before);
            if dimensions.mlps {
                let own_heads = if dimensions.parallel { 0 } else { dimensions.heads };
                add(sums, &clean.before_mlp[layer.0], first + attention_slots, 1, before + own_heads);
            }
        })
    }
}

/// The share of each source in what is read at each position: `[source, token]` from what is read, `[token, d_model]`, and
/// what the sources wrote, `[source, token, d_model]`.
fn shares(read: &Tensor, written: &Tensor) -> Tensor {
    let size = read.abs().sum_dim_intlist(-1, false, None::<Kind>); // [token]
    // One source at a time, so that no second copy of all that is written is made.
    let near: Vec<Tensor> = (0..written.size()[0])
        .map(|source| {
            let rest = read - written.get(source); // [token, d_model]
            (&size - rest.abs().sum_dim_intlist(-1, false, None::<Kind>)).clamp_min(0.0)
        })
        .collect();
    let near = Tensor::stack(&near, 0); // [source, token]
    let all = near.sum_dim_intlist(0, true, None::<Kind>); // [1, token]
    near / all.where_scalarother(&all.gt(0.0), 1.0)
}
