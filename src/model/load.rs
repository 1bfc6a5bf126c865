//! `MODEL` on the command line to a model that runs: an embedded toy's name or a Hugging Face folder.

use super::build::Origin;
use super::hub::{self, HubError, RepoId};
use super::safetensors::TensorFiles;
use super::weights::Model;
use super::{embedded, family};
use crate::error::{Hint, nearest};
use crate::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use tch::{Device, Kind};

/// A model with what came beside its weights.
pub struct Loaded {
    pub model: Model,
    pub tokenizer: Tokenizer,
    /// The toy's name or the folder's, for reports.
    pub id: String,
    /// Hash (blake3) of `config.json` and the headers of the weight files.
    pub config_hash: String,
}

/// How a model is loaded.
#[derive(Clone, PartialEq, Debug)]
pub struct LoadOptions {
    pub device: Device,
    pub dtype: Dtype,
    /// The Hugging Face cache, in which names such as `org/name` are looked up.
    pub cache: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { device: Device::Cpu, dtype: Dtype::Auto, cache: None }
    }
}

/// The type that matrices are kept in. They are multiplied in f32, or in f64 if they are kept in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dtype {
    /// As the checkpoint has them; half precision is widened once if that takes no more than [`WIDENED`].
    #[default]
    Auto,
    /// For telling rounding from mistakes: twice the memory and time of f32.
    F64,
    F32,
    F16,
    Bf16,
}

/// Below this many bytes in f32, widening once costs less than widening at every use.
const WIDENED: usize = 1 << 30;

