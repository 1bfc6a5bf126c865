//! Dictionaries of features: sparse autoencoders (Bricken et al. 2023; Cunningham et al., arXiv:2309.08600), whoever trained them.
//!
//! f = act((x − b_dec) W_enc + b_enc), x̂ = f W_dec + b_dec, after a normalisation of x that the output undoes. The activation is the
//! architecture: ReLU; TopK (Gao et al., arXiv:2406.04093); a threshold (JumpReLU, Rajamanoharan et al., arXiv:2407.14435), which BatchTopK
//! (Bussmann et al., arXiv:2412.06410) and Matryoshka dictionaries (arXiv:2503.17547) have once they are trained; gates (arXiv:2404.16014).
//!
//! Two matrices of `width · features` numbers; encoding costs one product with each row of them, however few features are active.
//! It knows no model run and no task: [`file`] reads what is on disk, and what is encoded is up to the caller. Where a direction
//! that is wanted can be had from labelled prompts, a difference of means is simpler and often steers better (arXiv:2501.17148).

pub mod check;
pub mod error;
pub mod file;
pub mod gemma_scope;
pub mod hook;
pub mod native;
pub mod record;
pub mod sae_lens;
pub mod scale;
pub mod sparsify;
mod tensors;

pub use error::DictionaryError;
pub use record::{Architecture, DictionaryV1, Normalize, TrainingV1};

use scale::Scale;
use tch::{Device, Kind, Tensor};

/// A trained dictionary. Its numbers are f32 on the CPU unless it is moved; it computes in the type and on the device of its input.
#[derive(Debug)]
pub struct Dictionary {
    pub record: DictionaryV1,
    pub w_enc: Tensor, // [width, features]
    pub w_dec: Tensor, // [features, width]
    pub b_dec: Tensor, // [width]
    pub activation: Activation,
}

/// From pre-activations to features.
#[derive(Debug)]
pub enum Activation {
    Relu {
        b_enc: Tensor, // [features]
    },
    /// The `k` largest pre-activations, and of those the positive ones. sparsify takes the ReLU first, with the same result: where
    /// fewer than `k` are positive it keeps zeros.
    TopK { b_enc: Tensor, k: usize },
    /// What is above its threshold, and above 0.
    Threshold {
        b_enc: Tensor,     // [features]
        threshold: Tensor, // [features]
    },
    /// f = 1[π > 0] · ReLU(x W_enc e^r_mag + b_mag), π = x W_enc + b_gate
    Gated {
        b_gate: Tensor, // [features]
        r_mag: Tensor,  // [features]
        b_mag: Tensor,  // [features]
    },
}

impl Dictionary {
    pub fn features(&self) -> usize {
        self.record.features
    }

    /// How many numbers a value of its site has.
    pub fn width(&self) -> usize {
        self.record.width
    }

    /// The features of values of the site: `[.., width]` to `[.., features]`.
    pub fn encode(&self, x: &Tensor) -> Tensor {
        let like = |tensor: &Tensor| tensor.to_kind(x.kind()).to_device(x.device());
        let product = self.input(x).matmul(&like(&self.w_enc)); // [.., features]
        match &self.activation {
            Activation::Relu { b_enc } => (product + like(b_enc)).relu(),
            Activation::TopK { b_enc, k } => top_k(&(product + like(b_enc)), *k),
            Activation::Threshold { b_enc, threshold } => {
                let pre = product + like(b_enc); // [.., features]
                let passes = pre.gt_tensor(&like(threshold)).to_kind(x.kind());
                pre.relu() * passes
            }
            Activation::Gated { b_gate, r_mag, b_mag } => {
                let open = (&product + like(b_gate)).gt(0.0).to_kind(x.kind());
                (product * like(r_mag).exp() + like(b_mag)).relu() * open
            }
        }
    }

