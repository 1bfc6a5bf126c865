//! What is learned, the loss of a batch, and the dictionary that there is by now. See [`super::train`] for how it goes.

use super::loss;
use super::train::Options;
use crate::dictionary::{Activation, Architecture, Dictionary, DictionaryV1, top_k};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

const AUXILIARY_WEIGHT: f64 = 1.0;
const PRE_ACTIVATION_WEIGHT: f64 = 3e-6;
const FIRST_THRESHOLD: f64 = 0.01;

/// What is learned.
pub(super) struct Weights {
    pub w_enc: Tensor, // [width, features]
    pub w_dec: Tensor, // [features, width]
    pub b_dec: Tensor, // [width]
    /// `b_enc`, or `b_gate`: `[features]`.
    pub b_enc: Tensor,
    /// θ of JumpReLU; r_mag and b_mag of gated dictionaries; each `[features]`.
    pub more: Vec<Tensor>,
}

impl Weights {
    pub fn new(options: &Options, mean: &Tensor, random: &mut ChaCha8Rng) -> Weights {
        let (width, features) = (mean.numel() as i64, options.features as i64);
        let mut normal = || {
            let mut uniform = || ((random.next_u64() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
            let (radius, turn) = ((-2.0 * uniform().ln()).sqrt(), uniform() * std::f64::consts::TAU);
            (radius * turn.cos()) as f32
        };
        let drawn: Vec<f32> = (0..width * features).map(|_| normal()).collect();
        let rows = Tensor::from_slice(&drawn).view([features, width]).to_device(mean.device()); // [features, width]
        let w_dec = &rows / loss::row_norms(&rows).unsqueeze(1) * 0.1;
        let zeros = || Tensor::zeros([features], (Kind::Float, mean.device()));
        let more = match options.architecture {
            Architecture::JumpRelu => vec![zeros() + FIRST_THRESHOLD],
            Architecture::Gated => vec![zeros(), zeros()],
            _ => Vec::new(),
        };
        let leaf = |tensor: Tensor| tensor.contiguous().detach().set_requires_grad(true);
        Weights {
            w_enc: leaf(w_dec.tr()),
            w_dec: leaf(w_dec),
            b_dec: leaf(mean.copy()),
            b_enc: leaf(zeros()),
            more: more.into_iter().map(leaf).collect(),
        }
    }

    pub fn all(&self) -> Vec<&Tensor> {
        [&self.w_enc, &self.w_dec, &self.b_dec, &self.b_enc].into_iter().chain(&self.more).collect()
    }
}

/// Training under way.
pub(super) struct Trainer<'a> {
    pub options: &'a Options,
    pub sparsity: f64,
    pub prefixes: Vec<usize>,
    pub weights: Weights,
    pub threshold: Option<f64>,
    pub threshold_rate: f64,
    pub factor: f64,
    /// Tokens since each feature was last active: `[features]`, i64.
    pub since: Tensor,
    pub dead_after: usize,
}

impl Trainer<'_> {
    /// Which features are dead: `[features]`.
    pub fn dead(&self) -> Tensor {
        self.since.ge(self.dead_after as i64)
    }

