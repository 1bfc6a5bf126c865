//! Tensors of a safetensors file by name, in f32, with their sizes checked.

use super::DictionaryError;
use crate::error::FileError;
use crate::model::safetensors::kind_of;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The bytes of a file, with the text of one key of its metadata.
pub(super) struct Named {
    path: PathBuf,
    tensors: HashMap<String, Tensor>,
    pub metadata: HashMap<String, String>,
}

impl Named {
    pub fn read(path: &Path) -> Result<Named, DictionaryError> {
        let none = |why: String| DictionaryError::None { path: path.to_owned(), why };
        let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| none(error.to_string()))?;
        let mut tensors = HashMap::new();
        for (name, view) in file.tensors() {
            let Some(kind) = kind_of(view.dtype()) else {
                return Err(none(format!("`{name}` has the type {:?}", view.dtype())));
            };
            let sizes: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
            let tensor =
                Tensor::f_from_data_size(view.data(), &sizes, kind).map_err(|error| none(error.to_string()))?;
            tensors.insert(name, tensor.to_kind(Kind::Float));
        }
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| none(error.to_string()))?;
        Ok(Named { path: path.to_owned(), tensors, metadata: header.metadata().clone().unwrap_or_default() })
    }

    pub fn of(path: &Path, tensors: HashMap<String, Tensor>) -> Named {
        Named { path: path.to_owned(), tensors, metadata: HashMap::new() }
    }

    pub fn put(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor);
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of these sizes; -1 is any size.
    pub fn take(&mut self, name: &str, sizes: &[i64]) -> Result<Tensor, DictionaryError> {
        let none = |why: String| DictionaryError::None { path: self.path.clone(), why };
        let tensor = self.tensors.remove(name).ok_or_else(|| none(format!("it has no `{name}`")))?;
        let found = tensor.size();
        if found.len() != sizes.len() || found.iter().zip(sizes).any(|(found, size)| *size >= 0 && found != size) {
            return Err(none(format!("`{name}` has the sizes {found:?} instead of {sizes:?}")));
        }
        match bool::try_from(tensor.isfinite().all()) {
            Ok(true) => Ok(tensor),
            _ => Err(none(format!("`{name}` has values that are no numbers"))),
        }
    }
}

/// A safetensors file of some tensors, as f32.
pub(super) fn to_bytes(
    tensors: &[(&str, &Tensor)],
    metadata: Option<HashMap<String, String>>,
) -> Result<Vec<u8>, DictionaryError> {
    let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let sizes = tensor.size().iter().map(|&size| size as usize).collect();
            let tensor = tensor.to_kind(Kind::Float).to_device(Device::Cpu).contiguous();
            let mut numbers = vec![0f32; tensor.numel()];
            tensor.copy_data(&mut numbers, tensor.numel());
            (*name, sizes, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, sizes, bytes)| Ok((*name, TensorView::new(safetensors::Dtype::F32, sizes.clone(), bytes)?)));
    let views: Vec<(&str, TensorView)> = views.collect::<Result<_, safetensors::SafeTensorError>>()?;
    Ok(safetensors::serialize(views, metadata)?)
}
