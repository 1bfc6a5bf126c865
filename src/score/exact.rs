//! Activation patching of every edge by itself: what EAP estimates, measured.
//!
//! score(u→v) = m(all edges) − m(all edges but u→v), where the missing edge carries the corrupt activation.
//!
//! Paper: Wang et al., arXiv:2211.00593 (path patching); Goldowsky-Dill et al., arXiv:2304.05969.
//! Cost: one pass for each edge, from the edge's layer upwards only; the edges of one destination run side by side in one
//! batch, and all of them share the prefix.
//! Not for: large models. A 12×12 model has 32,491 edges.

use super::Run;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Destination, Graph, Slot};
use crate::measure::memory::{Needs, rows_side_by_side};
use crate::model::site::Site;
use crate::model::spec::{Head, Layer};
use crate::model::tap::Tap;
use crate::model::{Pass, Start};
use ndarray::Array2;
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "exact",
    about: "activation patching of every edge by itself",
    passes: "2 forward, and 1 from the edge's layer upwards for each edge",
    memory: "differences of all sources, 256 MB of edges side by side",
};

pub(super) struct Exact;

impl Scorer for Exact {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, graph: &Graph) -> Work {
        let layers = graph.dimensions.layers;
        let passes = |column: usize| {
            let layer = column / graph.dimensions.readers();
            (graph.sources_before(Destination(column)) * (layers - layer.min(layers))) as f64
        };
        Work { patched: (0..graph.destinations()).map(passes).sum(), ..Work::with_backward(0) }
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn by_position(&self) -> bool {
        true
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        score_batch(run, ledger)
    }
}

/// Moves the input of one destination slot by a given amount.
struct Shift {
    slot: Slot,
    amount: Tensor, // [row, pos, d_model]
    /// How many slots the branch has in a layer.
    slots: i64,
}

impl Tap for Shift {
    fn wants(&self, site: Site) -> bool {
        match (self.slot, site) {
            (Slot::Head(layer, _, branch) | Slot::Shared(layer, _, branch), Site::AttentionIn(at, of)) => {
                layer == at && branch == of
            }
            (Slot::Mlp(layer), Site::MlpIn(at)) => layer == at,
            (Slot::Logits, Site::FinalIn) => true,
            _ => false,
        }
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        match self.slot {
            Slot::Head(_, Head(head), _) | Slot::Shared(_, Head(head), _) => {
                let apart = value.repeat([1, 1, self.slots, 1]); // [row, pos, slot, d_model]
                apart.select(2, head as i64).copy_(&(value.squeeze_dim(2) + &self.amount));
                apart
            }
            Slot::Mlp(_) => value + &self.amount,
            Slot::Logits => value + self.amount.narrow(1, self.amount.size()[1] - 1, 1), // [row, 1, d_model]
        }
    }
}

/// Sums over the pairs of one batch: `[source, destination]`, of each group of positions or each pair in turn.
fn score_batch(run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
    let _no_grad = tch::no_grad_guard();
    let (model, graph, batch) = (run.problem.model, run.problem.graph, run.batch);
    let clean = run.clean();
    let reference = clean.logits.log_softmax(-1, None::<Kind>); // [batch, vocab]
    let whole = run.metric(&clean.logits, Some(&reference)); // [batch]
    let (rows, pos) = (batch.clean.size()[0], batch.clean.size()[1]);
    let missing =
        clean.replaced_by(&run.ablated(), model, graph.dimensions).view([graph.sources() as i64, rows, pos, -1]); // [source, batch, pos, d_model]
    let masks = run.masks();
    let at_once = (rows_side_by_side(&model.spec) / (rows * pos) as usize).max(1);
    ledger.steps(graph.destinations(), |column, sums| {
        let slot = graph.slot(Destination(column));
        let sources: Vec<usize> = (0..graph.sources_before(Destination(column))).collect();
        let chunks = masks
            .iter()
            .enumerate()
            .flat_map(|(span, mask)| sources.chunks(at_once).map(move |chunk| (span, mask, chunk)));
        for (span, mask, chunk) in chunks {
            let count = chunk.len() as i64;
            let amount = missing.narrow(0, chunk[0] as i64, count); // [edge, batch, pos, d_model]
            let amount = Run::masked(&amount, mask.as_ref()).reshape([count * rows, pos, -1]); // [edge · batch, pos, d_model]
            let start = match slot {
                Slot::Head(layer, ..) | Slot::Shared(layer, ..) | Slot::Mlp(layer) => {
                    Start::Residual { layer, value: clean.before_attention[layer.0].repeat([count, 1, 1]) }
                }
                // The final norm reads the last position alone: start above the last block with just that.
                Slot::Logits => {
                    Start::Residual { layer: Layer(model.spec.layers), value: clean.last.repeat([count, 1, 1]) }
                }
            };
            let past = run.past.map(|past| past.repeat(count));
            let slots = slot.branch().map_or(1, |branch| graph.dimensions.slots(Layer(0), branch).1 as i64);
            let mut shift = Shift { slot, amount, slots };
            let pass = Pass::after(past.as_ref());
            let logits = model.forward(start, &pass, &mut shift).squeeze_dim(1).view([count, rows, -1]); // [edge, batch, vocab]
            for (index, &source) in chunk.iter().enumerate() {
                let without = run.metric(&logits.get(index as i64), Some(&reference)); // [batch]
                run.put(sums, [source, column], graph.destinations(), span, &(&whole - without));
            }
        }
    })
}
