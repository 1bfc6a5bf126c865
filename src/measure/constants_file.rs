//! `constants.safetensors`: a descent to optimal constants in the middle or at its end, `penjing.constants/1`.
//!
//! Every reader of safetensors opens it. For each of `input`, `a3` (the heads of layer 3, before W_O) and `m3` it holds
//! `.constant` `[source, size]`, what the descent needs to go on, and in the metadata under `penjing` what the run depends on.

use super::optimal::Descent;
use crate::error::{FileError, Hint};
use crate::identity::Identity;
use crate::model::Model;
use crate::model::safetensors::kind_of;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

pub const SCHEMA: &str = "penjing.constants/1";

/// The key of the metadata.
const KEY: &str = "penjing";

/// Why a file holds nothing for a run.
#[derive(Debug, thiserror::Error)]
pub enum ConstantsFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is damaged or of another version", path.display())]
    Damaged { path: PathBuf },
    #[error("{} is of another run: {}", path.display(), differences.join(", "))]
    Other { path: PathBuf, differences: Vec<String> },
}

impl Hint for ConstantsFileError {
    fn hint(&self) -> Option<String> {
        match self {
            ConstantsFileError::File(error) => error.hint(),
            _ => Some("delete it, or choose another --out".into()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct MetadataV1 {
    schema: String,
    run: Identity,
    steps_done: usize,
    finished: bool,
    /// The blake3 hash of all numbers, in the order of the tensors' names.
    hash: String,
}

/// The bytes of the file for a run that depends on `run`.
///
/// # Errors
/// None in practice: numbers of a model's kind are what the format is for.
pub fn to_bytes(descent: &Descent, run: &Identity) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> =
        descent.tensors().into_iter().filter_map(|(name, tensor)| numbers(name, tensor)).collect();
    tensors.sort();
    let metadata = MetadataV1 {
        schema: SCHEMA.into(),
        run: run.clone(),
        steps_done: descent.steps_done(),
        finished: descent.finished(),
        hash: hash(tensors.iter().map(|(.., bytes)| bytes.as_slice())),
    };
    let text = serde_json::to_string(&metadata).unwrap_or_default();
    let views: Result<Vec<(&String, TensorView)>, safetensors::SafeTensorError> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect();
    safetensors::serialize(views?, Some(HashMap::from([(KEY.to_owned(), text)])))
}

/// The descent in a file, which has to be one of this model and of the run that depends on `run`; nothing where there is no
/// file.
///
/// # Errors
/// [`ConstantsFileError`].
pub fn read(path: &Path, run: &Identity, model: &Model) -> Result<Option<Descent>, ConstantsFileError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::reading(path)(error).into()),
    };
    let damaged = || ConstantsFileError::Damaged { path: path.to_owned() };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|_| damaged())?;
    let text = header.metadata().as_ref().and_then(|entries| entries.get(KEY)).ok_or_else(damaged)?;
    let metadata: MetadataV1 = serde_json::from_str(text).map_err(|_| damaged())?;
    if metadata.schema != SCHEMA {
        return Err(damaged());
    }
    let differences = Identity::differences(run, &metadata.run);
    if !differences.is_empty() {
        return Err(ConstantsFileError::Other { path: path.to_owned(), differences });
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|_| damaged())?;
    let mut names = tensors.names();
    names.sort();
    let views: Vec<TensorView> = names.iter().filter_map(|name| tensors.tensor(name).ok()).collect();
    if hash(views.iter().map(TensorView::data)) != metadata.hash {
        return Err(damaged());
    }
    let mut descent = Descent::blank(model, metadata.steps_done, metadata.finished);
    for (name, tensor) in descent.tensors_mut() {
        let read = tensors.tensor(&name).ok().and_then(|view| to_tensor(&view)).ok_or_else(damaged)?;
        if read.size() != tensor.size() || read.kind() != tensor.kind() {
            return Err(damaged());
        }
        *tensor = read.to_device(model.device);
    }
    Ok(Some(descent))
}

fn hash<'a>(numbers: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for bytes in numbers {
        hasher.update(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// A tensor's name, type, shape and bytes; nothing of a type that no model computes in.
fn numbers(name: String, tensor: &Tensor) -> Option<(String, Dtype, Vec<usize>, Vec<u8>)> {
    let dtype = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16]
        .into_iter()
        .find(|&dtype| kind_of(dtype) == Some(tensor.kind()))?;
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    Some((name, dtype, tensor.size().into_iter().map(|size| size as usize).collect(), bytes))
}

fn to_tensor(view: &TensorView) -> Option<Tensor> {
    let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
    let kind: Kind = kind_of(view.dtype())?;
    Tensor::f_from_data_size(view.data(), &shape, kind).ok()
}
