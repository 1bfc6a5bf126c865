//! One definition of running a circuit, on which searches and every number of the evidence rest.
//!
//! In a single pass over the clean prompt, every destination v of the circuit reads
//!
//! x_v = x_v(corrupt) + Σ_{u: u→v in circuit} ( a_now[u] − a_corrupt[u] ),
//!
//! so that edges of the circuit carry the circuit's own value and all others the corrupt one. This equals subtracting the
//! missing edges from the running residual stream (Hanna et al., arXiv:2403.17806) and loses no digits when few edges are
//! kept. Position embeddings and attention output biases belong to no node: they are in x_v(corrupt) and never change.
//! An edge can also be in the circuit to some degree: a gate z in [0, 1] makes it carry z a_now\[u\] + (1 − z) a_corrupt\[u\],
//! and the run can be differentiated by the gates.
//!
//! Cost: one forward over the suffix with split heads, plus a product of the mask with the sources' differences. Circuits
//! that are whole below a slot run from the slot's layer upwards, many of them side by side.

use super::batch::Batch;
use super::sources::{Activations, heads_from_z};
use crate::graph::mask::EdgeMask;
use crate::graph::{Dimensions, Graph, Slot};
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use tch::Tensor;

/// Where circuits are run: the pairs of a batch with their corrupt run, whose values the missing edges carry.
pub struct Setting<'a> {
    pub model: &'a Model,
    pub dimensions: Dimensions,
    pub batch: &'a Batch,
    pub past: Option<&'a Past>,
    pub corrupt: &'a Activations,
    /// What the sources wrote in the corrupt run, `[source, batch · pos · d_model]`, if that was kept.
    pub written: Option<&'a Tensor>,
}

/// Circuits that are whole below one slot and differ in what that slot reads.
pub struct Variants<'a> {
    pub slot: Slot,
    /// Which of the sources before the slot it reads in each: `[variant, source]`.
    pub reads: &'a Tensor,
    /// What all sources wrote in the clean run less what they wrote in the corrupt one: `[source, batch · pos · d_model]`.
    pub differences: &'a Tensor,
}

impl Setting<'_> {
    /// The logits `[batch, vocab]` of a circuit on the clean prompts.
    pub fn logits(&self, kept: &Kept) -> Tensor {
        let mut tap = CircuitTap::new(self, kept, None);
        let pass = Pass::after(self.past);
        self.model.forward(Start::Tokens(&self.batch.clean), &pass, &mut tap).squeeze_dim(1)
    }

    /// The logits `[variant, batch, vocab]` of circuits that differ at one slot and are otherwise `kept`. Below the slot
    /// they are whole, so the pass begins at the slot's layer.
    pub fn logits_of_variants(&self, kept: &Kept, variants: &Variants) -> Tensor {
        let copies = variants.reads.size()[0];
        let mut tap = CircuitTap::new(self, kept, Some(variants));
        let layer = variants.slot.layer().unwrap_or(Layer(self.model.spec.layers));
        // Every destination's input is rebuilt, so what the residual stream holds at the start does not matter.
        let value = match self.corrupt.before_attention.get(layer.0) {
            Some(residual) => residual.repeat([copies, 1, 1]), // [variant · batch, pos, d_model]
            None => self.corrupt.last.repeat([copies, 1, 1]),  // [variant · batch, 1, d_model]
        };
        let past = self.past.map(|past| past.repeat(copies));
        let pass = Pass::after(past.as_ref());
        let logits = self.model.forward(Start::Residual { layer, value }, &pass, &mut tap); // [variant · batch, 1, vocab]
        logits.view([copies, self.batch.len() as i64, -1])
    }
}

/// The edges of a circuit as matrices, a destination's row marking its sources: by 1 and 0, or by gates between them.
pub struct Kept {
    layers: Vec<KeptLayer>,
    logits: Option<Tensor>, // [1, source]
}

