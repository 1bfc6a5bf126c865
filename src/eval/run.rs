//! One definition of running a circuit, on which every number of the evidence rests.
//!
//! In a single pass over the clean prompt, every destination v of the circuit reads
//!
//! x_v = x_v(corrupt) + Σ_{u: u→v in circuit} ( a_now[u] − a_corrupt[u] ),
//!
//! so that edges of the circuit carry the circuit's own value and all others the corrupt one. This equals subtracting the
//! missing edges from the running residual stream (Hanna et al., arXiv:2403.17806) and loses no digits when few edges are
//! kept. Position embeddings and attention output biases belong to no node: they are in x_v(corrupt) and never change.
//!
//! Cost: one forward over the suffix with split heads, plus a product of the mask with the sources' differences.

use crate::circuit::EdgeMask;
use crate::graph::{Dimensions, Graph, Slot};
use crate::measure::Batch;
use crate::measure::sources::{Activations, heads_from_z};
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use tch::Tensor;

/// A corrupt run, whose values the missing edges carry.
pub(super) struct Corrupt<'a> {
    pub run: &'a Activations,
    /// What the sources wrote in it, `[source, batch · pos · d_model]`, if that was kept.
    pub written: Option<&'a Tensor>,
}

/// The logits `[batch, vocab]` of a circuit on the clean prompts of a batch.
pub(super) fn logits(
    model: &Model,
    dimensions: Dimensions,
    kept: &Kept,
    batch: &Batch,
    past: Option<&Past>,
    corrupt: Corrupt,
) -> Tensor {
    let shape = [dimensions.sources() as i64, corrupt.run.embedding.numel() as i64];
    let now_minus_corrupt = Tensor::zeros(shape, (model.kind(), model.device)); // [source, batch · pos · d_model]
    let mut tap = CircuitTap { kept, corrupt, batch: batch.len() as i64, model, dimensions, now_minus_corrupt };
    model.forward(Start::Tokens(&batch.clean), &Pass::after(past), &mut tap).squeeze_dim(1)
}

/// The edges of a circuit as matrices, a destination's row marking its sources.
pub(super) struct Kept {
    layers: Vec<KeptLayer>,
    logits: Option<Tensor>, // [1, source]
}

struct KeptLayer {
    /// For q, k and v: `[slot, source]`, or nothing where no slot of the layer keeps an edge.
    branches: [Option<Tensor>; 3],
    mlp: Option<Tensor>, // [1, source]
    /// Whether anything in the circuit reads a head, or the MLP, of this layer.
    heads_read: bool,
    mlp_read: bool,
}

impl Kept {
    pub fn new(graph: &Graph, mask: &EdgeMask, model: &Model) -> Kept {
        let dimensions = graph.dimensions;
        let rows = |(first, count): (usize, usize), sources: usize| {
            let columns = first..first + count;
            let flat: Vec<f32> = columns
                .flat_map(|column| (0..sources).map(move |source| f32::from(u8::from(mask.0[[source, column]]))))
                .collect();
            let shape = [count as i64, sources as i64];
            flat.contains(&1.0)
                .then(|| Tensor::from_slice(&flat).view(shape).to_kind(model.kind()).to_device(model.device))
        };
        let read = |first: usize, count: usize| {
            (first..first + count).any(|source| mask.0.row(source).iter().any(|&kept| kept))
        };
        let layers = (0..model.spec.layers)
            .map(Layer)
            .map(|layer| {
                let (before, heads) = (dimensions.before(layer), dimensions.heads);
                let mlp = dimensions.mlps.then(|| graph.destination(Slot::Mlp(layer)));
                KeptLayer {
                    branches: Branch::ALL.map(|branch| rows(dimensions.slots(layer, branch), before)),
                    mlp: mlp.and_then(|mlp| rows((mlp.0, 1), graph.sources_before(mlp))),
                    heads_read: read(before, heads),
                    mlp_read: dimensions.mlps && read(before + heads, 1),
                }
            })
            .collect();
        Kept { layers, logits: rows((graph.destinations() - 1, 1), graph.sources()) }
    }
}

/// Rebuilds the input of every destination from the circuit's edges.
struct CircuitTap<'a> {
    kept: &'a Kept,
    corrupt: Corrupt<'a>,
    batch: i64,
    /// Filled from the input upwards as the sources are computed: `[source, batch · pos · d_model]`.
    now_minus_corrupt: Tensor,
    model: &'a Model,
    dimensions: Dimensions,
}

