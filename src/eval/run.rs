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
use crate::dataset::TokenPair;
use crate::graph::{Dimensions, Graph, Slot};
use crate::measure::batch::{Prefix, batches};
use crate::measure::memory::Sizes;
use crate::measure::sources::{Activations, heads_from_z};
use crate::measure::{Batch, metric};
use crate::metric::MetricKind;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Read, Start};
use tch::{Kind, Tensor};

/// Pairs prepared for running many circuits: the clean and the corrupt run of each batch are done once.
pub struct Bench<'a> {
    model: &'a Model,
    graph: &'a Graph,
    metric: MetricKind,
    pairs: usize,
    prepared: Vec<Prepared>,
}

struct Prepared {
    batch: Batch,
    past: Option<Past>,
    corrupt: Activations,
    /// What the sources wrote, `[source, batch · pos · d_model]`, where there is room for it.
    corrupt_written: Option<Tensor>,
    reference: Tensor,    // clean log-probabilities [batch, vocab]
    clean_logits: Tensor, // [batch, vocab]
}

/// What all corrupt runs wrote is kept while it takes no more than this, and computed at every run beyond.
const KEPT_BYTES: usize = 1 << 30;

/// What one way of running the model scored on every pair, in the order of the pairs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Outcome {
    /// The task's metric.
    pub metric: Vec<f64>,
    /// 1 where the right answer wins.
    pub accuracy: Vec<f64>,
    /// KL from the clean model's distribution, nats.
    pub kl: Vec<f64>,
}

impl Outcome {
    pub fn mean_metric(&self) -> f64 {
        mean(&self.metric)
    }
}

/// The arithmetic mean, 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

impl<'a> Bench<'a> {
    /// Runs the clean and the corrupt prompts of all pairs.
    pub fn new(
        model: &'a Model,
        graph: &'a Graph,
        metric: MetricKind,
        pairs: &[TokenPair],
        prefix: Prefix,
    ) -> Bench<'a> {
        let _no_grad = tch::no_grad_guard();
        let sizes = Sizes::new(model, graph.dimensions, pairs);
        let keep = sizes.differences() * sizes.positions * pairs.len() * size_of::<f32>() <= KEPT_BYTES;
        let prepared = batches(model, pairs, sizes.most_pairs(model.device), prefix)
            .into_iter()
            .map(|batch| {
                let past = batch.past(model);
                let clean = Activations::record(model, &batch.clean, past.as_ref());
                let corrupt = Activations::record(model, &batch.corrupt, past.as_ref());
                Prepared {
                    corrupt_written: keep.then(|| corrupt.written(model, graph.dimensions)),
                    reference: clean.logits.log_softmax(-1, None::<Kind>),
                    clean_logits: clean.logits,
                    corrupt,
                    past,
                    batch,
                }
            })
            .collect();
        Bench { model, graph, metric, pairs: pairs.len(), prepared }
    }

    /// The model on the clean prompts.
    pub fn clean(&self) -> Outcome {
        self.gather(|prepared| prepared.clean_logits.shallow_clone())
    }

    /// The model on the corrupt prompts: everything ablated.
    pub fn ablated(&self) -> Outcome {
        self.gather(|prepared| prepared.corrupt.logits.shallow_clone())
    }

    /// The circuit on the clean prompts.
    pub fn circuit(&self, mask: &EdgeMask) -> Outcome {
        let _no_grad = tch::no_grad_guard();
        let kept = Kept::new(self.graph, mask, self.model);
        self.gather(|prepared| {
            let dimensions = self.graph.dimensions;
            let shape = [dimensions.sources() as i64, prepared.corrupt.embedding.numel() as i64];
            let mut tap = CircuitTap {
                kept: &kept,
                prepared,
                model: self.model,
                dimensions,
                now_minus_corrupt: Tensor::zeros(shape, (self.model.kind(), self.model.device)),
            };
            let pass = Pass { past: prepared.past.as_ref(), read: Read::Last };
            self.model.forward(Start::Tokens(&prepared.batch.clean), &pass, &mut tap).squeeze_dim(1)
        })
    }

    fn gather(&self, logits: impl Fn(&Prepared) -> Tensor) -> Outcome {
        let _no_grad = tch::no_grad_guard();
        let empty = vec![0.0; self.pairs];
        let mut outcome = Outcome { metric: empty.clone(), accuracy: empty.clone(), kl: empty };
        for prepared in &self.prepared {
            let logits = logits(prepared); // [batch, vocab]
            let batch = &prepared.batch;
            let measured = metric::per_pair(self.metric, &logits, batch, Some(&prepared.reference)); // [batch]
            scatter(&mut outcome.metric, batch, &measured);
            scatter(&mut outcome.accuracy, batch, &metric::per_pair(MetricKind::Accuracy, &logits, batch, None));
            let divergence = metric::divergence(&prepared.reference, &logits.log_softmax(-1, None::<Kind>)); // [batch]
            scatter(&mut outcome.kl, batch, &divergence);
        }
        outcome
    }
}

/// Puts the numbers of a batch `[batch]` where its pairs stand in the data set.
fn scatter(values: &mut [f64], batch: &Batch, numbers: &Tensor) {
    let mut flat = vec![0f64; batch.len()];
    numbers.to_kind(Kind::Double).contiguous().copy_data(&mut flat, batch.len());
    for (&index, number) in batch.indices.iter().zip(flat) {
        values[index] = number;
    }
}

/// The edges of a circuit as matrices, a destination's row marking its sources.
struct Kept {
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
    fn new(graph: &Graph, mask: &EdgeMask, model: &Model) -> Kept {
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
    prepared: &'a Prepared,
    /// Filled from the input upwards as the sources are computed: `[source, batch · pos · d_model]`.
    now_minus_corrupt: Tensor,
    model: &'a Model,
    dimensions: Dimensions,
}

impl CircuitTap<'_> {
    /// What the kept edges carry beyond the corrupt run: `[slot, batch, pos, d_model]`.
    fn carried(&self, kept: &Tensor) -> Tensor {
        let batch = self.prepared.batch.len() as i64;
        let sources = self.now_minus_corrupt.narrow(0, 0, kept.size()[1]); // [source, batch · pos · d_model]
        let carried = if self.model.spec.placement.after() {
            self.carried_through_norms(kept, &sources)
        } else {
            kept.matmul(&sources)
        }; // [slot, batch · pos · d_model]
        carried.view([kept.size()[0], batch, -1, self.model.spec.d_model as i64])
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
            let corrupt = self.prepared.corrupt.head_sums[layer.0].flatten(0, 1); // [batch · pos, d_model]
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
        let corrupt = match &self.prepared.corrupt_written {
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
        let corrupt = &self.prepared.corrupt;
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