impl Dtype {
    fn kind(self, files: &TensorFiles) -> Option<Kind> {
        match self {
            Dtype::Auto => (2 * files.half_bytes() <= WIDENED).then_some(Kind::Float),
            Dtype::F64 => Some(Kind::Double),
            Dtype::F32 => Some(Kind::Float),
            Dtype::F16 => Some(Kind::Half),
            Dtype::Bf16 => Some(Kind::BFloat16),
        }
    }
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("no model is called `{name}`, and there is no such folder")]
    Unknown { name: String, near: Option<String> },
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{}: `{key}` {why}", path.display())]
    Config { path: PathBuf, key: &'static str, why: String },
    #[error("models of family `{family}` are not supported")]
    Family { family: String, near: &'static str },
    #[error("{} names {}, which is not there", index.display(), shard.display())]
    NoShard { index: PathBuf, shard: PathBuf },
    #[error("no weights in {}", folder.display())]
    NoWeights { folder: PathBuf },
    #[error("{} is damaged or not a safetensors file: {source}", path.display())]
    Safetensors { path: PathBuf, source: safetensors::SafeTensorError },
    #[error("the weights do not fit the config{}", tensor_list(missing, misshapen, unexpected))]
    Tensors { missing: Vec<String>, misshapen: Vec<String>, unexpected: Vec<String> },
    #[error("tensor {name} has type {dtype}, which is not supported")]
    Dtype { name: String, dtype: String },
    #[error("{}: {source}", path.display())]
    Tokenizer { path: PathBuf, source: crate::Error },
    #[error("the tokenizer has a token {token:?} with id {id}, and the model embeds only {model}")]
    Vocabulary { token: String, id: u32, model: usize },
    #[error("libtorch: {0}")]
    Torch(String),
}

impl ModelError {
    pub(crate) fn read(path: &Path, source: std::io::Error) -> ModelError {
        ModelError::Read { path: path.to_owned(), source }
    }

    /// libtorch's message without its C++ backtrace.
    pub(crate) fn torch(error: tch::TchError) -> ModelError {
        let text = error.to_string();
        let text = text.split("Exception raised from").next().unwrap_or_default();
        ModelError::Torch(text.trim().to_owned())
    }
}

fn tensor_list(missing: &[String], misshapen: &[String], unexpected: &[String]) -> String {
    let mut text = String::new();
    for (label, names) in [("missing", missing), ("wrong shape", misshapen), ("unexpected", unexpected)] {
        for name in names.iter().take(8) {
            text.push_str(&format!("\n  {label}: {name}"));
        }
        if names.len() > 8 {
            text.push_str(&format!("\n  {label}: and {} more", names.len() - 8));
        }
    }
    text
}

impl Hint for ModelError {
    fn hint(&self) -> Option<String> {
        let toys = || embedded::MODELS.iter().map(|toy| toy.name).collect::<Vec<_>>().join(", ");
        Some(match self {
            ModelError::Unknown { near: Some(near), .. } => format!("did you mean `{near}`?"),
            ModelError::Unknown { near: None, name } => {
                let of_hub = match RepoId::parse(name) {
                    Ok(repo) => format!("; if it is one of the hub, {}", hub::fetch(&repo)),
                    Err(_) => String::new(),
                };
                format!("name an embedded model ({}), a folder with config.json, model.safetensors and tokenizer.json, or a model of the hub{of_hub}", toys())
            }
            ModelError::Hub(error) => return error.hint(),
            ModelError::Read { path, .. } => format!(
                "a model folder holds config.json, model.safetensors (or its index) and tokenizer.json; look into {}",
                path.parent().unwrap_or(path).display()
            ),
            ModelError::Json { .. } | ModelError::Config { .. } => {
                "the file should be the one that was saved with the weights".into()
            }
            ModelError::Family { near, .. } => format!("the nearest supported family is `{near}`"),
            ModelError::NoWeights { .. } => {
                "penjing reads model.safetensors or model.safetensors.index.json; convert older checkpoints with transformers' save_pretrained".into()
            }
            ModelError::NoShard { .. } => "fetch the model again: the download is not complete".into(),
            ModelError::Safetensors { .. } => "fetch the file again: a download that was cut off looks like this".into(),
            ModelError::Tensors { .. } => "config.json and the weights must come from the same checkpoint".into(),
            ModelError::Dtype { .. } => "save the model as float32, float16 or bfloat16".into(),
            ModelError::Tokenizer { source, .. } => return source.hint(),
            ModelError::Vocabulary { .. } => "tokenizer.json and the weights must come from the same checkpoint".into(),
            ModelError::Torch(_) => "`penjing doctor` shows which libtorch is in use".into(),
        })
    }
}

/// [`load_with`] the default options: on the CPU.
///
/// # Errors
/// As [`load_with`].
pub fn load(name: &str) -> Result<Loaded, ModelError> {
    load_with(name, &LoadOptions::default())
}

/// Loads an embedded toy model or a folder.
///
/// # Errors
/// [`ModelError`]: nothing of that name, or files that are missing, damaged or do not fit each other.
pub fn load_with(name: &str, options: &LoadOptions) -> Result<Loaded, ModelError> {
    if let Some(toy) = embedded::find(name) {
        let files = TensorFiles::embedded(toy.weights, toy.name)?;
        let tokenizer = Tokenizer::from_bytes(toy.tokenizer);
        return assemble(toy.config, files, tokenizer, name.to_owned(), Path::new(name), options);
    }
    let (folder, id) = folder_of(name, options.cache.as_deref())?;
    let config_path = folder.join("config.json");
    let config = std::fs::read(&config_path).map_err(|source| ModelError::read(&config_path, source))?;
    let tokenizer = Tokenizer::from_folder(&folder);
    family::read(&config, &config_path)?;
    assemble(&config, TensorFiles::open(&folder)?, tokenizer, id, &folder, options)
}

/// The folder of a model and what to call it: a path, or a name in the Hugging Face cache.
fn folder_of(name: &str, cache: Option<&Path>) -> Result<(PathBuf, String), ModelError> {
    let folder = Path::new(name);
    if folder.is_dir() {
        let whole = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
        let id = whole.file_name().map_or_else(|| name.to_owned(), |id| id.to_string_lossy().into_owned());
        return Ok((folder.to_owned(), id));
    }
    // A word without a slash is a repository only if the cache has it; otherwise it is more likely a slip.
    if let (Some(cache), Ok(repo)) = (cache, RepoId::parse(name))
        && (repo.name.contains('/') || repo.is_in(cache))
    {
        return Ok((hub::find(cache, &repo)?, repo.to_string()));
    }
    let near = nearest(name, embedded::MODELS.iter().map(|toy| toy.name)).map(str::to_owned);
    Err(ModelError::Unknown { name: name.to_owned(), near })
}

/// The tokenizer of a model alone, for checking tasks without loading weights. `cache`: the Hugging Face cache.
///
/// # Errors
/// As [`load_with`].
pub fn load_tokenizer(name: &str, cache: Option<&Path>) -> Result<Tokenizer, ModelError> {
    if let Some(toy) = embedded::find(name) {
        return Tokenizer::from_bytes(toy.tokenizer)
            .map_err(|source| ModelError::Tokenizer { path: name.into(), source: source.into() });
    }
    let (folder, _) = folder_of(name, cache)?;
    Tokenizer::from_folder(&folder)
        .map_err(|source| ModelError::Tokenizer { path: folder.join("tokenizer.json"), source: source.into() })
}

fn assemble<E: Into<crate::Error>>(
    config: &[u8],
    files: TensorFiles,
    tokenizer: Result<Tokenizer, E>,
    id: String,
    folder: &Path,
    options: &LoadOptions,
) -> Result<Loaded, ModelError> {
    let (spec, layout) = family::read(config, &folder.join("config.json"))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(config);
    hasher.update(&files.headers);
    let config_hash = hasher.finalize().to_hex().to_string();
    let kind = options.dtype.kind(&files);
    let model = Model::build(spec, &layout, Origin::Files { files, kind }, options.device)?;
    let tokenizer = tokenizer
        .map_err(|source| ModelError::Tokenizer { path: folder.join("tokenizer.json"), source: source.into() })?;
    match tokenizer.last_token() {
        Some((token, id)) if id as usize >= model.spec.vocab => {
            return Err(ModelError::Vocabulary { token, id, model: model.spec.vocab });
        }
        _ => {}
    }
    Ok(Loaded { model, tokenizer, id, config_hash })
}
