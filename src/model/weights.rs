//! The weights of a model, in one layout for all families.
//!
//! Matrices stay in the type and, where possible, in the memory of their file; what is computed with them is f32 (f64 if
//! they are kept in f64, to tell rounding from mistakes). A half precision matrix is widened at each use, which costs a fraction of the product and keeps 2 bytes a number in memory.

use super::safetensors::TensorFiles;
use super::spec::{Branch, NormKind, Spec};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// A model that can run. Weights never require gradients.
pub struct Model {
    pub spec: Spec,
    pub device: Device,
    pub(crate) weights: Weights,
    pub(super) folder: Option<PathBuf>,
    /// Owns the mapping that weights borrow; declared last, so that it is dropped after them.
    pub(super) _files: Option<TensorFiles>,
}

pub(crate) struct Weights {
    pub token_embedding: Tensor,            // [vocab, d_model]
    pub position_embedding: Option<Tensor>, // [context, d_model], f32
    pub blocks: Vec<Block>,
    pub final_norm: Norm,
    pub unembedding: Linear, // [d_model, vocab_out]
}

pub(crate) struct Block {
    pub attention_norm: Norm,
    pub projections: [Linear; 3], // q, k, v: [d_model, head or kv_head · d_head]
    /// Norms of queries and keys.
    pub query_key_norm: Option<[Norm; 2]>,
    pub attention_out: Linear, // [head · d_head, d_model]
    pub attention_after: Norm,
    pub mlp: Option<Mlp>,
}

pub(crate) struct Mlp {
    pub norm: Norm,
    pub gate: Option<Linear>, // [d_model, d_mlp]
    pub input: Linear,        // [d_model, d_mlp]
    pub output: Linear,       // [d_mlp, d_model]
    pub after: Norm,
}

/// `x · weight + bias`.
pub(crate) struct Linear {
    pub weight: Tensor,       // [in, out]
    pub bias: Option<Tensor>, // [out], f32
}

/// A norm over the last axis.
pub(crate) struct Norm {
    pub kind: NormKind,
    pub gain: Option<Tensor>, // [width], f32
    pub bias: Option<Tensor>, // [width], f32
    pub epsilon: f64,
}

/// The tensor in the type that is computed in: f64 if it is kept in f64, else f32.
pub(crate) fn wide(tensor: &Tensor) -> Tensor {
    tensor.to_kind(computed_in(tensor.kind()))
}

fn computed_in(kept: Kind) -> Kind {
    if kept == Kind::Double { Kind::Double } else { Kind::Float }
}

impl Model {
    /// The type of activations: f32, or f64 where weights are kept in it.
    pub fn kind(&self) -> Kind {
        computed_in(self.weights.token_embedding.kind())
    }

    /// The type that matrices are kept in.
    pub fn kept_in(&self) -> Kind {
        self.weights.token_embedding.kind()
    }

    /// Every matrix as it is kept; shared ones once.
    fn matrices(&self) -> Vec<&Tensor> {
        let Weights { token_embedding, position_embedding, blocks, unembedding, .. } = &self.weights;
        let tied = unembedding.weight.data_ptr() == token_embedding.data_ptr();
        let of_blocks = blocks.iter().flat_map(|block| {
            let mlp = block.mlp.iter().flat_map(|mlp| mlp.gate.iter().chain([&mlp.input, &mlp.output]));
            block.projections.iter().chain([&block.attention_out]).chain(mlp).map(|linear| &linear.weight)
        });
        let ends = std::iter::once(token_embedding).chain(position_embedding);
        ends.chain(of_blocks).chain((!tied).then_some(&unembedding.weight)).collect()
    }

    /// Bytes of all matrices.
    pub fn weight_bytes(&self) -> usize {
        self.matrices().into_iter().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum()
    }

    /// Tells weights of one architecture apart: a hash (blake3) of some rows of every matrix, as they are kept.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for tensor in self.matrices() {
            hasher.update(format!("{:?}{:?}", tensor.size(), tensor.kind()).as_bytes());
            let rows = tensor.size()[0];
            let step = (rows / 16).max(1);
            let sample = tensor.slice(0, 0, rows, step).to_device(Device::Cpu).to_kind(Kind::Float); // [row, out]
            let mut numbers = vec![0f32; sample.numel()];
            sample.contiguous().copy_data(&mut numbers, sample.numel());
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The names of some tensors of its files that hold something else than finite numbers. Reads every weight.
    pub fn not_finite(&self) -> Vec<String> {
        let files = self.folder.as_ref().and_then(|folder| TensorFiles::open(folder).ok());
        files.and_then(|files| files.not_finite(3).ok()).unwrap_or_default()
    }
}

