//! A text as tokens, with places that edits can name.

use crate::dataset::TokenPair;
use crate::error::Hint;
use crate::intervene::position::Prompt;
use crate::model::spec::Spec;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// A text that a model cannot take.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error("the prompt has no tokens")]
    Empty,
    #[error("the prompt has {tokens} tokens{}, and the model sees at most {context}", and_more(*.more))]
    TooLong { tokens: usize, more: usize, context: usize },
    #[error("a beginning-of-text token is asked for, and the tokenizer has none")]
    NoBos,
    #[error("the tokenizer does not know {}", .words.join(", "))]
    Unknown { words: Vec<String> },
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(", {more} more are asked for") }
}

impl Hint for PromptError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            PromptError::Tokenizer(error) => return error.hint(),
            PromptError::Empty => "write a prompt".into(),
            PromptError::TooLong { more: 0, .. } => "shorten the prompt, or take a model with a longer context".into(),
            PromptError::TooLong { .. } => "shorten the prompt, or generate less".into(),
            PromptError::NoBos => "say --bos never".into(),
            PromptError::Unknown { .. } => "take words of the model's vocabulary".into(),
        })
    }
}

/// The clean prompt of a pair, with the places that its task names.
pub fn of_pair(pair: &TokenPair) -> (Vec<u32>, Prompt) {
    let prompt = Prompt { tokens: pair.len(), names: pair.positions.clone(), ..Prompt::default() };
    (pair.clean.clone(), prompt)
}

/// The tokens of a text, and their places. `bos`: whether to begin with the beginning-of-text token, if anybody says;
/// `more`: how many tokens are to follow.
///
/// # Errors
/// [`PromptError`].
pub fn encode(
    text: &str,
    tokenizer: &Tokenizer,
    spec: &Spec,
    bos: Option<bool>,
    more: usize,
) -> Result<(Vec<u32>, Prompt), PromptError> {
    let unknown = tokenizer.unknown_words(text, &tokenizer.encode_plain(text)?);
    if !unknown.is_empty() {
        return Err(PromptError::Unknown { words: unknown });
    }
    let mut encoding = match bos {
        None => tokenizer.encode(text)?,
        Some(_) => tokenizer.encode_plain(text)?,
    };
    if bos == Some(true) {
        encoding.ids.insert(0, tokenizer.bos_token.ok_or(PromptError::NoBos)?);
        encoding.offsets.insert(0, (0, 0));
    }
    let tokens = encoding.ids.len();
    if tokens == 0 {
        return Err(PromptError::Empty);
    }
    if tokens + more > spec.context {
        return Err(PromptError::TooLong { tokens, more, context: spec.context });
    }
    let prompt = Prompt { tokens, text: text.to_owned(), offsets: encoding.offsets, ..Prompt::default() };
    Ok((encoding.ids, prompt))
}
