//! The reconstruction check: a few values with what their writer made of them, so that a reader that computes something else is
//! found out. Conventions of dictionaries differ in ways that no shape shows (transposition, bias before the encoder, folded norms).

use super::{Dictionary, DictionaryError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use tch::{Kind, Tensor};

/// How many values are kept.
pub const VALUES: usize = 8;
/// How far reconstructions may lie apart, relative to the largest of their numbers.
const TOLERANCE: f64 = 1e-5;

/// Values to try a dictionary on where there are no others: its bias, plus noise as large as what its features write. `[8, width]`
pub fn inputs(dictionary: &Dictionary) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut uniform = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let width = dictionary.width();
    let noise: Vec<f32> = (0..VALUES * width).map(|_| (4.0 * (uniform() + uniform() - 1.0)) as f32).collect();
    let noise = Tensor::from_slice(&noise).view([VALUES as i64, width as i64]); // [value, width]
    let scale = match dictionary.record.normalize {
        super::Normalize::ExpectedAverageOnlyIn { factor } => 1.0 / factor,
        _ => 1.0,
    };
    let size = dictionary.w_dec.square().mean(Kind::Float).sqrt() * 3.0;
    ((&dictionary.b_dec + noise * size) * scale).to_kind(Kind::Float)
}

/// How far `found` lies from what is expected, and how large the latter is.
pub fn difference(expected: &Tensor, found: &Tensor) -> (f64, f64) {
    let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
    (largest(&(expected - found)), largest(expected))
}

/// # Errors
/// [`DictionaryError::Check`] where the dictionary reconstructs something else.
pub fn check(dictionary: &Dictionary, x: &Tensor, expected: &Tensor, path: &Path) -> Result<(), DictionaryError> {
    let (difference, scale) = difference(expected, &dictionary.reconstruct(x));
    // Not a number is no agreement either.
    if difference <= TOLERANCE * scale.max(1e-30) {
        Ok(())
    } else {
        Err(DictionaryError::Check { path: path.to_owned(), difference, scale })
    }
}
