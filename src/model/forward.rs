//! The transformer. Every [`Site`] is announced here (those of the attention in `attention.rs`) and nowhere else.

use super::attention::attention;
use super::site::Site;
use super::spec::{Activation, Branch, Layer, Spec};
use super::tap::Tap;
use super::weights::{Block, Model};
use tch::Tensor;

/// Where a pass begins.
pub enum Start<'a> {
    /// At the token ids `[batch, pos]` (i64).
    Tokens(&'a Tensor),
    /// At the residual stream `[batch, pos, d_model]` that enters a layer: for passes that share all that lies below.
    Residual { layer: Layer, value: Tensor },
}

/// Which positions get logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    Last,
    All,
}

/// How a pass runs.
pub struct Pass<'a> {
    /// Keys and values of the positions before this pass's first one.
    pub past: Option<&'a Past>,
    pub read: Read,
}

impl Pass<'_> {
    /// A whole prompt, logits at its last position.
    pub const LAST: Pass<'static> = Pass { past: None, read: Read::Last };
    /// A whole prompt, logits everywhere.
    pub const ALL: Pass<'static> = Pass { past: None, read: Read::All };
}

/// Keys and values of a prefix, one `[batch, prefix, head, d_head]` a layer.
pub struct Past {
    pub keys: Vec<Tensor>,
    pub values: Vec<Tensor>,
}

impl Past {
    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.keys.first().map_or(0, |key| key.size()[1] as usize)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows a site to the tap, if it wants it.
pub(super) fn see(tap: &mut impl Tap, site: Site, value: Tensor) -> Tensor {
    if tap.wants(site) { tap.at(site, value) } else { value }
}

impl Model {
    /// Runs the model: logits `[batch, read positions, vocab]`.
    ///
    /// The caller keeps token ids below `spec.vocab` and the prompt (with its past) within `spec.context`.
    pub fn forward(&self, start: Start, pass: &Pass, tap: &mut impl Tap) -> Tensor {
        let residual = self.blocks(start, pass.past, tap); // [batch, pos, d_model]
        let last = residual.size()[1] - 1;
        let read = match pass.read {
            Read::Last => residual.narrow(1, last, 1), // [batch, 1, d_model]
            Read::All => residual.alias(),
        };
        let read = see(tap, Site::FinalIn, read);
        let normed = self.weights.final_norm.apply(&read); // [batch, read, d_model]
        see(tap, Site::Logits, normed.matmul(&self.weights.unembedding.tr()))
    }

    /// Runs the blocks alone: the residual stream `[batch, pos, d_model]` after the last.
    pub fn blocks(&self, start: Start, past: Option<&Past>, tap: &mut impl Tap) -> Tensor {
        let (first, mut residual) = match start {
            Start::Tokens(tokens) => (0, self.embed(tokens, past, tap)),
            Start::Residual { layer, value } => (layer.0, value),
        };
        for (index, block) in self.weights.blocks.iter().enumerate().skip(first) {
            residual = block_forward(block, &self.spec, Layer(index), residual, past, tap);
        }
        residual
    }

    fn embed(&self, tokens: &Tensor, past: Option<&Past>, tap: &mut impl Tap) -> Tensor {
        let tokens_embedded = Tensor::embedding(&self.weights.token_embedding, tokens, -1, false, false); // [batch, pos, d_model]
        let tokens_embedded = see(tap, Site::TokenEmbedding, tokens_embedded);
        let offset = past.map_or(0, Past::len) as i64;
        tokens_embedded + self.weights.position_embedding.narrow(0, offset, tokens.size()[1]) // [batch, pos, d_model]
    }
}

fn block_forward(
    block: &Block,
    spec: &Spec,
    layer: Layer,
    residual: Tensor,
    past: Option<&Past>,
    tap: &mut impl Tap,
) -> Tensor {
    let residual = see(tap, Site::BlockIn(layer), residual); // [batch, pos, d_model]
    let added = attention(block, spec, layer, &residual, past, tap); // [batch, pos, d_model]
    let residual = see(tap, Site::Mid(layer), residual + added);
    // An alias is a node of its own: its gradient is that of the MLP branch alone.
    let input = see(tap, Site::MlpIn(layer), residual.alias());
    let before = see(tap, Site::MlpPre(layer), block.mlp_in.apply(&block.mlp_norm.apply(&input))); // [batch, pos, d_mlp]
    let after = see(tap, Site::MlpPost(layer), activate(spec.activation, &before)); // [batch, pos, d_mlp]
    let added = see(tap, Site::MlpOut(layer), block.mlp_out.apply(&after)); // [batch, pos, d_model]
    see(tap, Site::BlockOut(layer), residual + added)
}

fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::GeluTanh => x.gelu("tanh"),
        Activation::Gelu => x.gelu("none"),
        Activation::Relu => x.relu(),
    }
}

/// Records the keys and values of a pass, to become the [`Past`] of later ones.
pub struct KeepPast {
    past: Past,
}

impl Default for KeepPast {
    fn default() -> Self {
        KeepPast { past: Past { keys: Vec::new(), values: Vec::new() } }
    }
}

impl KeepPast {
    pub fn finish(self) -> Past {
        self.past
    }
}

impl Tap for KeepPast {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Projection(_, Branch::Key | Branch::Value))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::Projection(_, Branch::Key) => self.past.keys.push(value.shallow_clone()),
            Site::Projection(_, Branch::Value) => self.past.values.push(value.shallow_clone()),
            _ => {}
        }
        value
    }
}
