//! What a model is, as plain data: sizes and the choices that change its mathematics.

use std::fmt;

/// A transformer block, counted from 0. "Layer `l`" as a value means the output of block `l`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layer(pub usize);

/// An attention head within its layer, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Head(pub usize);

/// One of the three inputs of an attention head.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Branch {
    Query,
    Key,
    Value,
}

impl Branch {
    pub const ALL: [Branch; 3] = [Branch::Query, Branch::Key, Branch::Value];

    /// 0, 1, 2 for query, key, value.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The letter used in edge names: `q`, `k` or `v`.
    pub fn letter(self) -> char {
        ['q', 'k', 'v'][self.index()]
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// The non-linearity of an MLP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// GELU by the tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// GELU by the error function (`gelu`).
    Gelu,
    Relu,
    /// x · sigmoid(x), also called swish.
    Silu,
}

/// How the residual stream is normalised before it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NormKind {
    /// Centred and divided by the standard deviation.
    LayerNorm,
    /// Divided by the root mean square.
    Rms,
    /// Not at all.
    None,
}

/// Where the norms of a block stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NormPlacement {
    /// Attention and MLP read normed input (nearly all families).
    Before,
    /// They read normed input, and what they add is normed again (Gemma 2 and 3).
    BeforeAndAfter,
    /// They read the residual stream as it is, and what they add is normed (OLMo 2).
    After,
}

impl NormPlacement {
    /// Whether what a block adds is normed, so that heads of a layer do not add up independently of each other.
    pub fn after(self) -> bool {
        self != NormPlacement::Before
    }
}

/// What tells the model where a token stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Positions {
    /// A learned vector is added to the token embedding.
    Learned,
    /// A learned vector is added to what queries and keys read, in every layer (Press et al., arXiv:2012.15832).
    Shortformer,
    /// Queries and keys are rotated (see [`AttentionSpec::rotaries`]), or nothing does.
    InAttention,
}

/// Norms of queries and keys, after projection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QueryKeyNorm {
    None,
    /// Each head by itself (Qwen 3, Gemma 3).
    PerHead,
    /// All heads as one vector (OLMo 2).
    Whole,
}

/// A rotary position embedding (Su et al., arXiv:2104.09864).
#[derive(Clone, PartialEq, Debug)]
pub struct Rotary {
    /// Radians a position, one for each pair of dimensions; dimensions beyond the pairs are not rotated.
    pub frequencies: Vec<f32>,
    /// Multiplies cosine and sine (longrope).
    pub magnitude: f64,
    pub pairing: Pairing,
}

/// Which dimensions of a head turn together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pairing {
    /// i and i + n/2 (Llama, NeoX).
    Halves,
    /// 2i and 2i + 1 (GPT-J).
    Neighbours,
}

/// The choices of the attention.
#[derive(Clone, PartialEq, Debug)]
pub struct AttentionSpec {
    /// Multiplies the products of queries and keys.
    pub scale: f64,
    /// Scores become cap · tanh(score / cap) (Gemma 2).
    pub soft_cap: Option<f64>,
    pub query_key_norm: QueryKeyNorm,
    /// Whether a position sees only itself and those before it.
    pub causal: bool,
    /// The rotations in use; [`AttentionLayer::rotary`] points into it.
    pub rotaries: Vec<Rotary>,
    /// What differs between layers, one entry a layer.
    pub layers: Vec<AttentionLayer>,
}

/// What differs between the attentions of a model's layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AttentionLayer {
    /// How many positions a query sees, its own included; all if none.
    pub window: Option<usize>,
    /// Index into [`AttentionSpec::rotaries`].
    pub rotary: Option<usize>,
}

/// The choices of the MLPs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MlpSpec {
    pub activation: Activation,
    /// Whether the activated gate multiplies a second projection (Shazeer, arXiv:2002.05202).
    pub gated: bool,
}

/// Everything about a model that is not a weight.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// Hugging Face's `model_type`, for example `gpt2`; `transformer_lens` for folders in that layout.
    pub family: String,
    pub layers: usize,
    pub heads: usize,
    /// Heads of keys and values: fewer than `heads` where several query heads share one.
    pub kv_heads: usize,
    pub d_model: usize,
    pub d_head: usize,
    /// Neurons of an MLP; 0 without MLPs.
    pub d_mlp: usize,
    /// Rows of the token embedding.
    pub vocab: usize,
    /// Logits of a position: `vocab`, except in research models whose answers have a vocabulary of their own.
    pub vocab_out: usize,
    /// The longest prompt in tokens.
    pub context: usize,
    /// Multiplies the token embedding (Gemma).
    pub embedding_scale: f64,
    pub positions: Positions,
    pub norm: NormKind,
    /// The ε added to the variance or mean square in every norm.
    pub norm_epsilon: f64,
    pub placement: NormPlacement,
    /// Attention and MLP of a layer read the same residual stream.
    pub parallel: bool,
    pub attention: AttentionSpec,
    /// None in attention-only models.
    pub mlp: Option<MlpSpec>,
    /// Logits become cap · tanh(logit / cap) (Gemma 2).
    pub logit_cap: Option<f64>,
}

impl Spec {
    /// How many query heads share a head of keys and values.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// The heads that a branch has by itself: `heads` queries, `kv_heads` keys and values.
    pub fn branch_heads(&self, branch: Branch) -> usize {
        match branch {
            Branch::Query => self.heads,
            Branch::Key | Branch::Value => self.kv_heads,
        }
    }

    /// GPT-2's architecture: learned positions, LayerNorm before attention and MLP, GELU, MLPs four times as wide.
    pub fn gpt2(layers: usize, heads: usize, d_model: usize, vocab: usize, context: usize) -> Spec {
        let d_head = d_model / heads;
        Spec {
            family: "gpt2".into(),
            layers,
            heads,
            kv_heads: heads,
            d_model,
            d_head,
            d_mlp: 4 * d_model,
            vocab,
            vocab_out: vocab,
            context,
            embedding_scale: 1.0,
            positions: Positions::Learned,
            norm: NormKind::LayerNorm,
            norm_epsilon: 1e-5,
            placement: NormPlacement::Before,
            parallel: false,
            attention: AttentionSpec {
                scale: (d_head as f64).powf(-0.5),
                soft_cap: None,
                query_key_norm: QueryKeyNorm::None,
                causal: true,
                rotaries: Vec::new(),
                layers: vec![AttentionLayer::default(); layers],
            },
            mlp: Some(MlpSpec { activation: Activation::GeluTanh, gated: false }),
            logit_cap: None,
        }
    }
}