impl Linear {
    pub fn apply(&self, x: &Tensor) -> Tensor {
        x.linear(&wide(&self.weight).tr(), self.bias.as_ref()) // [.., out]
    }
}

impl Norm {
    pub fn none() -> Norm {
        Norm { kind: NormKind::None, gain: None, bias: None, epsilon: 0.0 }
    }

    pub fn apply(&self, x: &Tensor) -> Tensor {
        match self.kind {
            NormKind::None => x.shallow_clone(),
            NormKind::LayerNorm => {
                let width = x.size().last().copied().unwrap_or(1);
                x.layer_norm([width], self.gain.as_ref(), self.bias.as_ref(), self.epsilon, false)
            }
            NormKind::Rms => self.with_gain(x * self.inverse_size(x)),
        } // [.., width]
    }

    fn with_gain(&self, unit: Tensor) -> Tensor {
        match &self.gain {
            Some(gain) => unit * gain,
            None => unit,
        }
    }

    /// One over the standard deviation of centred `x`, or over its root mean square: `[.., 1]`.
    fn inverse_size(&self, x: &Tensor) -> Tensor {
        (x.square().mean_dim(-1, true, None::<Kind>) + self.epsilon).rsqrt()
    }

    /// The vector-Jacobian product at `x` `[rows, width]`: gradients at the norm's output `[.., rows, width]` to those at
    /// its input.
    ///
    /// s·(r − x̂ · mean(r x̂)) with r = gain ∘ g, for LayerNorm with r and x centred first.
    pub fn pull_back(&self, x: &Tensor, gradient: Tensor) -> Tensor {
        if self.kind == NormKind::None {
            return gradient;
        }
        let mut raw = self.with_gain(gradient); // [.., rows, width]
        let mut x = x.shallow_clone(); // [rows, width]
        if self.kind == NormKind::LayerNorm {
            x = &x - x.mean_dim(-1, true, None::<Kind>);
            raw = &raw - raw.mean_dim(-1, true, None::<Kind>);
        }
        let scale = self.inverse_size(&x); // [rows, 1]
        let unit = x * &scale; // [rows, width]
        let along = (&raw * &unit).mean_dim(-1, true, None::<Kind>); // [.., rows, 1]
        (raw - unit * along) * scale
    }

    /// What parts `[.., rows, width]` of the input `x` `[rows, width]` become when the norm's scale is taken from `x`: for
    /// root mean square norms they add up to the output.
    pub fn part_of(&self, x: &Tensor, part: &Tensor) -> Tensor {
        match self.kind {
            NormKind::None => part.shallow_clone(),
            NormKind::Rms => self.with_gain(part * self.inverse_size(x)),
            NormKind::LayerNorm => {
                let centred = |x: &Tensor| x - x.mean_dim(-1, true, None::<Kind>);
                self.with_gain(centred(part) * self.inverse_size(&centred(x)))
            }
        }
    }

    /// The Jacobian at `x` `[rows, width]` times small changes of the input `[.., rows, width]`: the changes of the output
    /// to first order.
    pub fn push_forward(&self, x: &Tensor, change: &Tensor) -> Tensor {
        // The Jacobian without its gain is symmetric, so it is that of the pull-back.
        let without_gain = Norm { kind: self.kind, gain: None, bias: None, epsilon: self.epsilon };
        self.with_gain(without_gain.pull_back(x, change.shallow_clone()))
    }
}

impl Block {
    /// The projection of one branch, one matrix a head: `[head or kv_head, d_model, d_head]`, f32.
    pub fn branch_weight(&self, branch: Branch, spec: &Spec) -> Tensor {
        let shape = [spec.d_model, spec.branch_heads(branch), spec.d_head].map(|size| size as i64);
        wide(&self.projections[branch.index()].weight).reshape(shape).permute([1, 0, 2])
    }

    /// What each head writes with: `[head, d_head, d_model]`, f32.
    pub fn head_output_weight(&self, spec: &Spec) -> Tensor {
        let shape = [spec.heads, spec.d_head, spec.d_model].map(|size| size as i64);
        wide(&self.attention_out.weight).reshape(shape)
    }
}
