//! Files of vectors: our own (safetensors with a record in its metadata), any safetensors file with one tensor, JSON lists.

use super::{KEY, Made, TENSOR, VectorError, VectorV1};
use crate::error::FileError;
use crate::model::Model;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// The vector as a safetensors file.
///
/// # Errors
/// None in practice: the record holds nothing that JSON has not.
pub fn to_bytes(made: &Made) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let record = serde_json::to_string(&made.record).unwrap_or_default();
    with_metadata(&made.values, Some(HashMap::from([(KEY.to_owned(), record)])))
}

/// Numbers alone as a safetensors file: one tensor, `vector`, f32.
///
/// # Errors
/// None in practice.
pub fn plain_bytes(values: &Tensor) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    with_metadata(values, None)
}

fn with_metadata(
    values: &Tensor,
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let numbers = numbers(values);
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![numbers.len()], &bytes)?;
    safetensors::serialize([(TENSOR, view)], metadata)
}

/// The numbers of a vector.
pub fn numbers(values: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(values.to_kind(Kind::Double).to_device(tch::Device::Cpu)).unwrap_or_default()
}

/// A vector from a file: our own with its record, any safetensors file with one tensor of one axis, or a JSON list.
///
/// # Errors
/// [`VectorError`].
pub fn from_file(path: &Path) -> Result<(Tensor, Option<VectorV1>), VectorError> {
    let no_vector = |why: String| VectorError::NoVector { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
    if path.extension().is_some_and(|ending| ending == "json") {
        let numbers: Vec<f64> = serde_json::from_slice(&bytes).map_err(|error| no_vector(error.to_string()))?;
        return Ok((Tensor::from_slice(&numbers), None));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| no_vector(error.to_string()))?;
    let all = tensors.tensors();
    let [(_, view)] = &all[..] else { return Err(no_vector(format!("it has {} tensors", all.len()))) };
    let kind = crate::model::safetensors::kind_of(view.dtype());
    let (&[width], Some(kind)) = (view.shape(), kind) else {
        return Err(no_vector(format!("its tensor has the sizes {:?} and the type {:?}", view.shape(), view.dtype())));
    };
    let values =
        Tensor::f_from_data_size(view.data(), &[width as i64], kind).map_err(|error| no_vector(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| no_vector(error.to_string()))?;
    let record = header.metadata().as_ref().and_then(|entries| serde_json::from_str(entries.get(KEY)?).ok());
    Ok((values.to_kind(Kind::Double), record))
}

/// A vector for this model.
///
/// # Errors
/// [`VectorError`]: also where the file says that it is of another model.
pub fn for_model(path: &Path, model: &Model) -> Result<Tensor, VectorError> {
    let (values, record) = from_file(path)?;
    match record {
        Some(record) if record.weights != model.fingerprint() => {
            Err(VectorError::OtherModel { path: path.to_owned(), model: record.model })
        }
        _ => Ok(values),
    }
}
