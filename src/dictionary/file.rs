//! Reads a dictionary of any format that is known; the files themselves say which it is.

use super::{Dictionary, DictionaryError, gemma_scope, native, sae_lens, sparsify};
use crate::error::FileError;
use std::path::Path;

/// A file of this project, a folder of SAELens or sparsify (or its safetensors file), or `params.npz` of Gemma Scope.
///
/// # Errors
/// [`DictionaryError`].
pub fn read(path: &Path) -> Result<Dictionary, DictionaryError> {
    let kind = std::fs::metadata(path).map_err(FileError::reading(path))?;
    if kind.is_dir() {
        for (file, read) in [
            (sae_lens::WEIGHTS, sae_lens::read as fn(&Path) -> _),
            (sparsify::WEIGHTS, sparsify::read),
            (gemma_scope::WEIGHTS, |folder: &Path| gemma_scope::read(&folder.join(gemma_scope::WEIGHTS))),
        ] {
            if path.join(file).exists() {
                return read(path);
            }
        }
        let why = "the folder has no sae_weights.safetensors, sae.safetensors or params.npz".into();
        return Err(DictionaryError::None { path: path.to_owned(), why });
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("."));
    match name {
        sae_lens::WEIGHTS if folder.join("cfg.json").exists() => sae_lens::read(folder),
        sparsify::WEIGHTS if folder.join("cfg.json").exists() => sparsify::read(folder),
        name if name.ends_with(".npz") => gemma_scope::read(path),
        _ => native::read(path),
    }
}
