//! This project's file: safetensors with the record as JSON under the metadata key `penjing`, the tensors by SAELens' names, and
//! `check.x` and `check.x_hat` for [`super::check`].

use super::tensors::{Named, to_bytes as tensors_to_bytes};
use super::{Activation, Architecture, Dictionary, DictionaryError, DictionaryV1, check, record};
use std::collections::HashMap;
use std::path::Path;
use tch::Tensor;

pub const KEY: &str = "penjing";

/// The file of a dictionary; `x` `[value, width]` are the values of its check.
///
/// # Errors
/// None in practice.
pub fn to_bytes(dictionary: &Dictionary, x: &Tensor) -> Result<Vec<u8>, DictionaryError> {
    let record = serde_json::to_string(&dictionary.record).unwrap_or_default();
    let x_hat = dictionary.reconstruct(x);
    let mut tensors = vec![
        ("W_enc", &dictionary.w_enc),
        ("W_dec", &dictionary.w_dec),
        ("b_dec", &dictionary.b_dec),
        ("check.x", x),
        ("check.x_hat", &x_hat),
    ];
    tensors.extend(dictionary.activation.tensors());
    tensors_to_bytes(&tensors, Some(HashMap::from([(KEY.to_owned(), record)])))
}

impl Activation {
    /// Its tensors by name.
    pub(super) fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Activation::Relu { b_enc } | Activation::TopK { b_enc, .. } => vec![("b_enc", b_enc)],
            Activation::Threshold { b_enc, threshold } => vec![("b_enc", b_enc), ("threshold", threshold)],
            Activation::Gated { b_gate, r_mag, b_mag } => {
                vec![("b_gate", b_gate), ("r_mag", r_mag), ("b_mag", b_mag)]
            }
        }
    }
}

/// The activation of an architecture, out of a file's tensors.
pub(super) fn activation(named: &mut Named, record: &DictionaryV1, path: &Path) -> Result<Activation, DictionaryError> {
    let each = [record.features as i64];
    Ok(match record.architecture {
        Architecture::Relu => Activation::Relu { b_enc: named.take("b_enc", &each)? },
        Architecture::TopK => {
            let why = format!("its k is {:?}, of {} features", record.k, record.features);
            let k = record.k.filter(|&k| (1..=record.features).contains(&k));
            let k = k.ok_or(DictionaryError::None { path: path.to_owned(), why })?;
            Activation::TopK { b_enc: named.take("b_enc", &each)?, k }
        }
        Architecture::BatchTopK | Architecture::JumpRelu | Architecture::Matryoshka => {
            Activation::Threshold { b_enc: named.take("b_enc", &each)?, threshold: named.take("threshold", &each)? }
        }
        Architecture::Gated => Activation::Gated {
            b_gate: named.take("b_gate", &each)?,
            r_mag: named.take("r_mag", &each)?,
            b_mag: named.take("b_mag", &each)?,
        },
    })
}

/// The matrices by SAELens' names, which are ours.
pub(super) fn dictionary(named: &mut Named, record: DictionaryV1, path: &Path) -> Result<Dictionary, DictionaryError> {
    let (features, width) = (record.features as i64, record.width as i64);
    if features == 0 || width == 0 {
        return Err(DictionaryError::None { path: path.to_owned(), why: "it has no features, or no width".into() });
    }
    let activation = activation(named, &record, path)?;
    Ok(Dictionary {
        w_enc: named.take("W_enc", &[width, features])?,
        w_dec: named.take("W_dec", &[features, width])?,
        b_dec: named.take("b_dec", &[width])?,
        activation,
        record,
    })
}

/// # Errors
/// What is no such file, and what does not reconstruct as it did when it was written.
pub(super) fn read(path: &Path) -> Result<Dictionary, DictionaryError> {
    let none = |why: String| DictionaryError::None { path: path.to_owned(), why };
    let mut named = Named::read(path)?;
    let header = named.metadata.get(KEY).ok_or_else(|| none("its header does not say what it is".into()))?;
    let record: DictionaryV1 = serde_json::from_str(header).map_err(|error| none(error.to_string()))?;
    if record.schema != record::SCHEMA {
        return Err(none(format!("its schema is `{}` instead of `{}`", record.schema, record::SCHEMA)));
    }
    if let super::Normalize::ExpectedAverageOnlyIn { factor } = record.normalize
        && !(factor.is_finite() && factor > 0.0)
    {
        return Err(none(format!("its input is multiplied by {factor}")));
    }
    let width = record.width as i64;
    let dictionary = dictionary(&mut named, record, path)?;
    let x = named.take("check.x", &[-1, width])?;
    let x_hat = named.take("check.x_hat", &[x.size()[0], width])?;
    check::check(&dictionary, &x, &x_hat, path)?;
    Ok(dictionary)
}
