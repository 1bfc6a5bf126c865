//! `penjing model list` and `penjing model pull`, and what the environment says about the Hugging Face cache.

use super::Ended;
#[cfg(feature = "hub")]
use super::progress::Progress;
use super::term::{print, print_json};
use comfy_table::Table;
use penjing::measure::memory::in_words;
use penjing::model::hub::{self, RepoId};
use penjing::model::{embedded, family};
use serde_json::json;
use std::path::PathBuf;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where Hugging Face's tools keep what they share: HF_HOME.
fn home() -> Option<PathBuf> {
    let of_cache = || variable("XDG_CACHE_HOME").map(PathBuf::from);
    let of_user = || std::env::home_dir().map(|home| home.join(".cache"));
    variable("HF_HOME").map(PathBuf::from).or_else(|| Some(of_cache().or_else(of_user)?.join("huggingface")))
}

/// The cache of models: HF_HUB_CACHE, else `hub` in HF_HOME.
pub fn cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home()?.join("hub")))
}

pub fn list(as_json: bool) -> anyhow::Result<Ended> {
    let cached = cache().map(|cache| hub::list(&cache)).unwrap_or_default();
    let supported = |family: Option<&str>| family.is_some_and(|family| family::names().any(|name| name == family));
    if as_json {
        let toys = embedded::MODELS.iter().map(|toy| {
            json!({"id": toy.name, "family": "gpt2", "bytes": toy.weights.len(), "embedded": true, "supported": true})
        });
        let cached = cached.iter().map(|model| {
            json!({
                "id": model.repo.to_string(), "family": model.family, "bytes": model.bytes, "embedded": false,
                "supported": supported(model.family.as_deref()), "missing": model.missing,
            })
        });
        print_json(&json!({"cache": cache(), "models": toys.chain(cached).collect::<Vec<_>>()}))?;
        return Ok(Ended::Done);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["model", "family", "size", ""]);
    for toy in embedded::MODELS {
        table.add_row([toy.name, "gpt2", &in_words(toy.weights.len()), "embedded"]);
    }
    for model in &cached {
        let state = match (&model.missing, supported(model.family.as_deref())) {
            (Some(missing), _) => format!("incomplete: {missing} is missing"),
            (None, false) => "not a supported family".to_owned(),
            (None, true) => "in the cache".to_owned(),
        };
        let family = model.family.clone().unwrap_or_default();
        table.add_row([model.repo.to_string(), family, in_words(model.bytes as usize), state]);
    }
    print(&table.to_string())?;
    Ok(Ended::Done)
}

#[cfg(not(feature = "hub"))]
pub fn pull(name: &str, _: bool) -> anyhow::Result<Ended> {
    let repo = RepoId::parse(name).map_err(penjing::Error::from)?;
    let cache = cache().unwrap_or_default();
    // The hint of the error is the command to run.
    hub::find(&cache, &repo).map_err(penjing::Error::from)?;
    print(&format!("{repo} is in the cache already"))?;
    Ok(Ended::Done)
}

#[cfg(feature = "hub")]
pub fn pull(name: &str, as_json: bool) -> anyhow::Result<Ended> {
    use penjing::model::pull::{Hub, pull};
    let repo = RepoId::parse(name).map_err(penjing::Error::from)?;
    let Some(cache) = cache() else {
        let message = "there is no home folder to keep models in".to_owned();
        return Err(super::term::Usage { message, hint: "set HF_HOME to a folder".into() }.into());
    };
    if variable("HF_HUB_OFFLINE").is_some_and(|value| !matches!(value.as_str(), "0" | "false" | "no" | "off")) {
        let folder = hub::find(&cache, &repo).map_err(penjing::Error::from)?;
        print(&format!(
            "{repo} is in the cache, and HF_HUB_OFFLINE forbids to look for a newer one: {}",
            folder.display()
        ))?;
        return Ok(Ended::Done);
    }
    let token_file = || std::fs::read_to_string(home()?.join("token")).ok().map(|token| token.trim().to_owned());
    let access = Hub {
        cache: cache.clone(),
        endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
        token: variable("HF_TOKEN").or_else(token_file).filter(|token| !token.is_empty()),
    };
    let progress = Progress::bar("downloading");
    pull(&access, &repo, &mut |file, gone, size| {
        progress.say(file);
        progress.set(gone as f64 / size.max(1) as f64);
    })
    .map_err(penjing::Error::from)?;
    drop(progress);
    let folder = hub::find(&cache, &repo).map_err(penjing::Error::from)?;
    if as_json {
        print_json(&json!({"id": repo.to_string(), "folder": folder}))?;
    } else {
        print(&format!("{repo}: {}", folder.display()))?;
    }
    Ok(Ended::Done)
}