impl CircuitTap<'_> {
    /// What the kept edges carry beyond the corrupt run: `[slot, batch, pos, d_model]`.
    fn carried(&self, kept: &Tensor) -> Tensor {
        let sources = self.now_minus_corrupt.narrow(0, 0, kept.size()[1]); // [source, batch · pos · d_model]
        let carried = if self.model.spec.placement.after() {
            self.carried_through_norms(kept, &sources)
        } else {
            kept.matmul(&sources)
        }; // [slot, batch · pos · d_model]
        carried.view([kept.size()[0], self.batch, -1, self.model.spec.d_model as i64])
    }

    /// Where a norm follows the attention, the heads of a layer that a slot reads add up to a sum of its own, and the slot
    /// gets the norm of that sum: `[slot, batch · pos · d_model]`.
    fn carried_through_norms(&self, kept: &Tensor, sources: &Tensor) -> Tensor {
        let (spec, heads) = (&self.model.spec, self.dimensions.heads);
        let additive = kept.copy(); // [slot, source], heads left out
        let mut carried = Tensor::zeros([kept.size()[0], sources.size()[1]], (self.model.kind(), self.model.device));
        for layer in (0..spec.layers).map(Layer).take_while(|&layer| {
            // A slot's sources are a prefix: all heads of a layer or none of them.
            self.dimensions.before(layer) + heads <= kept.size()[1] as usize
        }) {
            let first = self.dimensions.before(layer) as i64;
            let reads = kept.narrow(1, first, heads as i64); // [slot, head]
            let change = reads.matmul(&sources.narrow(0, first, heads as i64)); // [slot, batch · pos · d_model]
            let change = change.view([kept.size()[0], -1, spec.d_model as i64]); // [slot, batch · pos, d_model]
            let corrupt = self.corrupt.run.head_sums[layer.0].flatten(0, 1); // [batch · pos, d_model]
            let norm = &self.model.weights.blocks[layer.0].attention_after;
            carried += (norm.apply(&(change + &corrupt)) - norm.apply(&corrupt)).flatten(1, 2);
            let _ = additive.narrow(1, first, heads as i64).zero_();
        }
        carried + additive.matmul(sources)
    }

    /// Stores what the sources from `first` on write now, `[count, batch, pos, d_model]`, less what they wrote in the
    /// corrupt run: `[count, batch · pos, d_model]`, computed if it was not kept.
    fn store(&self, first: usize, written: &Tensor, corrupt: impl Fn() -> Tensor) {
        let (first, count) = (first as i64, written.size()[0]);
        let corrupt = match self.corrupt.written {
            Some(kept) => kept.narrow(0, first, count), // [count, batch · pos · d_model]
            None => corrupt().flatten(1, -1),
        };
        self.now_minus_corrupt.narrow(0, first, count).copy_(&(written.reshape([count, -1]) - corrupt));
    }
}

impl Tap for CircuitTap<'_> {
    fn wants(&self, site: Site) -> bool {
        match site {
            Site::TokenEmbedding | Site::AttentionIn(..) | Site::MlpIn(_) | Site::FinalIn => true,
            Site::HeadOut(layer) => self.kept.layers[layer.0].heads_read,
            Site::MlpOut(layer) => self.kept.layers[layer.0].mlp_read,
            _ => false,
        }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let corrupt = self.corrupt.run;
        match site {
            Site::TokenEmbedding => self.store(0, &value.unsqueeze(0), || corrupt.embedding.unsqueeze(0)),
            Site::HeadOut(layer) => {
                let written = value.permute([2, 0, 1, 3]); // [head, batch, pos, d_model]
                let corrupt = || heads_from_z(self.model, layer, &corrupt.z[layer.0]); // [head, batch · pos, d_model]
                self.store(self.dimensions.before(layer), &written, corrupt);
            }
            Site::MlpOut(layer) => {
                let source = self.dimensions.before(layer) + self.dimensions.heads;
                self.store(source, &value.unsqueeze(0), || corrupt.mlp[layer.0].unsqueeze(0));
            }
            Site::AttentionIn(layer, branch) => {
                let base = corrupt.before_attention[layer.0].unsqueeze(2); // [batch, pos, 1, d_model]
                return match &self.kept.layers[layer.0].branches[branch.index()] {
                    Some(kept) => base + self.carried(kept).permute([1, 2, 0, 3]), // [batch, pos, slot, d_model]
                    None => base,
                };
            }
            Site::MlpIn(layer) => {
                let base = corrupt.before_mlp[layer.0].shallow_clone(); // [batch, pos, d_model]
                return match &self.kept.layers[layer.0].mlp {
                    Some(kept) => base + self.carried(kept).squeeze_dim(0),
                    None => base,
                };
            }
            Site::FinalIn => {
                let base = corrupt.last.shallow_clone(); // [batch, 1, d_model]
                return match &self.kept.logits {
                    Some(kept) => {
                        let carried = self.carried(kept).squeeze_dim(0); // [batch, pos, d_model]
                        base + carried.narrow(1, carried.size()[1] - 1, 1)
                    }
                    None => base,
                };
            }
            _ => {}
        }
        value
    }
}
