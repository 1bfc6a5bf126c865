//! The places of a forward pass that can be read and written, each announced once, in `forward.rs`.

use super::spec::{Branch, Layer, Spec};

/// A named tensor of the forward pass. Shapes are those of [`Site::shape`]; with shared-prefix passes `pos` counts only
/// the positions that the pass computes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Site {
    /// The token embedding, before positions are added (node `input`): `[batch, pos, d_model]`.
    TokenEmbedding,
    /// The residual stream that enters a block: `[batch, pos, d_model]`.
    BlockIn(Layer),
    /// The residual stream as one branch of the attention sees it, before the norm:
    /// `[batch, pos, 1, d_model]`. A tap may return `[batch, pos, head, d_model]` to give every head an input of its own, or
    /// `[batch, pos, kv_head, d_model]` to give one to every head of keys or values.
    AttentionIn(Layer, Branch),
    /// Queries, keys or values after projection: `[batch, pos, head, d_head]`, keys and values in the model's own number
    /// of heads (`kv_heads`).
    Projection(Layer, Branch),
    /// The same, keys and values repeated so that every query head has its own: `[batch, pos, head, d_head]`. Announced
    /// only to a tap that wants it.
    PerQueryHead(Layer, Branch),
    /// Attention probabilities: `[batch, head, query, key]`. Announced only to a tap that wants it.
    Pattern(Layer),
    /// The pattern-weighted values: `[batch, pos, head, d_head]`.
    Z(Layer),
    /// What each head adds to the residual stream, without the shared output bias:
    /// `[batch, pos, head, d_model]`. Announced only to a tap that wants it.
    HeadOut(Layer),
    /// The sum of the heads and the output bias, before a norm that may follow: `[batch, pos, d_model]`.
    HeadSum(Layer),
    /// What the whole attention adds: `[batch, pos, d_model]`.
    AttentionOut(Layer),
    /// The residual stream between attention and MLP: `[batch, pos, d_model]`.
    Mid(Layer),
    /// The residual stream as the MLP alone sees it, before the norm (in parallel blocks that of [`Site::BlockIn`]):
    /// `[batch, pos, d_model]`.
    MlpIn(Layer),
    /// Neurons before the non-linearity, in gated MLPs the gate: `[batch, pos, d_mlp]`.
    MlpPre(Layer),
    /// Neurons after the non-linearity and, in gated MLPs, after multiplication with the gate: `[batch, pos, d_mlp]`.
    MlpPost(Layer),
    /// What the MLP adds, bias and a norm that may follow included: `[batch, pos, d_model]`.
    MlpOut(Layer),
    /// The output of a block: `[batch, pos, d_model]`.
    BlockOut(Layer),
    /// The residual stream as the final norm and the unembedding see it: `[batch, read positions, d_model]`.
    FinalIn,
    /// `[batch, read positions, vocab_out]`.
    Logits,
}

impl Site {
    /// The layer it belongs to; none for the two ends of the model.
    pub fn layer(self) -> Option<Layer> {
        use Site::*;
        match self {
            TokenEmbedding | FinalIn | Logits => None,
            BlockIn(layer)
            | AttentionIn(layer, _)
            | Projection(layer, _)
            | PerQueryHead(layer, _)
            | Pattern(layer)
            | Z(layer)
            | HeadOut(layer)
            | HeadSum(layer)
            | AttentionOut(layer)
            | Mid(layer)
            | MlpIn(layer)
            | MlpPre(layer)
            | MlpPost(layer)
            | MlpOut(layer)
            | BlockOut(layer) => Some(layer),
        }
    }

    /// The sizes of the axes that follow `[batch, pos]` (for [`Site::Pattern`]: `head`, then the two positions are left out).
    pub fn shape(self, spec: &Spec) -> Vec<usize> {
        match self {
            Site::AttentionIn(..) => vec![1, spec.d_model],
            Site::Projection(_, branch) => vec![spec.branch_heads(branch), spec.d_head],
            Site::PerQueryHead(..) | Site::Z(_) => vec![spec.heads, spec.d_head],
            Site::Pattern(_) => vec![spec.heads],
            Site::HeadOut(_) => vec![spec.heads, spec.d_model],
            Site::MlpPre(_) | Site::MlpPost(_) => vec![spec.d_mlp],
            Site::Logits => vec![spec.vocab_out],
            _ => vec![spec.d_model],
        }
    }
}
