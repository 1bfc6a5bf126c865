//! What can go wrong once a plan meets a prompt and a forward pass.

use super::check::PlanError;
use super::position::PositionError;
use super::slice::site_name;
use crate::error::{Hint, nearest};
use crate::model::site::Site;
use crate::model::spec::Layer;
use std::cell::RefCell;
use std::collections::BTreeSet;
use tch::TchError;

/// A plan or a probe that cannot run, or that ran and did not do all it says.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("`{action}`: {error}")]
    Position { action: String, error: PositionError },
    #[error("a batch of prompts of different length cannot run together ({shorter} and {longer} tokens)")]
    Lengths { shorter: usize, longer: usize },
    #[error("`{action}`: {prompts} prompts were given for a batch of {rows}")]
    Batch { action: String, prompts: usize, rows: usize },
    #[error("`{action}`: there is no prompt `{prompt}`")]
    NoPrompt { action: String, prompt: String, known: Vec<String> },
    #[error("`{action}`: `{site}` was not recorded")]
    NotRecorded { action: String, site: String },
    #[error("`{action}`: features are not read here")]
    NoFeatures { action: String },
    #[error("`{action}`: the source gives {source_count} positions for {target_count}")]
    PositionCount { action: String, target_count: usize, source_count: usize },
    #[error("`{action}`: the source was recorded at positions {first} to {last} and not at {position}")]
    SourcePosition { action: String, position: usize, first: usize, last: usize },
    #[error("`{action}`: no mean of `{site}` was given")]
    NoMean { action: String, site: String },
    #[error("`{action}`: the mean of `{site}` has the sizes {sizes:?}, not {wanted:?}")]
    MeanShape { action: String, site: String, sizes: Vec<i64>, wanted: Vec<i64> },
    #[error("the vector `{name}` {problem}")]
    Vector { name: String, problem: &'static str },
    #[error("`{action}`: a pass of {length} positions cannot end before position {end}")]
    PassLength { action: String, length: usize, end: usize },
    #[error("`{action}` touched nothing: the run had no site `{site}`")]
    NoSite { action: String, site: String, nearest: Option<String> },
    #[error("`{action}` did not touch all it says: `{site}` was not computed at position {position}")]
    NotReached { action: String, site: String, position: usize, computed: String },
    #[error("`{site}` was announced twice to one recording")]
    Twice { site: String },
    #[error("{0}")]
    Torch(String),
}

impl RunError {
    /// libtorch's message without the C++ backtrace.
    pub(crate) fn torch(error: TchError) -> RunError {
        let text = error.to_string();
        let message = text.split("Exception raised from").next().unwrap_or(&text);
        RunError::Torch(message.trim().trim_end_matches('.').to_string())
    }
}

impl Hint for RunError {
    fn hint(&self) -> Option<String> {
        match self {
            RunError::Plan(error) => error.hint(),
            RunError::Position { error, .. } => error.hint(),
            RunError::Lengths { .. } => Some("run prompts of one length at a time".into()),
            RunError::NoPrompt { prompt, known, .. } => match nearest(prompt, known.iter().map(String::as_str)) {
                Some(near) => Some(format!("did you mean `@{near}`?")),
                None if known.is_empty() => Some("no other prompts were given to this run".into()),
                None => Some(format!("the prompts given are {}", known.join(", "))),
            },
            RunError::NotRecorded { .. } => {
                Some("record the sites that `Plan::sources` lists before the edited run".into())
            }
            RunError::NoFeatures { .. } => Some("read the site that the dictionary is of".into()),
            RunError::PositionCount { .. } => {
                Some("name as many positions in the source as in the target, or one for all".into())
            }
            RunError::SourcePosition { .. } => {
                Some("name positions that the source has, such as `:prompt` where tokens are generated".into())
            }
            RunError::NoMean { .. } => Some("compute the mean over a dataset first, or use `zero`".into()),
            RunError::NoSite { nearest, .. } => nearest.as_ref().map(|site| format!("the nearest site is `{site}`")),
            RunError::NotReached { site, computed, .. } => Some(format!("`{site}` was computed at {computed}")),
            RunError::Twice { .. } => Some("use a new recording for each pass".into()),
            _ => None,
        }
    }
}

/// The sites that a forward pass offered.
#[derive(Default)]
pub(super) struct Announced(RefCell<BTreeSet<Site>>);

impl Announced {
    pub fn note(&self, site: Site) {
        self.0.borrow_mut().insert(site);
    }

    /// The error for a site that was never offered: it names the same part of the nearest layer, or a similar name.
    pub fn missing(&self, action: &str, site: Site) -> RunError {
        let seen = self.0.borrow();
        let alike = |other: &&Site| std::mem::discriminant(*other) == std::mem::discriminant(&site);
        let near = seen.iter().filter(alike).min_by_key(|other| layer(**other).abs_diff(layer(site)));
        let names: Vec<String> = seen.iter().copied().map(site_name).collect();
        let near = near.copied().map(site_name);
        let wanted = site_name(site);
        let near = near.or_else(|| nearest(&wanted, names.iter().map(String::as_str)).map(str::to_string));
        RunError::NoSite { action: action.into(), site: wanted, nearest: near.or_else(|| names.first().cloned()) }
    }
}

fn layer(site: Site) -> usize {
    use Site::*;
    match site {
        BlockIn(Layer(l)) | AttentionIn(Layer(l), _) | Projection(Layer(l), _) | Pattern(Layer(l)) | Z(Layer(l)) => l,
        HeadOut(Layer(l)) | AttentionOut(Layer(l)) | Mid(Layer(l)) | MlpIn(Layer(l)) | MlpPre(Layer(l)) => l,
        PerQueryHead(Layer(l), _) | HeadSum(Layer(l)) => l,
        MlpPost(Layer(l)) | MlpOut(Layer(l)) | BlockOut(Layer(l)) => l,
        TokenEmbedding | FinalIn | Logits => 0,
    }
}
