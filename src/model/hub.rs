//! Models in the local Hugging Face cache, by the names that the hub gives them.
//!
//! The cache holds `models--org--name/refs/REVISION`, a file with a commit hash, and `models--org--name/snapshots/HASH/`,
//! the folder of that commit.

use crate::error::{FileError, Hint};
use std::fmt;
use std::path::{Path, PathBuf};

/// A repository of the hub and one of its revisions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepoId {
    pub name: String,
    /// A branch, a tag or a commit hash.
    pub revision: String,
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            "main" => f.write_str(&self.name),
            revision => write!(f, "{}@{revision}", self.name),
        }
    }
}

/// Why a name of the hub leads to no model.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("`{0}` is not the name of a repository")]
    Name(String),
    #[error("{repo} is not in the local cache, {}", cache.display())]
    Absent { repo: RepoId, cache: PathBuf },
    #[error("the local cache has no revision `{}` of {}", repo.revision, repo.name)]
    Revision { repo: RepoId, known: Vec<String> },
    #[error("{repo} in the local cache is incomplete: {missing} is missing")]
    Incomplete { repo: RepoId, missing: String },
    #[error(transparent)]
    File(#[from] FileError),
}

/// The command that fetches a repository with the tools that most users have.
pub(super) fn fetch(repo: &RepoId) -> String {
    let revision = if repo.revision == "main" { String::new() } else { format!(" --revision {}", repo.revision) };
    let ours = if cfg!(feature = "hub") { format!("`penjing model pull {repo}`, or ") } else { String::new() };
    format!("fetch it with {ours}`hf download {}{revision} --include '*.json' '*.safetensors'`", repo.name)
}

impl Hint for HubError {
    fn hint(&self) -> Option<String> {
        match self {
            HubError::Name(_) => Some("names are written org/name or org/name@revision".into()),
            HubError::Absent { repo, .. } | HubError::Incomplete { repo, .. } => Some(fetch(repo)),
            HubError::Revision { repo, known } if known.is_empty() => Some(fetch(repo)),
            HubError::Revision { repo, known } => Some(format!("it has {}; or {}", known.join(", "), fetch(repo))),
            HubError::File(error) => error.hint(),
        }
    }
}

impl RepoId {
    /// Reads `org/name` or `org/name@revision`; the oldest repositories, such as `gpt2`, have no `org/`.
    ///
    /// # Errors
    /// [`HubError::Name`] for anything else.
    pub fn parse(text: &str) -> Result<RepoId, HubError> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let part = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.') && !part.contains("--")
        };
        let inside = |revision: &str| {
            !revision.is_empty() && revision.split('/').all(|step| !step.is_empty() && step != "." && step != "..")
        };
        let named = match name.split_once('/') {
            Some((org, model)) => part(org) && part(model),
            None => part(name),
        };
        if named && inside(revision) {
            Ok(RepoId { name: name.to_owned(), revision: revision.to_owned() })
        } else {
            Err(HubError::Name(text.to_owned()))
        }
    }

    /// Whether the cache has any revision of it.
    pub fn is_in(&self, cache: &Path) -> bool {
        self.folder(cache).is_dir()
    }

    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.name.replace('/', "--")))
    }
}

/// The folder of a repository's revision in the cache, with a whole model in it.
///
/// # Errors
/// [`HubError`] when it is not there, or only a part of it.
pub fn find(cache: &Path, repo: &RepoId) -> Result<PathBuf, HubError> {
    if !repo.is_in(cache) {
        return Err(HubError::Absent { repo: repo.clone(), cache: cache.to_owned() });
    }
    let folder = repo.folder(cache);
    let reference = folder.join("refs").join(&repo.revision);
    let hash = match std::fs::read_to_string(&reference) {
        Ok(hash) => hash.trim().to_owned(),
        // A revision may be named by its hash.
        Err(_) => repo.revision.clone(),
    };
    let snapshot = folder.join("snapshots").join(&hash);
    let whole_name = !hash.is_empty() && !hash.contains(['/', '\\']) && hash != "..";
    if !whole_name || !snapshot.is_dir() {
        let known = revisions(&folder).into_iter().map(|(name, _)| name).collect();
        return Err(HubError::Revision { repo: repo.clone(), known });
    }
    match missing(&snapshot)? {
        None => Ok(snapshot),
        Some(missing) => Err(HubError::Incomplete { repo: repo.clone(), missing }),
    }
}

/// The first file that a model needs and the snapshot does not have.
fn missing(snapshot: &Path) -> Result<Option<String>, HubError> {
    for name in ["config.json", "tokenizer.json"] {
        if !snapshot.join(name).exists() {
            return Ok(Some(name.to_owned()));
        }
    }
    if snapshot.join("model.safetensors").exists() {
        return Ok(None);
    }
    let index = snapshot.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(Some("model.safetensors".to_owned()));
    }
    let text = std::fs::read(&index).map_err(FileError::reading(&index))?;
    // A malformed index is reported when the model is loaded.
    let shards = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let shards = shards.as_ref().and_then(|index| index.get("weight_map")?.as_object());
    let mut names = shards.into_iter().flat_map(|shards| shards.values()).filter_map(serde_json::Value::as_str);
    Ok(names.find(|name| !snapshot.join(name).exists()).map(str::to_owned))
}

/// The revisions of a repository's folder by name, each with its snapshot.
fn revisions(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for reference in walk(&folder.join("refs")) {
        let (Ok(name), Ok(hash)) = (reference.strip_prefix(folder.join("refs")), std::fs::read_to_string(&reference))
        else {
            continue;
        };
        found.push((name.to_string_lossy().into_owned(), folder.join("snapshots").join(hash.trim())));
    }
    found
}

/// The files under a folder, at any depth, in order of their names.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|entry| if entry.is_dir() { walk(&entry) } else { vec![entry] }).collect()
}

/// A model of the cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cached {
    pub repo: RepoId,
    /// `model_type` of its config.
    pub family: Option<String>,
    pub bytes: u64,
    /// The first file that is missing, of those that are needed.
    pub missing: Option<String>,
}

/// Every revision of every model in the cache, by name.
pub fn list(cache: &Path) -> Vec<Cached> {
    let mut found = Vec::new();
    let folders = std::fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = folders.collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().map(|name| name.to_string_lossy().replace("--", "/")).unwrap_or_default();
        let Some(name) = name.strip_prefix("models/") else { continue };
        for (revision, snapshot) in revisions(&folder).into_iter().filter(|(_, snapshot)| snapshot.is_dir()) {
            let config = std::fs::read(snapshot.join("config.json")).ok();
            let config = config.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            found.push(Cached {
                repo: RepoId { name: name.to_owned(), revision },
                family: config.and_then(|config| Some(config.get("model_type")?.as_str()?.to_owned())),
                bytes: walk(&snapshot).iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum(),
                missing: missing(&snapshot).ok().flatten(),
            });
        }
    }
    found
}
