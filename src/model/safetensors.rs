//! Reads tensors out of one or several memory-mapped safetensors files.
//!
//! Tensors borrow the mapping where they can, so that loading touches only headers.

use super::load::ModelError;
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// The bytes of one safetensors file.
enum Bytes {
    /// Copy-on-write, so that nothing in the process can write through to the file.
    Mapped(memmap2::MmapMut),
    Embedded(&'static [u8]),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Embedded(bytes) => bytes,
        }
    }
}

struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<i64>,
    bytes: std::ops::Range<usize>,
}

/// All tensors of a model by name.
pub(super) struct TensorFiles {
    shards: Vec<Bytes>,
    entries: BTreeMap<String, Entry>,
    /// Where they were opened, if not embedded.
    pub folder: Option<PathBuf>,
    /// The headers, in shard order: they identify the layout of the weights without reading them.
    pub headers: Vec<u8>,
}

impl TensorFiles {
    /// Opens `model.safetensors`, or every file that `model.safetensors.index.json` names.
    pub fn open(folder: &Path) -> Result<TensorFiles, ModelError> {
        let mut files = TensorFiles {
            shards: Vec::new(),
            entries: BTreeMap::new(),
            folder: Some(folder.to_owned()),
            headers: Vec::new(),
        };
        for path in shard_paths(folder)? {
            let file = File::open(&path).map_err(|source| ModelError::read(&path, source))?;
            // SAFETY: the mapping is private (copy-on-write). Another process that truncates the file while it is mapped
            // would still fault; that is the accepted price of not copying weights, as in every safetensors loader.
            let map = unsafe { memmap2::MmapOptions::new().map_copy(&file) }
                .map_err(|source| ModelError::read(&path, source))?;
            files.add(Bytes::Mapped(map), &path)?;
        }
        Ok(files)
    }

    pub fn embedded(bytes: &'static [u8], name: &str) -> Result<TensorFiles, ModelError> {
        let mut files = TensorFiles { shards: Vec::new(), entries: BTreeMap::new(), folder: None, headers: Vec::new() };
        files.add(Bytes::Embedded(bytes), Path::new(name))?;
        Ok(files)
    }

    fn add(&mut self, bytes: Bytes, path: &Path) -> Result<(), ModelError> {
        let broken = |source| ModelError::Safetensors { path: path.to_owned(), source };
        let (header, metadata) = SafeTensors::read_metadata(bytes.as_slice()).map_err(broken)?;
        let start = 8 + header;
        self.headers.extend_from_slice(&bytes.as_slice()[..start]);
        for (name, info) in metadata.tensors() {
            let shape = info.shape.iter().map(|&size| size as i64).collect();
            let bytes = start + info.data_offsets.0..start + info.data_offsets.1;
            self.entries.insert(name, Entry { shard: self.shards.len(), dtype: info.dtype, shape, bytes });
        }
        self.shards.push(bytes);
        Ok(())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Whether a tensor lies in one of the mappings.
    pub fn hold(&self, tensor: &Tensor) -> bool {
        let start = tensor.data_ptr() as usize;
        self.shards.iter().any(|shard| {
            let range = shard.as_slice().as_ptr_range();
            (range.start as usize..range.end as usize).contains(&start)
        })
    }

    /// The bytes of all tensors in half precision.
    pub fn half_bytes(&self) -> usize {
        let half = |entry: &&Entry| matches!(entry.dtype, Dtype::F16 | Dtype::BF16);
        self.entries.values().filter(half).map(|entry| entry.bytes.len()).sum()
    }

    /// The names of tensors that hold something else than finite numbers, at most `most` of them. Reads every weight.
    pub fn not_finite(&self, most: usize) -> Result<Vec<String>, ModelError> {
        let mut found = Vec::new();
        for name in self.entries.keys() {
            if found.len() < most
                && self.tensor(name)?.is_some_and(|tensor| !bool::try_from(tensor.isfinite().all()).unwrap_or(true))
            {
                found.push(name.clone());
            }
        }
        Ok(found)
    }

    /// The tensor in the file's type on the CPU (f64 as f32). It may borrow the mapping: whoever keeps the tensor keeps
    /// `self` too.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, ModelError> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let unknown = || ModelError::Dtype { name: name.to_owned(), dtype: format!("{:?}", entry.dtype) };
        let kind = kind_of(entry.dtype).ok_or_else(unknown)?;
        let shard = &self.shards[entry.shard];
        let bytes = &shard.as_slice()[entry.bytes.clone()];
        let mapped = matches!(shard, Bytes::Mapped(_));
        if mapped && kind != Kind::Double && (bytes.as_ptr() as usize).is_multiple_of(kind.elt_size_in_bytes()) {
            let mut strides = vec![1; entry.shape.len()];
            for axis in (1..entry.shape.len()).rev() {
                strides[axis - 1] = strides[axis] * entry.shape[axis];
            }
            // SAFETY: the range was checked against the file's length and the shape when the header was read, floating point
            // numbers have no invalid bit patterns, the pointer is aligned, and `Model` owns the mapping next to the tensors.
            let tensor = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &entry.shape, &strides, kind, Device::Cpu) };
            return Ok(Some(tensor.map_err(ModelError::torch)?));
        }
        let tensor = Tensor::f_from_data_size(bytes, &entry.shape, kind).map_err(ModelError::torch)?;
        let kind = if kind == Kind::Double { Kind::Float } else { kind };
        Ok(Some(tensor.f_to_kind(kind).map_err(ModelError::torch)?))
    }
}

/// libtorch's name of a type of numbers that models are made of.
pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

fn shard_paths(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    if single.exists() {
        return Ok(vec![single]);
    }
    if !index.exists() {
        return Err(ModelError::NoWeights { folder: folder.to_owned() });
    }
    let text = std::fs::read(&index).map_err(|source| ModelError::read(&index, source))?;
    let shards: Vec<PathBuf> = shard_names(&text, &index)?.into_iter().map(|shard| folder.join(shard)).collect();
    match shards.iter().find(|shard| !shard.exists()) {
        None => Ok(shards),
        Some(missing) => Err(ModelError::NoShard { index, shard: missing.clone() }),
    }
}

/// The files that a `model.safetensors.index.json` names, each once, sorted; `path` is for messages.
///
/// # Errors
/// Text that is no such index, and names that lead out of the model's folder.
pub fn shard_names(text: &[u8], path: &Path) -> Result<Vec<String>, ModelError> {
    #[derive(serde::Deserialize)]
    struct ShardIndex {
        weight_map: BTreeMap<String, String>,
    }
    let index: ShardIndex =
        serde_json::from_slice(text).map_err(|source| ModelError::Json { path: path.to_owned(), source })?;
    let mut shards: Vec<String> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    let inside = |shard: &String| {
        let mut parts = Path::new(shard).components();
        matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
    };
    match shards.iter().find(|shard| !inside(shard)) {
        None if shards.is_empty() => {
            Err(ModelError::Config { path: path.to_owned(), key: "weight_map", why: "names no file".into() })
        }
        None => Ok(shards),
        Some(outside) => {
            let why = format!("names `{outside}`, which is no file of the folder");
            Err(ModelError::Config { path: path.to_owned(), key: "weight_map", why })
        }
    }
}
