//! Texts and prompts from files and tasks, as the commands that look inside take them.

use super::options::BosArgument;
use super::term::{Usage, note};
use clap::Args;
use penjing::error::FileError;
use penjing::inside::corpus::Corpus;
use penjing::model::Loaded;
use penjing::task::{self, Expansion, PromptPair, Split};
use std::path::{Path, PathBuf};

/// A text to read: a file, or prompts of tasks.
#[derive(Args, Clone)]
pub struct Reading {
    /// A text file; an empty line ends a text
    #[arg(required_unless_present = "task", conflicts_with = "task")]
    pub text: Option<PathBuf>,
    /// Take the clean prompts of tasks as the text
    #[arg(long, value_name = "TASK")]
    pub task: Vec<String>,
    /// How many prompts of each task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub pairs: usize,
    /// Every line of the file is a text of its own
    #[arg(long)]
    pub lines: bool,
    /// Tokens of a window, at most (default: 128, or the model's context)
    #[arg(long, value_name = "N")]
    pub window: Option<usize>,
    #[arg(long, value_enum, default_value = "auto")]
    pub bos: BosArgument,
}

impl Reading {
    /// The windows of the text, and how long they may be; split and seed draw the prompts of tasks. Says on stderr what the
    /// vocabulary does not have.
    ///
    /// # Errors
    /// No text, or one that the tokenizer cannot take.
    pub fn corpus(&self, loaded: &Loaded, drawn: (Split, u64)) -> anyhow::Result<(Corpus, usize)> {
        let window = self.window.unwrap_or(128).min(loaded.model.spec.context);
        if window < 2 {
            let message = "a window of fewer than 2 tokens shows nothing".to_owned();
            return Err(Usage { message, hint: "leave --window out, or raise it".into() }.into());
        }
        let texts = match &self.text {
            Some(path) => texts(path, self.lines)?,
            None => clean_prompts(&self.task, self.pairs, drawn)?,
        };
        Ok((corpus(&texts, loaded, window, self.bos)?, window))
    }

    /// What the text is called.
    pub fn source(&self) -> String {
        match &self.text {
            Some(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            None => format!("prompts of {}", self.task.join(", ")),
        }
    }
}

/// Texts in windows.
///
/// # Errors
/// What the tokenizer cannot take.
pub fn corpus(texts: &[String], loaded: &Loaded, window: usize, bos: BosArgument) -> anyhow::Result<Corpus> {
    let texts = texts.iter().map(String::as_str);
    let corpus = Corpus::new(texts, &loaded.tokenizer, window, bos.or(None)).map_err(penjing::Error::from)?;
    if corpus.unknown > 0 {
        let all = corpus.tokens.len();
        note(&format!("{} of {all} tokens are outside the vocabulary of {}", corpus.unknown, loaded.id));
    }
    Ok(corpus)
}

/// The texts of a file: what empty lines separate, or every line.
///
/// # Errors
/// A file that cannot be read, is no UTF-8 or is empty.
pub fn texts(path: &Path, lines: bool) -> anyhow::Result<Vec<String>> {
    let bytes = std::fs::read(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
    let whole = String::from_utf8(bytes).map_err(|_| Usage {
        message: format!("{} is no text in UTF-8", path.display()),
        hint: "convert it, for example with iconv".into(),
    })?;
    let whole = whole.replace("\r\n", "\n");
    let parts = whole.split(if lines { "\n" } else { "\n\n" }).map(|text| text.trim_matches('\n').to_owned());
    let texts: Vec<String> = parts.filter(|text| !text.trim().is_empty()).collect();
    if texts.is_empty() {
        let message = format!("{} holds no text", path.display());
        return Err(Usage { message, hint: "give a file with text".into() }.into());
    }
    Ok(texts)
}

/// The prompts of a file, one a line; `\n` stands for a line feed.
///
/// # Errors
/// A file that cannot be read, or has none.
pub fn prompts(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
    let prompts = text.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = prompts.map(|line| line.replace("\\n", "\n")).collect();
    if lines.is_empty() {
        let message = format!("{} holds no prompts", path.display());
        return Err(Usage { message, hint: "a file of prompts has one on each line".into() }.into());
    }
    Ok(lines)
}

/// Pairs of a task's split, drawn by a seed.
///
/// # Errors
/// No such task, or not so many pairs.
pub fn pairs(
    name: &str,
    pairs: usize,
    (split, seed): (Split, u64),
    corruption: Option<&String>,
) -> anyhow::Result<Vec<PromptPair>> {
    let task = task::resolve(name).map_err(penjing::Error::from)?;
    let expansion = Expansion { split, pairs, seed, corruption: corruption.cloned() };
    Ok(task::expand(&task, &expansion).map_err(penjing::Error::from)?)
}

/// The clean prompts of tasks.
///
/// # Errors
/// As [`pairs`].
pub fn clean_prompts(tasks: &[String], count: usize, drawn: (Split, u64)) -> anyhow::Result<Vec<String>> {
    let mut prompts = Vec::new();
    for name in tasks {
        prompts.extend(pairs(name, count, drawn, None)?.into_iter().map(|pair| pair.clean));
    }
    Ok(prompts)
}
