//! Matrices learned for one model in one safetensors file, with a record of what they are as JSON in its metadata.

use crate::error::{FileError, Hint};
use crate::model::Model;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The key of the metadata.
const KEY: &str = "penjing";

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} holds no {what}: {why}", path.display())]
    Other { path: PathBuf, what: &'static str, why: String },
    #[error("the {what} in {} was made from {model}, not from this model", path.display())]
    OtherModel { path: PathBuf, what: &'static str, model: String },
}

impl Hint for StoreError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            StoreError::File(error) => return error.hint(),
            StoreError::Other { what, .. } => format!("give a file that penjing wrote as a {what}"),
            StoreError::OtherModel { what, .. } => format!("make the {what} anew with this --model"),
        })
    }
}

/// Which weights something was learned from; part of each record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, serde::Deserialize)]
pub struct Origin {
    pub model: String,
    /// Tells weights of one architecture apart, all of them and those that decode.
    pub weights: String,
    pub unembedding: String,
}

impl Origin {
    pub fn of(model: &Model, id: &str) -> Origin {
        Origin { model: id.into(), weights: model.fingerprint(), unembedding: model.unembedding_fingerprint() }
    }
}

/// A record that says where it comes from.
pub trait Recorded: Serialize + DeserializeOwned {
    /// As in "the tuned lens in ..".
    const WHAT: &'static str;
    const SCHEMA: &'static str;
    fn schema(&self) -> &str;
    fn origin(&self) -> &Origin;
}

/// The file's bytes; numbers are kept in f32.
///
/// # Errors
/// None in practice: a record holds nothing that JSON has not.
pub fn to_bytes(tensors: &[(String, Tensor)], record: &impl Recorded) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            let numbers = Vec::<f32>::try_from(flat).unwrap_or_default();
            let shape = tensor.size().iter().map(|&size| size as usize).collect();
            (name.clone(), shape, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| Ok((name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let record = serde_json::to_string(record).unwrap_or_default();
    safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), record)])))
}

/// What a file holds, on the model's device and in its type.
///
/// # Errors
/// [`StoreError`]: no such file, another kind of file, or one that was made from other weights.
pub fn from_file<R: Recorded>(path: &Path, model: &Model) -> Result<(HashMap<String, Tensor>, R), StoreError> {
    let other = |why: String| StoreError::Other { path: path.to_owned(), what: R::WHAT, why };
    let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| other(error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|entries| entries.get(KEY));
    let text = text.ok_or_else(|| other("it does not say what it is".into()))?;
    let record: R = serde_json::from_str(text).map_err(|_| other("its record is of something else".into()))?;
    if record.schema() != R::SCHEMA {
        return Err(other(format!("its schema is {}", record.schema())));
    }
    if record.origin().weights != model.fingerprint() {
        let model = record.origin().model.clone();
        return Err(StoreError::OtherModel { path: path.to_owned(), what: R::WHAT, model });
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|error| other(error.to_string()))?;
    let mut tensors = HashMap::new();
    for (name, view) in file.tensors() {
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        let kind = crate::model::safetensors::kind_of(view.dtype()).ok_or_else(|| other("of an odd type".into()))?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| other(error.to_string()))?;
        tensors.insert(name, tensor.to_device(model.device).to_kind(model.kind()));
    }
    Ok((tensors, record))
}

/// A tensor of a file, of the shape that the model asks for.
///
/// # Errors
/// [`StoreError::Other`].
pub fn take(
    tensors: &mut HashMap<String, Tensor>,
    (path, what): (&Path, &'static str),
    name: &str,
    shape: &[i64],
) -> Result<Tensor, StoreError> {
    let found = tensors.remove(name).filter(|tensor| tensor.size() == shape);
    let why = || format!("it has no {name} of the sizes {shape:?}");
    found.ok_or_else(|| StoreError::Other { path: path.to_owned(), what, why: why() })
}