    /// The loss of a batch in the scale of training, `[token, width]`, and its features.
    pub fn loss(&mut self, x: &Tensor, warmth: f64) -> (Tensor, Tensor) {
        let Weights { w_enc, w_dec, b_dec, b_enc, more } = &self.weights;
        let centred = x - b_dec;
        let product = centred.matmul(w_enc); // [token, features]
        let pre = &product + b_enc;
        let decode = |features: &Tensor, w_dec: &Tensor| features.matmul(w_dec) + b_dec;
        let penalty = self.sparsity * warmth;
        match (self.options.architecture, &more[..]) {
            (Architecture::JumpRelu, [threshold]) => {
                let features = loss::jump_relu(&pre, threshold);
                let dead = loss::pre_activation(&pre, threshold, w_dec, &self.dead()) * PRE_ACTIVATION_WEIGHT;
                let error = loss::squared_error(x, &decode(&features, w_dec));
                (error + loss::soft_count(&features, w_dec) * penalty + dead, features)
            }
            (Architecture::Gated, [r_mag, b_mag]) => {
                let open = pre.detach().gt(0.0).to_kind(Kind::Float);
                let features = (product * r_mag.exp() + b_mag).relu() * open;
                let gates = pre.relu();
                let error = loss::squared_error(x, &decode(&features, w_dec));
                let by_gates = loss::squared_error(x, &decode(&gates, w_dec));
                (error + by_gates + loss::weighted_l1(&gates, w_dec) * penalty, features)
            }
            (Architecture::Relu, _) => {
                let features = pre.relu();
                let error = loss::squared_error(x, &decode(&features, w_dec));
                (error + loss::weighted_l1(&features, w_dec) * penalty, features)
            }
            (architecture, _) => {
                let norms = loss::row_norms(w_dec); // [features]
                let pre = pre * &norms;
                let rows = w_dec / norms.unsqueeze(1); // [features, width]
                let features = match architecture {
                    Architecture::TopK => top_k(&pre, self.options.k),
                    _ => loss::batch_top_k(&pre, self.options.k),
                };
                let x_hat = decode(&features, &rows);
                let mut sum = loss::squared_error(x, &x_hat);
                if let Some(auxiliary) = loss::auxiliary(&pre, &rows, &self.dead(), &(x - &x_hat)) {
                    sum += auxiliary * AUXILIARY_WEIGHT;
                }
                if architecture == Architecture::Matryoshka {
                    sum += loss::prefixes(x, &features, &rows, b_dec, &self.prefixes);
                }
                if architecture != Architecture::TopK {
                    let positive = features.detach().masked_select(&features.gt(0.0));
                    if positive.numel() > 0 {
                        let least = positive.min().double_value(&[]);
                        let before = self.threshold.unwrap_or(least);
                        self.threshold = Some(before + self.threshold_rate * (least - before));
                    }
                }
                (sum, features)
            }
        }
    }

    /// Below 0 a threshold would let through what ReLU does not.
    pub fn keep_thresholds(&self) {
        if let (Architecture::JumpRelu, [threshold]) = (self.options.architecture, &self.weights.more[..]) {
            let _no_grad = tch::no_grad_guard();
            let _ = threshold.shallow_clone().clamp_min_(0.0);
        }
    }

    pub fn note_active(&mut self, features: &Tensor) {
        let tokens = features.size()[0];
        let active = features.detach().gt(0.0).any_dim(0, false); // [features]
        self.since = (&self.since + tokens).masked_fill(&active, 0);
    }

    /// What there is by now, as it is used.
    pub fn dictionary(&self, record: &DictionaryV1) -> Dictionary {
        let Weights { w_enc, w_dec, b_dec, b_enc, more } = &self.weights;
        let own = |tensor: &Tensor| tensor.detach().copy();
        let (mut w_enc, mut w_dec, mut b_enc) = (own(w_enc), own(w_dec), own(b_enc));
        if self.options.architecture.has_k() {
            let norms = loss::row_norms(&w_dec); // [features]
            w_enc *= &norms;
            b_enc *= &norms;
            w_dec /= norms.unsqueeze(1);
        }
        let activation = match (self.options.architecture, &more[..]) {
            (Architecture::JumpRelu, [threshold]) => Activation::Threshold { b_enc, threshold: own(threshold) },
            (Architecture::Gated, [r_mag, b_mag]) => {
                Activation::Gated { b_gate: b_enc, r_mag: own(r_mag), b_mag: own(b_mag) }
            }
            (Architecture::TopK, _) => Activation::TopK { b_enc, k: self.options.k },
            (Architecture::Relu, _) => Activation::Relu { b_enc },
            _ => {
                let threshold = b_enc.full_like(self.threshold.unwrap_or(0.0));
                Activation::Threshold { b_enc, threshold }
            }
        };
        Dictionary { record: record.clone(), w_enc, w_dec, b_dec: own(b_dec), activation }
    }
}
