//! What a dictionary is, everything but its numbers: the header of its file.

use serde::{Deserialize, Serialize};
use std::fmt;

pub const SCHEMA: &str = "penjing.dictionary/1";

/// How features come from pre-activations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Architecture {
    #[serde(rename = "relu")]
    Relu,
    #[serde(rename = "topk")]
    TopK,
    /// Trained with k features a token on average, used with a threshold.
    #[serde(rename = "batch-topk")]
    BatchTopK,
    #[serde(rename = "jumprelu")]
    JumpRelu,
    #[serde(rename = "gated")]
    Gated,
    /// BatchTopK whose first features are dictionaries by themselves.
    #[serde(rename = "matryoshka")]
    Matryoshka,
}

impl Architecture {
    pub const ALL: [Architecture; 6] = [
        Architecture::Relu,
        Architecture::TopK,
        Architecture::BatchTopK,
        Architecture::JumpRelu,
        Architecture::Gated,
        Architecture::Matryoshka,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Architecture::Relu => "relu",
            Architecture::TopK => "topk",
            Architecture::BatchTopK => "batch-topk",
            Architecture::JumpRelu => "jumprelu",
            Architecture::Gated => "gated",
            Architecture::Matryoshka => "matryoshka",
        }
    }

    /// Whether it is trained to a number of features a token.
    pub fn has_k(self) -> bool {
        matches!(self, Architecture::TopK | Architecture::BatchTopK | Architecture::Matryoshka)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to the input first.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Normalize {
    None,
    LayerNorm,
    ConstantNormRescale,
    /// One factor, so that the mean length is √width.
    ExpectedAverageOnlyIn {
        factor: f64,
    },
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Normalize::None => f.write_str("none"),
            Normalize::LayerNorm => f.write_str("layer_norm"),
            Normalize::ConstantNormRescale => f.write_str("constant_norm_rescale"),
            Normalize::ExpectedAverageOnlyIn { factor } => write!(f, "expected_average_only_in ({factor:.4})"),
        }
    }
}

/// The header of a dictionary's file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DictionaryV1 {
    pub schema: String,
    pub architecture: Architecture,
    /// Where it reads, as edits write it; nothing where a file of another tool does not say.
    pub site: Option<String>,
    /// The site by another tool's name, if it came from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    pub model: Option<String>,
    /// Tells weights of one architecture apart.
    pub weights: Option<String>,
    pub features: usize,
    pub width: usize,
    /// Of TopK; what BatchTopK was trained with.
    pub k: Option<usize>,
    /// Where the prefixes of a Matryoshka dictionary end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<usize>,
    pub normalize: Normalize,
    pub apply_b_dec_to_input: bool,
    pub training: Option<TrainingV1>,
}

/// How it was trained, and how it ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingV1 {
    pub text: String,
    /// Training tokens, repetitions counted, and tokens of the text that were used.
    pub tokens: usize,
    pub text_tokens: usize,
    /// Positions left out because they are more than ten times as long as the median.
    pub outliers: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// What the sparsity of ReLU, gated and JumpReLU dictionaries weighs.
    pub sparsity: Option<f64>,
    pub seed: u64,
    /// On activations that did not train it.
    pub fvu: f64,
    pub l0: f64,
    /// The share of features that were active on none of the last `dead_after` training tokens.
    pub dead: f64,
    pub dead_after: usize,
}
