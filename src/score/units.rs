//! What units of the model changed times the gradient at what they carry: the scores of nodes and neurons.
//!
//! score(u) = Σ over positions of (a_clean[u] − a_ablated[u]) · ∂m/∂a[u].
//!
//! A head is taken before W_O, which is linear, so that a norm that follows the attention is differentiated with all else; an
//! MLP at its output (the EAP-IG package takes the gradient at its *input*); queries, keys and values as projected, before
//! a norm or a rotation of them.

use super::Run;
use super::gradient::{Gradients, projection};
use crate::graph::Level;
use crate::measure::sources::Activations;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use ndarray::Array2;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Some units side by side at one site.
pub(super) struct Part {
    /// Their rows among all units.
    pub rows: Range<usize>,
    pub site: Site,
}

/// All units of the level by the sites that carry them, upwards.
pub(super) fn parts(run: &Run) -> Vec<Part> {
    let (units, dimensions) = (run.problem.units(), run.problem.graph.dimensions);
    let mut parts = vec![Part { rows: 0..1, site: Site::TokenEmbedding }];
    for layer in (0..dimensions.layers).map(Layer) {
        if units.level == Level::Node {
            let of_branch = |branch| Part { rows: units.branch(layer, branch), site: projection(run, layer, branch) };
            parts.extend(Branch::ALL.map(of_branch));
        }
        parts.push(Part { rows: units.heads(layer), site: Site::Z(layer) });
        if dimensions.mlps {
            let site = if units.level == Level::Neuron { Site::MlpPost(layer) } else { Site::MlpOut(layer) };
            parts.push(Part { rows: units.mlp(layer), site });
        }
    }
    parts
}

impl Part {
    /// What the units carry in a run, of the shape of the site: `[batch, pos, ..]`.
    pub fn carried(&self, run: &Run, of: &Activations) -> Tensor {
        let projected = |layer: Layer, branch: Branch| of.projections[3 * layer.0 + branch.index()].shallow_clone();
        match self.site {
            Site::Z(layer) => of.z[layer.0].shallow_clone(),
            Site::MlpOut(layer) => of.mlp[layer.0].shallow_clone(),
            Site::MlpPost(layer) => of.neurons[layer.0].shallow_clone(),
            Site::Projection(layer, branch) => projected(layer, branch),
            Site::PerQueryHead(layer, branch) => {
                let group = (run.problem.model.spec.heads / run.problem.model.spec.kv_heads) as i64;
                projected(layer, branch).repeat_interleave_self_int(group, 2, None)
            }
            _ => of.embedding.shallow_clone(),
        }
    }

    /// A tensor of the site's shape with an axis for the units: `[batch, pos, unit, size]`.
    pub fn apart(&self, of: &Tensor) -> Tensor {
        of.view([of.size()[0], of.size()[1], self.rows.len() as i64, -1])
    }

    /// The product of two tensors of the site's shape for each unit: `[batch, pos, unit]`.
    pub fn product(&self, a: &Tensor, b: &Tensor) -> Tensor {
        self.apart(&(a * b)).sum_dim_intlist(-1, false, None::<Kind>)
    }
}

/// The scores summed over the pairs of the batch, `[unit, part]`, from the differences clean less ablated and the gradients
/// averaged over passes.
pub(super) fn contract(run: &Run, differences: &Activations, passes: &[Gradients]) -> Array2<f64> {
    let _no_grad = tch::no_grad_guard();
    let (mut sums, masks) = (run.zeros(), run.masks());
    for part in parts(run) {
        let gradient = passes.iter().map(|pass| pass.at(part.site)).reduce(|a, b| a + b).unwrap_or_default();
        let products = part.product(&part.carried(run, differences), &gradient) / passes.len() as f64; // [batch, pos, unit]
        for (span, mask) in masks.iter().enumerate() {
            let of_pairs = Run::masked(&products, mask.as_ref()).sum_dim_intlist(1, false, None::<Kind>); // [batch, unit]
            add(run, &part, span, &of_pairs, &mut sums);
        }
    }
    sums
}

/// Adds what units came to on each pair, `[batch, unit]`, to their sums `[unit, part]`: those of the group `span` of positions,
/// or of each pair.
pub(super) fn add(run: &Run, part: &Part, span: usize, of_pairs: &Tensor, sums: &mut Array2<f64>) {
    let apart = of_pairs.to_kind(Kind::Double);
    let apart = if run.pairs_apart() { apart } else { apart.sum_dim_intlist(0, true, Kind::Double) }; // [part, unit]
    let (parts, units) = (apart.size()[0] as usize, part.rows.len());
    let mut flat = vec![0f64; parts * units];
    apart.contiguous().copy_data(&mut flat, parts * units);
    for (index, sum) in flat.into_iter().enumerate() {
        sums[[part.rows.start + index % units, span + index / units]] += sum;
    }
}
