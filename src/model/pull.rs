//! Downloads a model into the local Hugging Face cache, resuming what was cut off.

use super::hub::RepoId;
use crate::error::Hint;
use hf_hub::api::Progress;
use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use std::path::PathBuf;

/// Where and how to download.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hub {
    pub cache: PathBuf,
    pub endpoint: String,
    pub token: Option<String>,
}

/// Why a download failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("the hub has no {0}, or not for everybody")]
    NotFound(RepoId),
    #[error("the hub refuses {0}")]
    Refused(RepoId),
    #[error("{0} has no safetensors weights")]
    NoSafetensors(RepoId),
    #[error("{file} of {repo}: {message}")]
    Broken { repo: RepoId, file: String, message: String },
}

impl Hint for PullError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            PullError::NotFound(_) => "check the name; a private or gated model needs HF_TOKEN".into(),
            PullError::Refused(_) => "set HF_TOKEN to a token of an account that has accepted the model's terms".into(),
            PullError::NoSafetensors(_) => {
                "convert it with transformers' save_pretrained, and name the folder instead".into()
            }
            PullError::Broken { .. } => "run the command again: what has arrived is kept".into(),
        })
    }
}

/// How often a broken connection is taken up again by itself.
const RETRIES: usize = 3;

/// Whether a model needs this file of its repository.
fn needed(file: &str) -> bool {
    let named = ["config.json", "generation_config.json", "special_tokens_map.json", "model.safetensors.index.json"];
    !file.contains('/')
        && (named.contains(&file)
            || (file.starts_with("tokenizer") && file.ends_with(".json"))
            || (file.starts_with("model") && file.ends_with(".safetensors")))
}

/// Downloads what a model needs; what is there already stays. `progress` is told the file, how many of its bytes have
/// arrived, and how many it has.
///
/// # Errors
/// [`PullError`]; files and parts of files that have arrived are kept for the next attempt.
pub fn pull(hub: &Hub, repo: &RepoId, progress: &mut dyn FnMut(&str, usize, usize)) -> Result<(), PullError> {
    let cache = Cache::new(hub.cache.clone());
    let api = ApiBuilder::from_cache(cache.clone())
        .with_endpoint(hub.endpoint.clone())
        .with_token(hub.token.clone())
        .with_retries(RETRIES)
        .with_progress(false)
        .build()
        .map_err(|error| failed(repo, "the repository", &error))?;
    let named = Repo::with_revision(repo.name.clone(), RepoType::Model, repo.revision.clone());
    let api = api.repo(named.clone());
    let info = api.info().map_err(|error| failed(repo, "the list of files", &error))?;
    let files: Vec<String> = info.siblings.into_iter().map(|file| file.rfilename).filter(|file| needed(file)).collect();
    if !files.iter().any(|file| file.ends_with(".safetensors")) {
        return Err(PullError::NoSafetensors(repo.clone()));
    }
    let snapshot = cache.repo(named).pointer_path(&info.sha);
    for file in files.into_iter().filter(|file| !snapshot.join(file).exists()) {
        let told = Told { progress, file: file.clone(), gone: 0, size: 0 };
        api.download_with_progress(&file, told).map_err(|error| failed(repo, &file, &error))?;
    }
    Ok(())
}

/// The crate's way of telling progress, as ours.
struct Told<'a> {
    progress: &'a mut dyn FnMut(&str, usize, usize),
    file: String,
    gone: usize,
    size: usize,
}

impl Progress for Told<'_> {
    fn init(&mut self, size: usize, _: &str) {
        (self.gone, self.size) = (0, size);
    }

    fn update(&mut self, more: usize) {
        self.gone += more;
        (self.progress)(&self.file, self.gone, self.size);
    }

    fn finish(&mut self) {}
}

fn failed(repo: &RepoId, file: &str, error: &ApiError) -> PullError {
    let status = match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    };
    match status {
        Some(401 | 404) => PullError::NotFound(repo.clone()),
        Some(403) => PullError::Refused(repo.clone()),
        _ => PullError::Broken { repo: repo.clone(), file: file.to_owned(), message: error.to_string() },
    }
}
