//! How well a dictionary reconstructs, by every definition that is in use, each under its name.
//!
//! FVU = Σ‖x − x̂‖² / Σ‖x − x̄‖² with the mean of each dimension, and explained variance 1 − FVU, are the definition here. Sums are f64.
//! A high explained variance says little about what the model does with x̂: see [`super::splice`].

use crate::dictionary::Dictionary;
use serde::Serialize;
use tch::{Kind, Tensor};

/// How many tokens are encoded at once.
const AT_ONCE: i64 = 2048;

/// Values and their reconstructions, compared.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Reconstruction {
    pub tokens: usize,
    pub fvu: f64,
    /// 1 − Var(x − x̂)/Var(x): a constant error is forgiven (dictionary_learning).
    pub explained_dictionary_learning: f64,
    /// 1 − Σ‖x − x̂‖²/Σ‖x‖²: variance against zero (SAELens before 2026).
    pub explained_sae_lens_6_18: f64,
    /// Mean over tokens of 1 − ‖x − x̂‖²/‖x − x̄‖² (SAEBench's paper).
    pub explained_per_token: f64,
    /// Σ‖x − x̂‖²/Σ‖x‖² (OpenAI).
    pub normalised_mse: f64,
    /// Sum over dimensions, mean over tokens.
    pub squared_error: f64,
    /// Σ‖x̂‖²/Σ x·x̂: 1 without shrinkage.
    pub relative_bias: f64,
    /// Mean of ‖x̂‖/‖x‖.
    pub l2_ratio: f64,
    pub cosine: f64,
}

/// How often features are active.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Density {
    /// Mean number of active features a token, and mean sum of them.
    pub l0: f64,
    pub l1: f64,
    /// The share of tokens that each feature is active on.
    pub frequency: Vec<f64>,
    /// The share of features that are active on none of the tokens.
    pub dead: f64,
}

/// Compares values `[token, width]` with their reconstructions.
pub fn reconstruction(x: &Tensor, x_hat: &Tensor) -> Reconstruction {
    let (x, x_hat) = (x.to_kind(Kind::Double), x_hat.to_kind(Kind::Double));
    let squares = |tensor: &Tensor| tensor.square().sum_dim_intlist(-1, false, None::<Kind>); // [token]
    let sum = |tensor: Tensor| tensor.sum(Kind::Double).double_value(&[]);
    let mean = |tensor: Tensor| tensor.mean(Kind::Double).double_value(&[]);
    let centred = |tensor: &Tensor| tensor - tensor.mean_dim(0, true, Kind::Double);
    let error = &x - &x_hat; // [token, width]
    let (lost, around, size) = (squares(&error), squares(&centred(&x)), squares(&x));
    let (lost_all, around_all, size_all) =
        (sum(lost.shallow_clone()), sum(around.shallow_clone()), sum(size.shallow_clone()));
    let product = (&x * &x_hat).sum_dim_intlist(-1, false, None::<Kind>); // [token]
    let (length, length_hat) = (size.sqrt(), squares(&x_hat).sqrt());
    Reconstruction {
        tokens: x.size()[0] as usize,
        fvu: lost_all / around_all,
        explained_dictionary_learning: 1.0 - sum(squares(&centred(&error))) / around_all,
        explained_sae_lens_6_18: 1.0 - lost_all / size_all,
        explained_per_token: mean(1.0 - &lost / &around),
        normalised_mse: lost_all / size_all,
        squared_error: mean(lost),
        relative_bias: sum(squares(&x_hat)) / sum(product.shallow_clone()),
        l2_ratio: mean(&length_hat / &length),
        cosine: mean(product / (length * length_hat).clamp_min(1e-300)),
    }
}

/// Encodes and decodes values `[token, width]` a part at a time: x̂ `[token, width]`, and how often features are active.
pub fn measure(dictionary: &Dictionary, x: &Tensor) -> (Tensor, Density) {
    let _no_grad = tch::no_grad_guard();
    let tokens = x.size()[0];
    let (mut parts, mut active, mut sum) = (Vec::new(), None::<Tensor>, 0.0);
    for start in (0..tokens).step_by(AT_ONCE as usize) {
        let part = x.narrow(0, start, AT_ONCE.min(tokens - start)); // [part, width]
        let features = dictionary.encode(&part); // [part, features]
        let fired = features.gt(0.0).sum_dim_intlist(0, false, Kind::Double); // [features]
        active = Some(active.map_or_else(|| fired.shallow_clone(), |before| before + &fired));
        sum += features.sum(Kind::Double).double_value(&[]);
        parts.push(dictionary.decode(&features, &part));
    }
    let active = active.map(|active| Vec::<f64>::try_from(active).unwrap_or_default()).unwrap_or_default();
    let count = tokens.max(1) as f64;
    let density = Density {
        l0: active.iter().sum::<f64>() / count,
        l1: sum / count,
        dead: active.iter().filter(|&&active| active == 0.0).count() as f64 / active.len().max(1) as f64,
        frequency: active.iter().map(|active| active / count).collect(),
    };
    (Tensor::cat(&parts, 0), density)
}

impl Density {
    /// How many features have a frequency in each unit of its logarithm to base 10, and how many are never active: `(floor, count)`.
    pub fn histogram(&self, bins: f64) -> Vec<(f64, usize)> {
        let logs = self.frequency.iter().filter(|frequency| **frequency > 0.0);
        let mut places: Vec<i64> = logs.map(|frequency| (frequency.log10() * bins).floor() as i64).collect();
        places.sort_unstable();
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else { return Vec::new() };
        (first..=last)
            .map(|place| (place as f64 / bins, places.iter().filter(|&&other| other == place).count()))
            .collect()
    }
}
