//! Why a file is no dictionary, or not the one that is needed.

use crate::error::{FileError, Hint};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum DictionaryError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} holds no dictionary: {why}", path.display())]
    None { path: PathBuf, why: String },
    #[error("{} has the architecture `{name}`, which penjing does not know", path.display())]
    Architecture { path: PathBuf, name: String },
    #[error("{} normalises its input by `{name}`, {why}", path.display())]
    Normalisation { path: PathBuf, name: String, why: &'static str },
    #[error(
        "{} does not reconstruct as its writer did: the values differ by up to {difference:.2e}, where they are at most {scale:.2e}",
        path.display()
    )]
    Check { path: PathBuf, difference: f64, scale: f64 },
    #[error("a {format} file has no place for {what}")]
    CannotSay { format: &'static str, what: String },
    #[error("the dictionary was made from {model}, not from this model")]
    OtherModel { model: String },
    #[error("cannot write the dictionary: {0}")]
    Write(#[from] safetensors::SafeTensorError),
}

impl Hint for DictionaryError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            DictionaryError::File(error) => return error.hint(),
            DictionaryError::None { .. } => {
                "a dictionary is a file of `penjing sae train`, a folder of SAELens or sparsify, or params.npz of Gemma Scope".into()
            }
            DictionaryError::Architecture { .. } => {
                "relu (SAELens: standard), topk, batch-topk, jumprelu, gated and matryoshka are known".into()
            }
            DictionaryError::Normalisation { .. } => {
                "none, layer_norm, constant_norm_rescale, and expected_average_only_in with its `norm_scaling_factor` are known".into()
            }
            DictionaryError::Check { .. } => "the file was damaged or changed; take the original, or train it anew".into(),
            DictionaryError::CannotSay { .. } => "convert it to another format, or keep the native one".into(),
            DictionaryError::OtherModel { .. } => "name its model with --model, or train a dictionary of this one".into(),
            DictionaryError::Write(_) => return None,
        })
    }
}
