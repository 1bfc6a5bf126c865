//! The weights of a model, in one layout for all families.
//!
//! Matrices stay in the type and, where possible, in the memory of their file; what is computed with them is f32 (f64 if
//! they are kept in f64, to tell rounding from mistakes). A half precision matrix is widened at each use, which costs a fraction of the product and keeps 2 bytes a number in memory.

use super::rules::Rules;
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
    /// A model whose weights do not come from files; their shapes must be those of `spec`.
    pub(crate) fn of_weights(spec: Spec, weights: Weights, device: Device) -> Model {
        Model { spec, device, weights, folder: None, _files: None }
    }

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
        hash(self.matrices())
    }

    /// The same of the unembedding and the final norm's gain: of what decodes the residual stream.
    pub fn unembedding_fingerprint(&self) -> String {
        let Weights { final_norm, unembedding, .. } = &self.weights;
        let gain = final_norm.gain.as_ref().map(|gain| gain.unsqueeze(0)); // [1, d_model]
        hash(std::iter::once(&unembedding.weight).chain(&gain).collect())
    }

    /// The names of some tensors of its files that hold something else than finite numbers. Reads every weight.
    pub fn not_finite(&self) -> Vec<String> {
        let files = self.folder.as_ref().and_then(|folder| TensorFiles::open(folder).ok());
        files.and_then(|files| files.not_finite(3).ok()).unwrap_or_default()
    }
}

fn hash(tensors: Vec<&Tensor>) -> String {
    let mut hasher = blake3::Hasher::new();
    for tensor in tensors {
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

    /// The same value; what the gradient takes for constant is up to the rules.
    pub fn apply_under(&self, rules: Rules, x: &Tensor) -> Tensor {
        if !rules.norms || self.kind == NormKind::None {
            return self.apply(x);
        }
        let x = self.centred(x);
        let scaled = self.with_gain(&x * self.inverse_size(&x).detach()); // [.., width]
        match &self.bias {
            Some(bias) => scaled + bias,
            None => scaled,
        }
    }

    /// What `part` of `x` becomes when the norm has the scale that it has at `x`: parts of the output, of parts of the input
    /// that add up. The bias is nobody's.
    pub fn part(&self, x: &Tensor, part: &Tensor) -> Tensor {
        if self.kind == NormKind::None {
            return part.shallow_clone();
        }
        self.with_gain(self.centred(part) * self.inverse_size(&self.centred(x)))
    }

    /// `x` less its mean, in a LayerNorm.
    fn centred(&self, x: &Tensor) -> Tensor {
        if self.kind == NormKind::LayerNorm { x - x.mean_dim(-1, true, None::<Kind>) } else { x.shallow_clone() }
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

    /// The norm without gain and bias at `x` `[rows, width]`, x̂ `[rows, width]`, and its scale `[rows, 1]`.
    pub fn unit(&self, x: &Tensor) -> (Tensor, Tensor) {
        if self.kind == NormKind::None {
            return (x.shallow_clone(), x.narrow(-1, 0, 1).ones_like());
        }
        let x = self.centred(x);
        let scale = self.inverse_size(&x);
        (x * &scale, scale)
    }

    /// Matrices that read the norm's output, `[.., width, out]`, as matrices that read x̂; what they make of a constant is
    /// left out, since x̂ has none.
    pub fn reading_unit(&self, matrices: &Tensor) -> Tensor {
        let with_gain = match &self.gain {
            Some(gain) => matrices * gain.unsqueeze(1),
            None => matrices.shallow_clone(),
        };
        match self.kind {
            NormKind::LayerNorm => &with_gain - with_gain.mean_dim(-2, true, None::<Kind>),
            NormKind::Rms | NormKind::None => with_gain,
        }
    }

    /// Whether its scale depends on its input, as far as gradients go.
    pub fn moves_with_its_input(&self, rules: Rules) -> bool {
        self.kind != NormKind::None && !rules.norms
    }

    /// The Jacobian at `x` `[rows, width]` times changes of the input `[.., rows, width]`: what the output changes by, to
    /// first order. Where the scale is constant by a rule, parts of the input become the parts of the output.
    pub fn push_forward(&self, rules: Rules, x: &Tensor, change: &Tensor) -> Tensor {
        if self.kind == NormKind::None {
            return change.shallow_clone();
        }
        let (unit, scale) = self.unit(x); // [rows, width], [rows, 1]
        let change = self.centred(change); // [.., rows, width]
        let turned = if self.moves_with_its_input(rules) {
            &change - &unit * (&change * &unit).mean_dim(-1, true, None::<Kind>)
        } else {
            change
        };
        self.with_gain(turned * scale)
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