    /// What features stand for: `[.., features]` to `[.., width]`. `x`, which they encode, gives the statistics of its own
    /// normalisation back and nothing else.
    pub fn decode(&self, features: &Tensor, x: &Tensor) -> Tensor {
        let like = |tensor: &Tensor| tensor.to_kind(x.kind()).to_device(x.device());
        let output = features.matmul(&like(&self.w_dec)) + like(&self.b_dec); // [.., width]
        Scale::of(self.record.normalize, x).undo(&output)
    }

    /// x̂: `[.., width]`.
    pub fn reconstruct(&self, x: &Tensor) -> Tensor {
        self.decode(&self.encode(x), x)
    }

    /// `x` plus what a change `[.., n]` of some features writes: their decoder rows, in the scale of x's own normalisation. What
    /// the dictionary does not explain of `x` stays.
    pub fn changed(&self, x: &Tensor, features: &[usize], change: &Tensor) -> Tensor {
        let indices: Vec<i64> = features.iter().map(|&feature| feature as i64).collect();
        let rows = self.w_dec.index_select(0, &Tensor::from_slice(&indices).to_device(self.w_dec.device())); // [n, width]
        let written = change.matmul(&rows.to_kind(x.kind()).to_device(x.device())); // [.., width]
        x + Scale::of(self.record.normalize, x).undo_change(&written)
    }

    /// What one unit of a feature writes, its decoder row: `[width]`.
    pub fn direction(&self, feature: usize) -> Tensor {
        self.w_dec.get(feature as i64)
    }

    /// The same on another device and in another type of numbers.
    pub fn to(&self, device: Device, kind: Kind) -> Dictionary {
        self.map(|tensor| tensor.to_device(device).to_kind(kind))
    }

    /// The values that the encoder's matrix reads: `[.., width]`.
    pub fn input(&self, x: &Tensor) -> Tensor {
        let input = Scale::of(self.record.normalize, x).apply(x);
        match self.record.apply_b_dec_to_input {
            true => input - self.b_dec.to_kind(x.kind()).to_device(x.device()),
            false => input,
        }
    }

    fn map(&self, change: impl Fn(&Tensor) -> Tensor) -> Dictionary {
        let activation = match &self.activation {
            Activation::Relu { b_enc } => Activation::Relu { b_enc: change(b_enc) },
            Activation::TopK { b_enc, k } => Activation::TopK { b_enc: change(b_enc), k: *k },
            Activation::Threshold { b_enc, threshold } => {
                Activation::Threshold { b_enc: change(b_enc), threshold: change(threshold) }
            }
            Activation::Gated { b_gate, r_mag, b_mag } => {
                Activation::Gated { b_gate: change(b_gate), r_mag: change(r_mag), b_mag: change(b_mag) }
            }
        };
        Dictionary {
            record: self.record.clone(),
            w_enc: change(&self.w_enc),
            w_dec: change(&self.w_dec),
            b_dec: change(&self.b_dec),
            activation,
        }
    }

    /// The same function with the one factor of its input put into the weights, for formats that have no place for it.
    pub fn folded(&self) -> Dictionary {
        let mut folded = self.map(Tensor::shallow_clone);
        if let Normalize::ExpectedAverageOnlyIn { factor } = self.record.normalize {
            folded.w_enc = &self.w_enc * factor;
            folded.w_dec = &self.w_dec / factor;
            folded.b_dec = &self.b_dec / factor;
            folded.record.normalize = Normalize::None;
        }
        folded
    }

    /// Whether it was made from these weights, if its file says from which.
    ///
    /// # Errors
    /// [`DictionaryError::OtherModel`].
    pub fn check_weights(&self, fingerprint: &str) -> Result<(), DictionaryError> {
        match &self.record.weights {
            Some(weights) if weights != fingerprint => {
                let model = self.record.model.clone().unwrap_or_else(|| "another model".into());
                Err(DictionaryError::OtherModel { model })
            }
            _ => Ok(()),
        }
    }
}

/// The `k` largest along the last axis, where they are positive, and 0 elsewhere.
pub fn top_k(pre: &Tensor, k: usize) -> Tensor {
    let (values, indices) = pre.topk(k as i64, -1, true, false); // [.., k]
    pre.zeros_like().scatter(-1, &indices, &values.relu())
}
