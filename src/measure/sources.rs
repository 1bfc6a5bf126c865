//! What every source node writes into the residual stream during a pass.
//!
//! Heads are kept as `z` (d_head a head) and expanded by W_O one layer at a time, so that a pass stores 1/H of what
//! copies of the residual stream would take.

use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Read, Start};
use tch::{Kind, Tensor};

/// Keeps, without gradients, what the sources wrote and what the destinations read.
pub struct Activations {
    pub embedding: Tensor, // [batch, pos, d_model]
    pub z: Vec<Tensor>,    // a layer: [batch, pos, head, d_head]
    pub mlp: Vec<Tensor>,  // a layer: [batch, pos, d_model]
    /// The residual stream before each attention, `[batch, pos, d_model]` a layer.
    pub before_attention: Vec<Tensor>,
    /// The residual stream before each MLP, `[batch, pos, d_model]` a layer.
    pub before_mlp: Vec<Tensor>,
    /// The residual stream at the last position before the final norm: `[batch, 1, d_model]`.
    pub last: Tensor,
    pub logits: Tensor, // [batch, vocab], last position
}

#[derive(Default)]
struct Keep {
    embedding: Tensor,
    z: Vec<Tensor>,
    mlp: Vec<Tensor>,
    before_attention: Vec<Tensor>,
    before_mlp: Vec<Tensor>,
    last: Tensor,
}

impl Tap for Keep {
    fn wants(&self, site: Site) -> bool {
        use Site::*;
        matches!(site, TokenEmbedding | BlockIn(_) | Z(_) | MlpIn(_) | MlpOut(_) | FinalIn)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let kept = value.detach();
        match site {
            Site::TokenEmbedding => self.embedding = kept,
            Site::BlockIn(_) => self.before_attention.push(kept),
            Site::Z(_) => self.z.push(kept),
            Site::MlpIn(_) => self.before_mlp.push(kept),
            Site::MlpOut(_) => self.mlp.push(kept),
            Site::FinalIn => self.last = kept,
            _ => {}
        }
        value
    }
}

impl Activations {
    /// One pass without gradients over `tokens` `[batch, pos]`.
    pub fn record(model: &Model, tokens: &Tensor, past: Option<&Past>) -> Activations {
        let _no_grad = tch::no_grad_guard();
        let mut keep = Keep::default();
        let logits = model.forward(Start::Tokens(tokens), &Pass { past, read: Read::Last }, &mut keep);
        let Keep { embedding, z, mlp, before_attention, before_mlp, last } = keep;
        Activations { embedding, z, mlp, before_attention, before_mlp, last, logits: logits.squeeze_dim(1) }
    }

    /// What the heads of a layer wrote: `[head, batch · pos, d_model]`.
    pub fn heads(&self, model: &Model, layer: Layer) -> Tensor {
        heads_from_z(model, layer, &self.z[layer.0])
    }

    /// Everything that the sources wrote: `[source, batch · pos · d_model]`, sources in graph order.
    pub fn written(&self, model: &Model) -> Tensor {
        let (heads, d_model) = (model.spec.heads as i64, model.spec.d_model as i64);
        let rows = self.embedding.size()[0] * self.embedding.size()[1];
        let sources = 1 + self.z.len() as i64 * (heads + 1);
        let all = Tensor::empty([sources, rows, d_model], (Kind::Float, self.embedding.device())); // [source, batch · pos, d_model]
        all.select(0, 0).copy_(&self.embedding.flatten(0, 1));
        for (index, mlp) in self.mlp.iter().enumerate() {
            let first = 1 + index as i64 * (heads + 1);
            all.narrow(0, first, heads).copy_(&self.heads(model, Layer(index)));
            all.select(0, first + heads).copy_(&mlp.flatten(0, 1));
        }
        all.view([sources, rows * d_model])
    }

    /// What the sources wrote in this run minus what they wrote in `other`: `[source, batch · pos · d_model]`.
    pub fn written_minus(&self, other: &Activations, model: &Model) -> Tensor {
        let difference = |a: &[Tensor], b: &[Tensor]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        // W_O is linear, so differences are taken in z, before the expansion.
        let apart = Activations {
            embedding: &self.embedding - &other.embedding,
            z: difference(&self.z, &other.z),
            mlp: difference(&self.mlp, &other.mlp),
            before_attention: Vec::new(),
            before_mlp: Vec::new(),
            last: Tensor::new(),
            logits: Tensor::new(),
        };
        apart.written(model)
    }
}

/// `z · W_O` for each head: `[head, batch · pos, d_model]` from `[batch, pos, head, d_head]`.
pub fn heads_from_z(model: &Model, layer: Layer, z: &Tensor) -> Tensor {
    let weight = model.weights.blocks[layer.0].head_output_weight(&model.spec); // [head, d_head, d_model]
    z.flatten(0, 1).transpose(0, 1).bmm(&weight)
}