struct KeptLayer {
    /// For q, k and v: `[1 | slot, source]`, or nothing where no slot of the layer keeps an edge.
    branches: [Option<Tensor>; 3],
    mlp: Option<Tensor>, // [1, source]
    /// Whether anything in the circuit reads a head, or the MLP, of this layer.
    heads_read: bool,
    mlp_read: bool,
}

impl Kept {
    /// Of the layers from `first` on; a run does not go through those below.
    pub fn new(graph: &Graph, mask: &EdgeMask, model: &Model, first: Layer) -> Kept {
        let dimensions = graph.dimensions;
        let rows = |(first, count): (usize, usize), sources: usize| {
            let row = |column: usize| (0..sources).map(move |source| f32::from(u8::from(mask.0[[source, column]])));
            let mut rows: Vec<Vec<f32>> = (first..first + count).map(|column| row(column).collect()).collect();
            // Slots that read the same are run as one.
            if rows.windows(2).all(|two| two[0] == two[1]) {
                rows.truncate(1);
            }
            let shape = [rows.len() as i64, sources as i64];
            let flat = rows.concat();
            flat.contains(&1.0)
                .then(|| Tensor::from_slice(&flat).view(shape).to_kind(model.kind()).to_device(model.device))
        };
        let read = |first: usize, count: usize| {
            (first..first + count).any(|source| mask.0.row(source).iter().any(|&kept| kept))
        };
        let layers = (0..model.spec.layers)
            .map(Layer)
            .map(|layer| {
                if layer < first {
                    return KeptLayer { branches: [None, None, None], mlp: None, heads_read: false, mlp_read: false };
                }
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

    /// Every edge to the degree of its gate, `[source, destination]` in the type and on the device of the model. Where the
    /// gates require gradients, so do the logits of the run.
    pub fn gated(graph: &Graph, gates: &Tensor, model: &Model) -> Kept {
        let dimensions = graph.dimensions;
        let rows = |(first, count): (usize, usize), sources: usize| {
            Some(gates.narrow(1, first as i64, count as i64).narrow(0, 0, sources as i64).tr()) // [slot, source]
        };
        let layers = (0..model.spec.layers)
            .map(Layer)
            .map(|layer| {
                let mlp = dimensions.mlps.then(|| graph.destination(Slot::Mlp(layer)));
                KeptLayer {
                    branches: Branch::ALL.map(|branch| rows(dimensions.slots(layer, branch), dimensions.before(layer))),
                    mlp: mlp.and_then(|mlp| rows((mlp.0, 1), graph.sources_before(mlp))),
                    heads_read: true,
                    mlp_read: dimensions.mlps,
                }
            })
            .collect();
        Kept { layers, logits: rows((graph.destinations() - 1, 1), graph.sources()) }
    }

    /// Whether the run is to be differentiated by the gates.
    fn requires_grad(&self) -> bool {
        self.logits.as_ref().is_some_and(Tensor::requires_grad)
    }
}

/// What sources write now less what they wrote in the corrupt run, as they are computed.
enum Changes {
    /// In one buffer, filled upwards: `[source, variant · batch · pos · d_model]`.
    Together(Tensor),
    /// As they were announced: a backward needs them so, and writing into a buffer changes what was read from it.
    Apart(Vec<Part>),
}

/// Some consecutive sources.
struct Part {
    first: i64,
    /// Of which layer they are all the heads, if they are heads.
    heads_of: Option<Layer>,
    change: Tensor, // [source, batch · pos · d_model]
}

/// Rebuilds the input of every destination from the circuit's edges.
struct CircuitTap<'a> {
    setting: &'a Setting<'a>,
    kept: &'a Kept,
    variants: Option<&'a Variants<'a>>,
    /// How many circuits run side by side.
    copies: i64,
    /// Sources below the slot in which variants differ: what they write is the clean run's.
    fixed: i64,
    /// Of the other sources.
    now_minus_corrupt: Changes,
}

impl<'a> CircuitTap<'a> {
    fn new(setting: &'a Setting, kept: &'a Kept, variants: Option<&'a Variants>) -> CircuitTap<'a> {
        let (copies, fixed) = variants.map_or((1, 0), |variants| (variants.reads.size()[0], variants.reads.size()[1]));
        let numbers = copies * setting.corrupt.embedding.numel() as i64;
        let shape = [setting.dimensions.sources() as i64 - fixed, numbers];
        let now_minus_corrupt = if kept.requires_grad() {
            Changes::Apart(Vec::new())
        } else {
            Changes::Together(Tensor::zeros(shape, (setting.model.kind(), setting.model.device)))
        };
        CircuitTap { setting, kept, variants, copies, fixed, now_minus_corrupt }
    }

    /// A tensor of the corrupt run, `[batch, ..]`, for every circuit: `[variant · batch, ..]`.
    fn repeated(&self, corrupt: &Tensor) -> Tensor {
        if self.copies == 1 {
            return corrupt.shallow_clone();
        }
        let mut times = vec![1; corrupt.dim()];
        times[0] = self.copies;
        corrupt.repeat(times)
    }

    /// What the kept edges into some slots carry beyond the corrupt run: `[slot, variant · batch, pos, d_model]`, from which
    /// sources each slot reads, `[slot, source]`.
    fn carried(&self, kept: &Tensor) -> Tensor {
        let sources = kept.size()[1];
        let fixed = self.fixed.min(sources);
        let below = self.variants.filter(|_| fixed > 0).map(|variants| {
            let clean = variants.differences.narrow(0, 0, fixed); // [source, batch · pos · d_model]
            self.carried_by(&kept.narrow(1, 0, fixed), 0, &clean, 1).repeat([1, self.copies])
        });
        let above = (sources > fixed).then(|| match &self.now_minus_corrupt {
            Changes::Together(now) => {
                let now = now.narrow(0, 0, sources - fixed); // [source, variant · batch · pos · d_model]
                self.carried_by(&kept.narrow(1, fixed, sources - fixed), fixed, &now, self.copies)
            }
            Changes::Apart(parts) => self.carried_by_parts(kept, parts),
        });
        let carried = match (below, above) {
            (Some(below), Some(above)) => below + above,
            (below, above) => below.or(above).unwrap_or_default(),
        }; // [slot, variant · batch · pos · d_model]
        self.by_position(&carried)
    }

    /// `[slot, rows · pos · d_model]` as `[slot, rows, pos, d_model]`.
    fn by_position(&self, carried: &Tensor) -> Tensor {
        let pos = self.setting.corrupt.embedding.size()[1];
        carried.view([carried.size()[0], -1, pos, self.setting.model.spec.d_model as i64])
    }

    /// What the sources from `first` on carry into some slots: `[slot, numbers]` from which of them each slot reads,
    /// `[slot, source]`, and what they write beyond the corrupt run, `[source, numbers]` of so many copies of the batch.
    fn carried_by(&self, reads: &Tensor, first: i64, sources: &Tensor, copies: i64) -> Tensor {
        if !self.setting.model.spec.placement.after() {
            return reads.matmul(sources);
        }
        self.carried_through_norms(reads, first, sources, copies)
    }

    /// The same of sources that are kept apart: `[slot, numbers]`, from which of all sources each slot reads, `[slot, source]`.
    fn carried_by_parts(&self, reads: &Tensor, parts: &[Part]) -> Tensor {
        let numbers = parts.first().map_or(0, |part| part.change.size()[1]);
        let mut carried = Tensor::zeros([reads.size()[0], numbers], (reads.kind(), reads.device())); // [slot, numbers]
        for part in parts.iter().filter(|part| part.first < reads.size()[1]) {
            let reads = reads.narrow(1, part.first, part.change.size()[0]); // [slot, source]
            match part.heads_of.filter(|_| self.setting.model.spec.placement.after()) {
                Some(layer) => carried += self.carried_through_norm(layer, &reads, &part.change, 1),
                // Nothing beside the sum: many tensors of its size, freed one by one, leave holes that nothing fits into.
                None => drop(carried.addmm_(&reads, &part.change)),
            }
        }
        carried
    }

    /// Where a norm follows the attention, the heads of a layer that a slot reads add up to a sum of its own, and the slot
    /// gets the norm of that sum.
    fn carried_through_norms(&self, reads: &Tensor, first: i64, sources: &Tensor, copies: i64) -> Tensor {
        let Setting { model, dimensions, .. } = *self.setting;
        let heads = dimensions.heads as i64;
        let additive = reads.copy(); // [slot, source], heads left out
        let mut carried = Tensor::zeros([reads.size()[0], sources.size()[1]], (model.kind(), model.device));
        for layer in (0..model.spec.layers).map(Layer) {
            // A slot's sources are a prefix: all heads of a layer or none of them.
            let start = dimensions.before(layer) as i64 - first;
            if start < 0 || start + heads > reads.size()[1] {
                continue;
            }
            let (of_heads, heads_change) = (reads.narrow(1, start, heads), sources.narrow(0, start, heads));
            carried += self.carried_through_norm(layer, &of_heads, &heads_change, copies);
            let _ = additive.narrow(1, start, heads).zero_();
        }
        carried + additive.matmul(sources)
    }

    /// What the heads of a layer carry through the norm that follows them: `[slot, numbers]` from which heads each slot reads,
    /// `[slot, head]`, and what they write beyond the corrupt run, `[head, numbers]` of so many copies of the batch.
    fn carried_through_norm(&self, layer: Layer, reads: &Tensor, heads: &Tensor, copies: i64) -> Tensor {
        let Setting { model, corrupt, .. } = *self.setting;
        let sum = corrupt.head_sums[layer.0].repeat([copies, 1, 1]).flatten(0, 1); // [rows · pos, d_model]
        let changed = sum.view([1, -1]).addmm(reads, heads).view([reads.size()[0], -1, model.spec.d_model as i64]); // [slot, rows · pos, d_model]
        let norm = &model.weights.blocks[layer.0].attention_after;
        (norm.apply(&changed) - norm.apply(&sum)).flatten(1, 2)
    }

    /// Stores what the sources from `first` on write now, `[count, variant · batch, pos, d_model]`, less what they wrote in
    /// the corrupt run, `[count, batch · pos, d_model]`, computed if it was not kept.
    fn store(&mut self, first: usize, heads_of: Option<Layer>, written: &Tensor, corrupt: impl Fn() -> Tensor) {
        let (first, count) = (first as i64, written.size()[0]);
        if first < self.fixed {
            return; // as in the clean run
        }
        let corrupt = match self.setting.written {
            Some(kept) => kept.narrow(0, first, count), // [count, batch · pos · d_model]
            None => corrupt().flatten(1, -1),
        };
        let change = written.reshape([count, self.copies, -1]) - corrupt.unsqueeze(1); // [count, variant, batch · pos · d_model]
        let change = change.flatten(1, 2); // [count, variant · batch · pos · d_model]
        match &mut self.now_minus_corrupt {
            Changes::Together(all) => all.narrow(0, first - self.fixed, count).copy_(&change),
            Changes::Apart(parts) => parts.push(Part { first, heads_of, change }),
        }
    }

    /// What the slot in which variants differ reads in each, if `this` is it: `[variant · batch, pos, d_model]`.
    fn varied(&self, this: impl Fn(Slot) -> bool) -> Option<Tensor> {
        let variants = self.variants.filter(|variants| this(variants.slot))?;
        let clean = variants.differences.narrow(0, 0, self.fixed); // [source, batch · pos · d_model]
        let carried = self.carried_by(variants.reads, 0, &clean, 1); // [variant, batch · pos · d_model]
        Some(self.by_position(&carried).flatten(0, 1))
    }

    /// What one of the slots that stand alone reads: `[variant · batch, pos, d_model]` from the corrupt run's
    /// `[batch, pos, d_model]`.
    fn alone(&self, slot: Slot, kept: Option<&Tensor>, corrupt: &Tensor) -> Tensor {
        let base = self.repeated(corrupt);
        match (self.varied(|varied| varied == slot), kept) {
            (Some(carried), _) => base + carried,
            (None, Some(kept)) => base + self.carried(kept).squeeze_dim(0),
            (None, None) => base,
        }
    }

    /// What the slots of a branch read: `[variant · batch, pos, 1 | slot, d_model]`.
    fn branch(&self, layer: Layer, branch: Branch) -> Tensor {
        let base = self.repeated(&self.setting.corrupt.before_attention[layer.0]).unsqueeze(2); // [variant · batch, pos, 1, d_model]
        let kept = self.kept.layers[layer.0].branches[branch.index()].as_ref();
        let carried = kept.map(|kept| self.carried(kept).permute([1, 2, 0, 3])); // [variant · batch, pos, slot, d_model]
        let here = |slot: Slot| slot.layer() == Some(layer) && slot.branch() == Some(branch);
        let Some(varied) = self.varied(here) else {
            return match carried {
                Some(carried) => base + carried,
                None => base,
            };
        };
        let slots = self.setting.dimensions.slots(layer, branch).1 as i64;
        let all = match carried {
            Some(carried) => &base + carried,
            None => base.shallow_clone(),
        }; // [variant · batch, pos, 1 | slot, d_model]
        let all = all.expand([-1, -1, slots, -1], false).contiguous(); // [variant · batch, pos, slot, d_model]
        let index = self.variants.and_then(|variants| variants.slot.head()).map_or(0, |head| head.0) as i64;
        all.select(2, index).copy_(&(base.squeeze_dim(2) + varied));
        all
    }

    /// What the logits read at the last position: `[variant · batch, 1, d_model]`.
    fn last(&self) -> Tensor {
        let pos = self.setting.corrupt.embedding.size()[1];
        let base = self.repeated(&self.setting.corrupt.last); // [variant · batch, 1, d_model]
        let carried = self.varied(|slot| slot == Slot::Logits);
        let carried = carried.or_else(|| self.kept.logits.as_ref().map(|kept| self.carried(kept).squeeze_dim(0))); // [variant · batch, pos, d_model]
        match carried {
            Some(carried) => base + carried.narrow(1, pos - 1, 1),
            None => base,
        }
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
        let Setting { model, dimensions, corrupt, .. } = *self.setting;
        match site {
            Site::TokenEmbedding => self.store(0, None, &value.unsqueeze(0), || corrupt.embedding.unsqueeze(0)),
            Site::HeadOut(layer) => {
                let written = value.permute([2, 0, 1, 3]); // [head, variant · batch, pos, d_model]
                let corrupt = || heads_from_z(model, layer, &corrupt.z[layer.0]); // [head, batch · pos, d_model]
                self.store(dimensions.before(layer), Some(layer), &written, corrupt);
            }
            Site::MlpOut(layer) => {
                let source = dimensions.before(layer) + dimensions.heads;
                self.store(source, None, &value.unsqueeze(0), || corrupt.mlp[layer.0].unsqueeze(0));
            }
            Site::AttentionIn(layer, branch) => return self.branch(layer, branch),
            Site::MlpIn(layer) => {
                let kept = self.kept.layers[layer.0].mlp.as_ref();
                return self.alone(Slot::Mlp(layer), kept, &corrupt.before_mlp[layer.0]);
            }
            Site::FinalIn => return self.last(),
            _ => {}
        }
        value
    }
}
