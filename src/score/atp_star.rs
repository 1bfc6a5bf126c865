//! AtP*: attribution patching that sees through saturated attention and cancelling paths.
//!
//! score(u) = mean over pairs of 1/(L−1) Σ over layers l of | Σ over positions of Δ[u] |, gradients of the clean run taken with
//! nothing passing back through what layer l adds to the residual stream, where Δ[u] is
//! - for queries and keys (QK fix) the change of the attention probabilities when they are ablated, recomputed through the
//!   softmax, times ∂m/∂probabilities;
//! - for all other nodes (a_clean[u] − a_ablated[u]) · ∂m/∂a[u].
//!
//! QK fix: where attention is saturated, its gradient says that nothing can change it. GradDrop: where the effects along two
//! paths cancel, one of them is left when the layer that the other takes is dropped. A head's keys are ablated at all
//! positions together, as activation patching does, and heads that share keys count together. A layer is a block, attention
//! and MLP; a unit's own layer, dropped, leaves it nothing, hence L−1. |·| is taken of every pair, as the paper averages over
//! its distribution. Neurons have GradDrop alone.
//! Paper: Kramár et al., arXiv:2403.00745. With GradDrop scores have no sign, as in the paper; without, they do.
//! Cost: two forward passes and one backward, and with GradDrop about half as many passes forward and back as there are layers:
//! below each dropped layer alone, from the gradient of the residual stream above it.
//! Not for: signs, and models of a single layer, where GradDrop leaves nothing.

use super::Run;
use super::contract::Differences;
use super::gradient::{Gradients, entering_as_recorded, gradients_and_record, gradients_without};
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use super::units::{Part, add, parts};
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use crate::measure::sources::Activations;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer, QueryKeyNorm};
use crate::model::tap::NoTap;
use ndarray::Array2;
use tch::{Kind, Tensor};

pub const LISTING: Listing = Listing {
    name: "atp-star",
    about: "attribution patching with patterns recomputed for queries and keys, and layers dropped in turn",
    passes: "2 forward, 1 backward, and layers / 2 forward and backward for GradDrop",
    memory: "activations of two runs, gradients of two, changes of patterns",
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Whether the patterns are recomputed for queries and keys.
    pub qk_fix: bool,
    /// Whether each layer is dropped in turn.
    pub grad_drop: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { qk_fix: true, grad_drop: true }
    }
}

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &[Level::Node, Level::Neuron]
    }

    fn needs(&self) -> Needs {
        Needs { passes: 2, differences_last: false }
    }

    fn work(&self, graph: &Graph) -> Work {
        let dropped = if self.grad_drop { graph.dimensions.layers / 2 } else { 0 };
        Work { recorded: 1, unrecorded: 1 + dropped, ..Work::with_backward(1 + dropped) }
    }

    fn patterns(&self) -> bool {
        self.qk_fix
    }

    fn by_position(&self) -> bool {
        true
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("qk_fix", self.qk_fix.to_string()), ("grad_drop", self.grad_drop.to_string())]
    }

    fn score_batch(&self, run: &Run, ledger: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let run = &Run { residuals: self.grad_drop, ..*run };
        let (whole, clean) = gradients_and_record(run, None, &mut NoTap);
        let ablated = run.ablated();
        let Differences::Units(differences) = Differences::new(run, &clean, &ablated) else {
            return Ok(run.zeros());
        };
        let (parts, masks) = (parts(run), run.masks());
        let shifts = if self.qk_fix { Shift::all(run, &parts, &masks, &clean, &ablated) } else { Vec::new() };
        let entering = entering_as_recorded(run, &clean);
        let layers = run.problem.model.spec.layers;
        let dropped: Vec<Option<Layer>> =
            if self.grad_drop { (0..layers).map(|layer| Some(Layer(layer))).collect() } else { vec![None] };
        let share = 1.0 / (dropped.len() as f64 - 1.0).max(1.0);
        ledger.steps(dropped.len(), |step, sums| {
            let without = dropped[step].map(|layer| gradients_without(run, layer, &whole, &entering));
            let pass = without.as_ref().unwrap_or(&whole);
            let _no_grad = tch::no_grad_guard();
            // A unit's own layer leaves it nothing when it is dropped.
            let gone = |part: &Part| dropped[step].is_some() && part.site.layer() == dropped[step];
            for part in parts.iter().filter(|part| !gone(part)) {
                for (span, mask) in masks.iter().enumerate() {
                    let of_pairs = match shifts.iter().find(|shift| shift.site == part.site && shift.span == span) {
                        Some(shift) => shift.effect(run, part, pass), // [batch, unit]
                        None => {
                            let product = part.product(&part.carried(run, &differences), &pass.at(part.site));
                            Run::masked(&product, mask.as_ref()).sum_dim_intlist(1, false, None::<Kind>) // [batch, unit]
                        }
                    };
                    let of_pairs = if self.grad_drop { of_pairs.abs() * share } else { of_pairs };
                    add(run, part, span, &of_pairs, sums);
                }
            }
        })
    }
}

