//! A task looked at through a tokenizer: examples, lengths, named positions and every kind of problem, as plain data.

use super::capacity::{Capacity, capacity};
use super::expand::{Expansion, PromptPair, Split, expand};
use super::{Content, Task, TaskError};
use crate::dataset::{Bos, DatasetError, TokenPair, tokenize_each};
use crate::error::Hint;
use crate::tokenizer::{Tokenizer, TokenizerError};
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// How much to look at.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Pairs per corruption, at most.
    pub pairs: usize,
    pub seed: u64,
    /// One corruption; `None` checks all of them.
    pub corruption: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Pairs that a corruption can make in each split.
    pub capacities: Vec<SplitCapacity>,
    /// Pairs looked at, over all corruptions.
    pub pairs: usize,
    /// The first pair of every frame under every corruption.
    pub examples: Vec<Example>,
    /// Number of pairs by number of tokens; empty without a tokenizer.
    pub lengths: BTreeMap<usize, usize>,
    pub bos: Option<Bos>,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug)]
pub struct SplitCapacity {
    pub corruption: String,
    pub split: Split,
    pub capacity: Capacity,
}

#[derive(Clone, Debug)]
pub struct Example {
    pub prompt: PromptPair,
    /// Tokens, if a tokenizer was given and the pair can be used with it.
    pub tokens: Option<TokenPair>,
}

/// One kind of problem: its first occurrence, and in how many pairs it occurs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub hint: Option<String>,
    pub pairs: usize,
}

/// Expands the task under its corruptions and tokenises what comes out. Problems of single pairs are collected; an error is
/// returned only where the options do not fit the task.
pub fn check(task: &Task, tokenizer: Option<&Tokenizer>, options: &CheckOptions) -> Result<Checked, TaskError> {
    let corruptions: Vec<String> = match (&options.corruption, &task.content) {
        (Some(name), _) => vec![name.clone()],
        (None, Content::Templates(templates)) => templates.corruptions.clone(),
        (None, Content::Data(_)) => vec!["data".into()],
    };
    let (capacities, examples, lengths) = (Vec::new(), Vec::new(), BTreeMap::new());
    let mut checked = Checked { capacities, pairs: 0, examples, lengths, bos: None, problems: Vec::new() };
    let mut problems: IndexMap<String, Problem> = IndexMap::new();
    for corruption in corruptions {
        for split in [Split::Train, Split::Test] {
            let capacity = capacity(task, split, Some(&corruption))?;
            if capacity == Capacity::Exactly(0) {
                let message = format!("the {split} split is empty under corruption `{corruption}`");
                let hint = Some("give the task more words or change its [splits]".into());
                problems.insert(message.clone(), Problem { message, hint, pairs: 0 });
            }
            checked.capacities.push(SplitCapacity { corruption: corruption.clone(), split, capacity });
        }
        let pairs = as_many_as_there_are(task, options, &corruption)?;
        checked.pairs += pairs.len();
        look(task, tokenizer, &pairs, &mut checked, &mut problems);
    }
    checked.problems = problems.into_values().collect();
    Ok(checked)
}

fn as_many_as_there_are(task: &Task, options: &CheckOptions, corruption: &str) -> Result<Vec<PromptPair>, TaskError> {
    let (seed, corruption) = (options.seed, Some(corruption.to_owned()));
    let mut expansion = Expansion { split: Split::All, pairs: options.pairs, seed, corruption };
    match expand(task, &expansion) {
        Err(TaskError::TooFew { possible, .. }) if possible > 0 => {
            expansion.pairs = possible;
            expand(task, &expansion)
        }
        other => other,
    }
}

fn look(
    task: &Task,
    tokenizer: Option<&Tokenizer>,
    pairs: &[PromptPair],
    checked: &mut Checked,
    problems: &mut IndexMap<String, Problem>,
) {
    let mut tokens: Vec<Option<TokenPair>> = vec![None; pairs.len()];
    if let Some(tokenizer) = tokenizer {
        for (result, tokens) in tokenize_each(pairs, tokenizer, task.bos).zip(&mut tokens) {
            match result {
                Ok((pair, bos)) => {
                    *checked.lengths.entry(pair.len()).or_default() += 1;
                    checked.bos = Some(bos);
                    *tokens = Some(pair);
                }
                Err(error) => {
                    let first = || Problem { message: error.to_string(), hint: error.hint(), pairs: 0 };
                    problems.entry(kind(&error)).or_insert_with(first).pairs += 1;
                }
            }
        }
    }
    for (prompt, tokens) in pairs.iter().zip(tokens) {
        let known =
            |example: &Example| example.prompt.frame == prompt.frame && example.prompt.corruption == prompt.corruption;
        if task_has_frames(task) && checked.examples.iter().any(known) || checked.examples.len() >= 100 {
            continue;
        }
        if !task_has_frames(task) && checked.examples.len() >= 3 {
            break;
        }
        checked.examples.push(Example { prompt: prompt.clone(), tokens });
    }
}

fn task_has_frames(task: &Task) -> bool {
    matches!(task.content, Content::Templates(_))
}

/// Problems that have one cause count as one: the answer, or the frame and its corruption.
fn kind(error: &DatasetError) -> String {
    match error {
        DatasetError::Answer { cause: TokenizerError::SeveralTokens { text, .. }, .. }
        | DatasetError::Answer { cause: TokenizerError::Unknown { text, .. }, .. } => format!("answer {text}"),
        DatasetError::Lengths { frame, corruption, .. } => format!("lengths {frame} {corruption}"),
        DatasetError::Unchanged { frame, corruption, .. } => format!("unchanged {frame} {corruption}"),
        DatasetError::RightIsWrong { token, .. } => format!("right is wrong {token}"),
        DatasetError::Tokenizer(TokenizerError::Unknown { .. }) => "unknown words".into(),
        other => other.to_string(),
    }
}
