//! Tuned lens: a logit lens with an affine translator for each layer, learned so that what it says comes near to what the
//! model says in the end.
//!
//! T_l(h) = h + (h · W_l + b_l), W and b zero at first, so that the untrained lens is the logit lens and weight decay pulls
//! towards it; lens_l = softmax(cap(U · N(T_l(h)) + b)). There is a translator for the embedding and for the output of each
//! block but the last. Paper: Belrose et al., arXiv:2303.08112. Cost of decoding: that of the logit lens and a product with a
//! d_model × d_model matrix. Not to be used to say what a layer "knows": a translator is fitted to the model's output and can
//! supply what is in the text's statistics and not in the layer.

use super::store::{self, Origin, Recorded, StoreError};
use crate::model::Model;
use crate::model::site::Site;
use crate::model::spec::{Layer, Spec};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tch::{Kind, Tensor};

/// h ↦ h + (h · weight + bias).
pub struct Translator {
    pub weight: Tensor, // [d_model, d_model]
    pub bias: Tensor,   // [d_model]
}

impl Translator {
    /// Of streams `[.., d_model]`.
    pub fn apply(&self, stream: &Tensor) -> Tensor {
        stream + (stream.matmul(&self.weight) + &self.bias)
    }
}

/// The translators of a model, one for each of [`sites`].
pub struct TunedLens {
    pub translators: Vec<Translator>,
}

/// What a file of translators is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TunedLensV1 {
    pub schema: String,
    pub origin: Origin,
    /// What it was trained on, and so many of its tokens are seen in a step.
    pub text: String,
    pub tokens: usize,
    pub tokens_a_step: usize,
    pub steps: usize,
    pub optimiser: String,
    pub seed: u64,
}

impl Recorded for TunedLensV1 {
    const WHAT: &'static str = "tuned lens";
    const SCHEMA: &'static str = "penjing.tuned-lens/1";

    fn schema(&self) -> &str {
        &self.schema
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Where there are translators: what enters the first block, and the output of each but the last.
pub fn sites(spec: &Spec) -> Vec<Site> {
    let outputs = (0..spec.layers.saturating_sub(1)).map(|layer| Site::BlockOut(Layer(layer)));
    std::iter::once(Site::BlockIn(Layer(0))).chain(outputs).collect()
}

impl TunedLens {
    /// The plain logit lens.
    pub fn zero(model: &Model) -> TunedLens {
        let (width, options) = (model.spec.d_model as i64, (model.kind(), model.device));
        let zero = |_: Site| Translator {
            weight: Tensor::zeros([width, width], options),
            bias: Tensor::zeros([width], options),
        };
        TunedLens { translators: sites(&model.spec).into_iter().map(zero).collect() }
    }

    /// The stream as the last layer's decoder is to read it; as it is after the last layer.
    pub fn translate(&self, site: Site, stream: &Tensor) -> Tensor {
        let index = match site {
            Site::BlockIn(Layer(0)) => 0,
            Site::BlockOut(Layer(layer)) => layer + 1,
            _ => usize::MAX,
        };
        self.translators.get(index).map_or_else(|| stream.shallow_clone(), |translator| translator.apply(stream))
    }

    /// # Errors
    /// None in practice.
    pub fn to_bytes(&self, record: &TunedLensV1) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let tensors = self.translators.iter().enumerate().flat_map(|(index, one)| {
            let named = |part: &str, tensor: &Tensor| (format!("{index}.{part}"), tensor.shallow_clone());
            [named("weight", &one.weight), named("bias", &one.bias)]
        });
        store::to_bytes(&tensors.collect::<Vec<_>>(), record)
    }

    /// # Errors
    /// [`StoreError`]: no tuned lens, or one of other weights.
    pub fn from_file(path: &Path, model: &Model) -> Result<(TunedLens, TunedLensV1), StoreError> {
        let (mut tensors, record) = store::from_file::<TunedLensV1>(path, model)?;
        let width = model.spec.d_model as i64;
        let mut take = |name: String, shape: &[i64]| store::take(&mut tensors, (path, TunedLensV1::WHAT), &name, shape);
        let of = |index| {
            Ok(Translator {
                weight: take(format!("{index}.weight"), &[width, width])?,
                bias: take(format!("{index}.bias"), &[width])?,
            })
        };
        let translators = (0..sites(&model.spec).len()).map(of).collect::<Result<_, StoreError>>()?;
        Ok((TunedLens { translators }, record))
    }
}

/// The log-probabilities `[tokens, vocab]` that a stream `[tokens, d_model]` is decoded to.
pub fn decode(model: &Model, stream: &Tensor) -> Tensor {
    use crate::model::tap::NoTap;
    let logits = model.read(&stream.unsqueeze(0), &crate::model::Pass::ALL, &mut NoTap); // [1, tokens, vocab]
    logits.squeeze_dim(0).log_softmax(-1, None::<Kind>)
}

/// KL(output ‖ lens) in nats, of log-probabilities `[tokens, vocab]`: `[tokens]`.
pub fn divergence(output: &Tensor, said: &Tensor) -> Tensor {
    (output.exp() * (output - said)).sum_dim_intlist(-1, false, None::<Kind>)
}
