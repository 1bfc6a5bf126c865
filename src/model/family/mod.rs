//! Families: from a folder's `config.json` to a [`Spec`], and where its checkpoint keeps each tensor.
//!
//! A family is data. Its file reads the sizes and choices and fills in a [`Layout`]; the forward pass knows no family.

mod fields;
mod gemma;
mod gpt;
mod llama;
mod opt;
mod rope;
mod transformer_lens;

use super::load::ModelError;
use super::spec::Spec;
use crate::error::nearest;
use fields::Fields;
pub(super) use gpt::GPT2;
use serde_json::Value;
use std::path::Path;

type Read = fn(&Fields) -> Result<(Spec, Layout), ModelError>;

/// The families whose forward pass penjing has, by Hugging Face's `model_type`.
const TABLE: [(&str, Read); 14] = [
    ("gpt2", gpt::gpt2),
    ("gpt_neo", gpt::gpt_neo),
    ("gpt_neox", gpt::gpt_neox),
    ("gptj", gpt::gptj),
    ("opt", opt::opt),
    ("llama", llama::llama),
    ("mistral", llama::mistral),
    ("qwen2", llama::qwen2),
    ("qwen3", llama::qwen3),
    ("phi3", llama::phi3),
    ("olmo2", llama::olmo2),
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma::gemma3),
];

/// The names of all families.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Where a checkpoint keeps its tensors. Names of a block follow [`Layout::block`], in which `{}` stands for the layer.
#[derive(Clone)]
pub(super) struct Layout {
    /// What may stand before all names but that of the unembedding; the first under which the token embedding is found.
    pub prefixes: &'static [&'static str],
    pub token_embedding: &'static str,
    pub position_embedding: Option<&'static str>,
    /// Rows of the position embedding before that of position 0.
    pub positions_skipped: usize,
    pub block: &'static str,
    pub matrices: Matrices,
    pub attention_norm: Option<&'static str>,
    pub projections: Projections,
    pub query_key_norm: Option<[&'static str; 2]>,
    pub attention_out: &'static str,
    pub attention_after: Option<&'static str>,
    pub mlp_norm: Option<&'static str>,
    pub mlp: Option<MlpNames>,
    pub mlp_after: Option<&'static str>,
    pub final_norm: Option<&'static str>,
    pub unembedding: &'static str,
    /// The unembedding is the token embedding.
    pub tied: bool,
    /// Whether norms have a gain and, LayerNorms, a bias.
    pub norm_gains: bool,
    /// Added to every norm's gain (Gemma stores gain − 1).
    pub gain_offset: f64,
    pub biases: Biases,
    /// Endings of tensors that are not weights: masks and tables that old checkpoints carry.
    pub buffers: &'static [&'static str],
}

/// How a matrix from `in` to `out` numbers is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Matrices {
    /// `name.weight` `[out, in]`.
    OutIn,
    /// `name.weight` `[in, out]` (GPT-2's Conv1D).
    InOut,
    /// TransformerLens: `name` itself `[in, out]`, attention `[head, in, out]`.
    Heads,
}

/// Queries, keys and values.
#[derive(Clone, Copy)]
pub(super) enum Projections {
    Separate([&'static str; 3]),
    /// One matrix, the three one after another.
    Fused(&'static str),
    /// One matrix, the three of each head one after another (NeoX).
    FusedByHead(&'static str),
}

#[derive(Clone, Copy)]
pub(super) enum MlpNames {
    Plain {
        input: &'static str,
        output: &'static str,
    },
    Gated {
        gate: &'static str,
        input: &'static str,
        output: &'static str,
    },
    /// Gate and input in one matrix, one after another (Phi-3).
    FusedGated {
        both: &'static str,
        output: &'static str,
    },
}

/// Which matrices have a bias.
#[derive(Clone, Copy, Default)]
pub(super) struct Biases {
    pub projections: bool,
    pub attention_out: bool,
    pub mlp: bool,
    pub unembedding: bool,
}

/// Reads the sizes and choices of a model.
///
/// # Errors
/// Unknown families, missing or senseless sizes, and options that would change the mathematics but are not supported.
pub(super) fn read(json: &[u8], path: &Path) -> Result<(Spec, Layout), ModelError> {
    let config: Value =
        serde_json::from_slice(json).map_err(|source| ModelError::Json { path: path.to_owned(), source })?;
    let fields = Fields { config: &config, path };
    if config.get("model_type").is_none() && config.get("n_layers").is_some() {
        return transformer_lens::transformer_lens(&fields);
    }
    let family = fields.text("model_type")?;
    let Some((_, read)) = TABLE.iter().find(|(name, _)| *name == family) else {
        // Not by spelling alone: a name that begins as a supported one does is its relative.
        let stem = |name: &str| name.chars().take_while(|c| c.is_ascii_alphabetic()).collect::<String>();
        let near =
            nearest(family, names()).or_else(|| names().find(|name| stem(name) == stem(family))).unwrap_or("llama");
        return Err(ModelError::Family { family: family.to_owned(), near });
    };
    read(&fields)
}

/// The sizes and choices that a `config.json` describes; `path` is for messages.
///
/// # Errors
/// An unknown family, a missing or senseless size, or an option that would change the mathematics but is not supported.
pub fn spec(json: &[u8], path: &Path) -> Result<Spec, ModelError> {
    read(json, path).map(|(spec, _)| spec)
}
