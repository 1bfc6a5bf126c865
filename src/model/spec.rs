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
}

/// Everything about a model that is not a weight.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// Hugging Face's `model_type`, for example `gpt2`.
    pub family: String,
    pub layers: usize,
    pub heads: usize,
    pub d_model: usize,
    pub d_head: usize,
    pub d_mlp: usize,
    pub vocab: usize,
    /// The longest prompt in tokens.
    pub context: usize,
    pub activation: Activation,
    /// The ε added to the variance in every LayerNorm.
    pub norm_epsilon: f64,
}
