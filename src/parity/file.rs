//! The files of a parity folder: `expected.json` and `pairs.jsonl`.

use crate::dataset::{self, Dataset, DatasetError};
use crate::error::{FileError, Hint};
use crate::measure::memory::MemoryError;
use crate::model::Loaded;
use crate::score::ScoreError;
use crate::task::PromptPair;
use indexmap::IndexMap;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {message}", path.display())]
    Content { path: PathBuf, message: String },
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Score(#[from] ScoreError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Hint for ParityError {
    fn hint(&self) -> Option<String> {
        match self {
            ParityError::File(error) => {
                error.hint().or(Some("a parity folder holds expected.json and pairs.jsonl beside the model".into()))
            }
            ParityError::Content { .. } => Some("docs/models.md says what a parity file holds".into()),
            ParityError::Dataset(error) => error.hint(),
            ParityError::Score(error) => error.hint(),
            ParityError::Memory(error) => error.hint(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Expected {
    pub logits: Option<Vec<Vec<f64>>>,
    pub corrupt_logits: Option<Vec<Vec<f64>>>,
    #[serde(default)]
    pub sites: IndexMap<String, Vec<Vec<f64>>>,
    #[serde(default)]
    pub scores: IndexMap<String, IndexMap<String, Option<f64>>>,
    #[serde(default)]
    pub faithfulness: IndexMap<String, IndexMap<String, (usize, f64)>>,
}

#[derive(Deserialize)]
struct Pair {
    clean: String,
    corrupt: String,
    answer: OneOrMore,
    wrong: OneOrMore,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts,
        }
    }
}

/// What a parity file holds.
///
/// # Errors
/// [`ParityError`] when it is missing or malformed.
pub(super) fn expected(path: &Path) -> Result<Expected, ParityError> {
    let text = std::fs::read_to_string(path).map_err(FileError::reading(path))?;
    serde_json::from_str(&without_nan(&text))
        .map_err(|error| ParityError::Content { path: path.to_owned(), message: error.to_string() })
}

/// The pairs of a parity folder as tokens of its model.
///
/// # Errors
/// [`ParityError`] when the file is missing, malformed, or does not fit the tokenizer.
pub fn pairs(folder: &Path, loaded: &Loaded) -> Result<Dataset, ParityError> {
    let path = folder.join("pairs.jsonl");
    let text = std::fs::read_to_string(&path).map_err(FileError::reading(&path))?;
    let mut pairs = Vec::new();
    for (line, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let pair: Pair = serde_json::from_str(text).map_err(|error| ParityError::Content {
            path: path.clone(),
            message: format!("line {}: {error}", line + 1),
        })?;
        pairs.push(PromptPair {
            clean: pair.clean,
            corrupt: pair.corrupt,
            right: pair.answer.all(),
            wrong: pair.wrong.all(),
            ..PromptPair::default()
        });
    }
    let dataset = dataset::tokenize(&pairs, &loaded.tokenizer, None)?;
    dataset.check_fits(&loaded.model.spec, &loaded.tokenizer)?;
    Ok(dataset)
}

/// Python writes numbers that are none as `NaN`, which is no JSON: outside of strings, `null` in its place.
fn without_nan(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut in_string = false;
    // A quote inside a string is escaped, and then the part before it ends in an odd number of backslashes.
    for part in text.split_inclusive('"') {
        whole.push_str(&if in_string { part.to_owned() } else { part.replace("NaN", "null") });
        let before = part.strip_suffix('"').unwrap_or(part);
        let escaped = in_string && (before.len() - before.trim_end_matches('\\').len()) % 2 == 1;
        in_string ^= !escaped;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::without_nan;

    #[test]
    fn numbers_that_are_none_are_null_outside_of_strings() {
        let check = |text: &str, expected: &str| assert_eq!(without_nan(text), expected);
        check("[1, NaN]", "[1, null]");
        check(r#"{"NaN": NaN, "a\"NaN": [NaN]}"#, r#"{"NaN": null, "a\"NaN": [null]}"#);
        check(r#"{"ends in \\": NaN}"#, r#"{"ends in \\": null}"#);
    }
}