/// How attention probabilities change when queries or keys are ablated.
struct Shift {
    site: Site,
    span: usize,
    layer: Layer,
    /// Clean less ablated; where heads are normed together, an ablated head changes all patterns.
    changes: Changes,
}

enum Changes {
    /// Of every head when all are ablated: `[batch, head, query, key]`.
    Apart(Tensor),
    /// Of all heads when one unit is ablated, for each of them.
    Together(Vec<Tensor>),
}

impl Shift {
    fn all(
        run: &Run,
        parts: &[Part],
        masks: &[Option<Tensor>],
        clean: &Activations,
        ablated: &Activations,
    ) -> Vec<Shift> {
        let _no_grad = tch::no_grad_guard();
        let mut shifts = Vec::new();
        for (part, branch, layer) in parts.iter().filter_map(|part| match part.site {
            Site::Projection(layer, branch) | Site::PerQueryHead(layer, branch) if branch != Branch::Value => {
                Some((part, branch, layer))
            }
            _ => None,
        }) {
            for (span, mask) in masks.iter().enumerate() {
                let [of_clean, of_ablated] = [clean, ablated].map(|of| part.carried(run, of)); // [batch, pos, unit, d_head]
                let of_ablated = match mask {
                    Some(mask) => &of_clean + (of_ablated - &of_clean) * mask.unsqueeze(-1),
                    None => of_ablated,
                };
                let changes = changes(run, layer, branch, clean, &of_clean, &of_ablated);
                shifts.push(Shift { site: part.site, span, layer, changes });
            }
        }
        shifts
    }

    /// The effect of each unit on each pair: `[batch, unit]`.
    fn effect(&self, run: &Run, part: &Part, pass: &Gradients) -> Tensor {
        let gradient = pass.at(Site::Pattern(self.layer)); // [batch, head, query, key]
        let of_heads = |change: &Tensor| (change * &gradient).sum_dim_intlist([2, 3].as_slice(), false, None::<Kind>);
        let (rows, units) = (run.batch.len() as i64, part.rows.len() as i64);
        match &self.changes {
            Changes::Apart(change) => {
                let of_heads = of_heads(change).view([rows, units, -1]); // [batch, unit, head]
                of_heads.sum_dim_intlist(-1, false, None::<Kind>)
            }
            Changes::Together(changes) => {
                let of_unit = |change: &Tensor| of_heads(change).sum_dim_intlist(1, false, None::<Kind>); // [batch]
                Tensor::stack(&changes.iter().map(of_unit).collect::<Vec<_>>(), 1)
            }
        }
    }
}

/// The change of a layer's patterns when what one branch carries goes from its clean to its ablated value.
fn changes(
    run: &Run,
    layer: Layer,
    branch: Branch,
    clean: &Activations,
    of_clean: &Tensor,
    of_ablated: &Tensor,
) -> Changes {
    let model = run.problem.model;
    let other = |branch: Branch| clean.projections[3 * layer.0 + branch.index()].shallow_clone();
    let pattern = |this: &Tensor| match branch {
        Branch::Query => model.pattern(layer, this, &other(Branch::Key), run.past),
        _ => model.pattern(layer, &other(Branch::Query), this, run.past),
    };
    let now = pattern(of_clean); // [batch, head, query, key]
    if model.spec.attention.query_key_norm != QueryKeyNorm::Whole {
        return Changes::Apart(now - pattern(of_ablated));
    }
    let one = |unit: i64| {
        let changed = of_clean.copy();
        changed.select(2, unit).copy_(&of_ablated.select(2, unit));
        &now - pattern(&changed)
    };
    Changes::Together((0..of_clean.size()[2]).map(one).collect())
}
