//! What every source node writes into the residual stream during a pass.
//!
//! Heads are kept as `z` (d_head a head) and expanded by W_O one layer at a time, so that a pass stores 1/H of what
//! copies of the residual stream would take.
//!
//! Where a norm follows the attention (Gemma 2, OLMo 2), the heads of a layer add up before it: what a head writes is then
//! its part of that sum, and what reaches the residual stream is the norm of the sum.

use crate::graph::{Dimensions, Level};
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use tch::Tensor;

/// Keeps, without gradients, what the sources wrote and what the destinations read.
#[derive(Default)]
pub struct Activations {
    pub embedding: Tensor, // [batch, pos, d_model]
    pub z: Vec<Tensor>,    // a layer: [batch, pos, head, d_head]
    /// The sum of a layer's heads before a norm that follows it, `[batch, pos, d_model]`; empty without such norms.
    pub head_sums: Vec<Tensor>,
    pub mlp: Vec<Tensor>, // a layer: [batch, pos, d_model]
    /// Queries, keys and values of each layer one after another, `[batch, pos, head or kv_head, d_head]`; kept for
    /// [`Level::Node`] alone.
    pub projections: Vec<Tensor>,
    /// The neurons of each layer, `[batch, pos, d_mlp]`; kept for [`Level::Neuron`] alone.
    pub neurons: Vec<Tensor>,
    /// The residual stream before each attention, `[batch, pos, d_model]` a layer.
    pub before_attention: Vec<Tensor>,
    /// The residual stream before each MLP, `[batch, pos, d_model]` a layer.
    pub before_mlp: Vec<Tensor>,
    /// The residual stream after the last block: `[batch, pos, d_model]`.
    pub out: Tensor,
    /// The same at the last position, before the final norm: `[batch, 1, d_model]`.
    pub last: Tensor,
    pub logits: Tensor, // [batch, vocab], last position
}

/// Records the activations of the pass that it sees.
pub struct Recorder {
    kept: Activations,
    head_sums: bool,
    last_layer: Layer,
    level: Level,
}

impl Recorder {
    /// Of what the scores of a level need.
    pub fn new(model: &Model, level: Level) -> Recorder {
        Recorder {
            level,
            kept: Activations::default(),
            head_sums: model.spec.placement.after(),
            last_layer: Layer(model.spec.layers.saturating_sub(1)),
        }
    }

    pub fn finish(self) -> Activations {
        self.kept
    }
}

impl Tap for Recorder {
    fn wants(&self, site: Site) -> bool {
        use Site::*;
        match site {
            TokenEmbedding | BlockIn(_) | Z(_) | MlpIn(_) | MlpOut(_) | FinalIn | Logits => true,
            HeadSum(_) => self.head_sums,
            Projection(..) => self.level == Level::Node,
            MlpPost(_) => self.level == Level::Neuron,
            BlockOut(layer) => layer == self.last_layer,
            _ => false,
        }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let Recorder { kept, .. } = self;
        let seen = value.detach();
        match site {
            Site::TokenEmbedding => kept.embedding = seen,
            Site::BlockIn(_) => kept.before_attention.push(seen),
            Site::Z(_) => kept.z.push(seen),
            Site::HeadSum(_) => kept.head_sums.push(seen),
            Site::Projection(..) => kept.projections.push(seen),
            Site::MlpPost(_) => kept.neurons.push(seen),
            Site::MlpIn(_) => kept.before_mlp.push(seen),
            Site::MlpOut(_) => kept.mlp.push(seen),
            Site::BlockOut(_) => kept.out = seen,
            Site::FinalIn => kept.last = seen,
            Site::Logits => kept.logits = seen.squeeze_dim(1),
            _ => {}
        }
        value
    }
}

impl Activations {
    /// One pass without gradients over `tokens` `[batch, pos]`.
    pub fn record(model: &Model, tokens: &Tensor, past: Option<&Past>) -> Activations {
        Activations::record_for(Level::Edge, model, tokens, past)
    }

    /// [`Activations::record`] of what the scores of a level need.
    pub fn record_for(level: Level, model: &Model, tokens: &Tensor, past: Option<&Past>) -> Activations {
        let _no_grad = tch::no_grad_guard();
        let mut recorder = Recorder::new(model, level);
        let _ = model.forward(Start::Tokens(tokens), &Pass::after(past), &mut recorder);
        recorder.finish()
    }

