//! `params.npz` of Gemma Scope (Lieberum et al., arXiv:2408.05147): JumpReLU, nothing taken off the input. What it was trained on is
//! in the names of the folders.

use super::tensors::Named;
use super::{Architecture, Dictionary, DictionaryError, DictionaryV1, Normalize, hook, native, record};
use crate::error::FileError;
use ndarray::ArrayD;
use ndarray_npy::NpzReader;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use tch::Tensor;

pub const WEIGHTS: &str = "params.npz";

pub(super) fn read(path: &Path) -> Result<Dictionary, DictionaryError> {
    let none = |why: String| DictionaryError::None { path: path.to_owned(), why };
    let file = File::open(path).map_err(FileError::reading(path))?;
    let mut file = NpzReader::new(file).map_err(|error| none(error.to_string()))?;
    let mut tensors = HashMap::new();
    for name in ["W_enc", "W_dec", "b_enc", "b_dec", "threshold"] {
        let array: ArrayD<f32> = file.by_name(name).map_err(|error| none(format!("`{name}`: {error}")))?;
        let sizes: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
        let numbers: Vec<f32> = array.iter().copied().collect();
        tensors.insert(name.to_owned(), Tensor::from_slice(&numbers).view(&sizes[..]));
    }
    let &[width, features] = &tensors["W_enc"].size()[..] else {
        return Err(none("`W_enc` is no matrix".into()));
    };
    let record = DictionaryV1 {
        schema: record::SCHEMA.into(),
        architecture: Architecture::JumpRelu,
        site: hook::from_gemma_scope(path),
        hook: None,
        model: None,
        weights: None,
        features: features as usize,
        width: width as usize,
        k: None,
        prefixes: Vec::new(),
        normalize: Normalize::None,
        apply_b_dec_to_input: false,
        training: None,
    };
    native::dictionary(&mut Named::of(path, tensors), record, path)
}