    /// Some rows of the batch: views of what is kept.
    pub fn rows(&self, first: i64, count: i64) -> Activations {
        let rows = |tensor: &Tensor| tensor.narrow(0, first, count);
        let all = |tensors: &[Tensor]| tensors.iter().map(rows).collect();
        Activations {
            embedding: rows(&self.embedding),
            z: all(&self.z),
            head_sums: all(&self.head_sums),
            mlp: all(&self.mlp),
            projections: all(&self.projections),
            neurons: all(&self.neurons),
            before_attention: all(&self.before_attention),
            before_mlp: all(&self.before_mlp),
            out: rows(&self.out),
            last: rows(&self.last),
            logits: rows(&self.logits),
        }
    }

    /// Everything that the sources wrote: `[source, batch · pos · d_model]`, sources in graph order.
    pub fn written(&self, model: &Model, dimensions: Dimensions) -> Tensor {
        let (heads, d_model) = (model.spec.heads as i64, model.spec.d_model as i64);
        let rows = self.embedding.size()[0] * self.embedding.size()[1];
        let sources = dimensions.sources() as i64;
        let all = Tensor::empty([sources, rows, d_model], (self.embedding.kind(), self.embedding.device())); // [source, batch · pos, d_model]
        all.select(0, 0).copy_(&self.embedding.flatten(0, 1));
        for (layer, z) in self.z.iter().enumerate() {
            let first = dimensions.before(Layer(layer)) as i64;
            all.narrow(0, first, heads).copy_(&heads_from_z(model, Layer(layer), z));
            if let Some(mlp) = self.mlp.get(layer) {
                all.select(0, first + heads).copy_(&mlp.flatten(0, 1));
            }
        }
        all.view([sources, rows * d_model])
    }

    /// What the sources wrote in this run minus what they wrote in `other`: `[source, batch · pos · d_model]`.
    pub fn written_minus(&self, other: &Activations, model: &Model, dimensions: Dimensions) -> Tensor {
        // W_O is linear, so differences are taken in z, before the expansion.
        self.minus(other).written(model, dimensions)
    }

    /// What the parts of the model carry in this run minus what they carry in `other`.
    pub fn minus(&self, other: &Activations) -> Activations {
        let difference = |a: &[Tensor], b: &[Tensor]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Activations {
            embedding: &self.embedding - &other.embedding,
            z: difference(&self.z, &other.z),
            mlp: difference(&self.mlp, &other.mlp),
            projections: difference(&self.projections, &other.projections),
            neurons: difference(&self.neurons, &other.neurons),
            ..Activations::default()
        }
    }

    /// How the residual stream changes when one source alone carries what it wrote in `other`:
    /// `[source, batch · pos · d_model]`. The difference of the two, except for heads before a norm.
    pub fn replaced_by(&self, other: &Activations, model: &Model, dimensions: Dimensions) -> Tensor {
        let changes = other.written_minus(self, model, dimensions);
        for_heads(&changes, model, dimensions, |layer, change| {
            let norm = &model.weights.blocks[layer.0].attention_after;
            let sum = self.head_sums[layer.0].flatten(0, 1); // [batch · pos, d_model]
            norm.apply(&(change + &sum)) - norm.apply(&sum)
        });
        changes
    }
}

/// Rewrites, where a norm follows the attention, the rows of every layer's heads in `rows`
/// `[source, batch · pos · d_model]`: `change` maps `[head, batch · pos, d_model]` to the same shape.
pub fn for_heads(rows: &Tensor, model: &Model, dimensions: Dimensions, change: impl Fn(Layer, &Tensor) -> Tensor) {
    if !model.spec.placement.after() {
        return;
    }
    for layer in (0..model.spec.layers).map(Layer) {
        let heads = model.spec.heads as i64;
        let part = rows.narrow(0, dimensions.before(layer) as i64, heads); // [head, batch · pos · d_model]
        let part = part.view([heads, -1, model.spec.d_model as i64]);
        part.shallow_clone().copy_(&change(layer, &part));
    }
}

/// `z · W_O` for each head: `[head, batch · pos, d_model]` from `[batch, pos, head, d_head]`.
pub fn heads_from_z(model: &Model, layer: Layer, z: &Tensor) -> Tensor {
    let weight = model.weights.blocks[layer.0].head_output_weight(&model.spec); // [head, d_head, d_model]
    z.flatten(0, 1).transpose(0, 1).bmm(&weight)
}
