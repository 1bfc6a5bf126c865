//! Prompt pairs as token ids, checked so that they can be patched token by token: answers of one token, twins of equal
//! length that differ, no unknown words. Nothing is padded or grouped here.

use crate::error::Hint;
use crate::model::spec::Spec;
use crate::task::PromptPair;
use crate::tokenizer::{Tokenizer, TokenizerError, show};
use indexmap::IndexMap;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// Token pairs, and what was put before every prompt.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub pairs: Vec<TokenPair>,
    pub bos: Bos,
}

/// The token before a prompt, and who asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bos {
    None,
    /// The tokenizer's own rules added it.
    Tokenizer(u32),
    /// The task or the command line asked for it.
    Asked(u32),
    /// The task or the command line kept the tokenizer's own rules from adding it.
    Refused,
}

/// A prompt pair in tokens. `clean` and `corrupt` have the same length and are equal before `first_difference`.
#[derive(Clone, Debug)]
pub struct TokenPair {
    pub clean: Vec<u32>,
    pub corrupt: Vec<u32>,
    pub right: Vec<u32>,
    pub wrong: Vec<u32>,
    /// Index of the first token that differs.
    pub first_difference: usize,
    /// Named places: tokens of `clean`. `end` is the last one.
    pub positions: IndexMap<String, Range<usize>>,
    pub prompt: PromptPair,
}

/// Why a pair cannot be used with a tokenizer; the tokens are shown.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{cause}, in the answers to `{prompt}`")]
    Answer { cause: TokenizerError, prompt: String },
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(
        "clean and corrupt prompts have {} and {} tokens (frame `{frame}`, corruption `{corruption}`)\n  clean:   {}\n  corrupt: {}",
        clean.len(), corrupt.len(), show(clean), show(corrupt)
    )]
    Lengths { frame: String, corruption: String, clean: Vec<String>, corrupt: Vec<String> },
    #[error("corruption `{corruption}` changes no token of frame `{frame}`: {}", show(tokens))]
    Unchanged { frame: String, corruption: String, tokens: Vec<String> },
    #[error("a right and a wrong answer are the same token {token:?}, in the answers to `{prompt}`")]
    RightIsWrong { token: String, prompt: String },
    #[error("the prompt has no tokens")]
    Empty,
    #[error("a beginning-of-text token is asked for, and the tokenizer has none")]
    NoBos,
    #[error("the answer {token:?} has id {id}, and the model gives logits for only {outputs} tokens")]
    NoLogit { token: String, id: u32, outputs: usize },
    #[error("a prompt has {tokens} tokens, and the model sees at most {context}: `{prompt}`")]
    TooLong { tokens: usize, context: usize, prompt: String },
}

impl Hint for DatasetError {
    fn hint(&self) -> Option<String> {
        match self {
            DatasetError::Answer { cause, .. } | DatasetError::Tokenizer(cause) => cause.hint(),
            DatasetError::Lengths { .. } => {
                Some("take words of equally many tokens, so that every token has its counterpart".into())
            }
            DatasetError::Unchanged { .. } => Some("take words that this tokenizer tells apart".into()),
            DatasetError::RightIsWrong { .. } => Some("take answers that this tokenizer tells apart".into()),
            DatasetError::Empty => Some("write a prompt".into()),
            DatasetError::NoBos => Some("remove `bos = true` from the task, or say --bos never".into()),
            DatasetError::NoLogit { .. } => Some("take answers from the model's output vocabulary".into()),
            DatasetError::TooLong { .. } => Some("shorten the prompts, or take a model with a longer context".into()),
        }
    }
}

impl Dataset {
    /// A hash (blake3) of all tokens.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for pair in &self.pairs {
            for tokens in [&pair.clean, &pair.corrupt, &pair.right, &pair.wrong] {
                hasher.update(&(tokens.len() as u64).to_le_bytes());
                hasher.update(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Refuses prompts longer than the model's context, and answers for which it has no logit.
    ///
    /// # Errors
    /// [`DatasetError::TooLong`] or [`DatasetError::NoLogit`] for the first such pair.
    pub fn check_fits(&self, spec: &Spec, tokenizer: &Tokenizer) -> Result<(), DatasetError> {
        for pair in &self.pairs {
            if pair.len() > spec.context {
                let (tokens, context, prompt) = (pair.len(), spec.context, pair.prompt.clean.clone());
                return Err(DatasetError::TooLong { tokens, context, prompt });
            }
            if let Some(&id) = pair.right.iter().chain(&pair.wrong).find(|id| **id as usize >= spec.vocab_out) {
                return Err(DatasetError::NoLogit { token: tokenizer.token_text(id), id, outputs: spec.vocab_out });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Bos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bos::None => f.write_str("none"),
            Bos::Tokenizer(token) => write!(f, "token {token}, added by the tokenizer's own rules"),
            Bos::Asked(token) => write!(f, "token {token}, added because it was asked for"),
            Bos::Refused => f.write_str("none, though the tokenizer's own rules add one"),
        }
    }
}

impl TokenPair {
    pub fn len(&self) -> usize {
        self.clean.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clean.is_empty()
    }
}

/// Tokenises and checks pairs. `bos`: `Some(true)` puts the beginning-of-text token first if the tokenizer's own rules do
/// not, `Some(false)` keeps even those from adding it, `None` leaves it to them.
pub fn tokenize(pairs: &[PromptPair], tokenizer: &Tokenizer, bos: Option<bool>) -> Result<Dataset, DatasetError> {
    let mut dataset = Dataset { pairs: Vec::with_capacity(pairs.len()), bos: Bos::None };
    for result in tokenize_each(pairs, tokenizer, bos) {
        let (pair, bos) = result?;
        dataset.pairs.push(pair);
        dataset.bos = bos;
    }
    Ok(dataset)
}

/// As [`tokenize`], one result a pair.
pub fn tokenize_each(
    pairs: &[PromptPair],
    tokenizer: &Tokenizer,
    bos: Option<bool>,
) -> impl Iterator<Item = Result<(TokenPair, Bos), DatasetError>> {
    let mut answers = HashMap::new();
    pairs.iter().map(move |pair| token_pair(pair, tokenizer, bos, &mut answers))
}

fn token_pair(
    pair: &PromptPair,
    tokenizer: &Tokenizer,
    bos: Option<bool>,
    known: &mut HashMap<String, u32>,
) -> Result<(TokenPair, Bos), DatasetError> {
    let (clean, offsets, record) = prompt(&pair.clean, tokenizer, bos)?;
    let (corrupt, _, _) = prompt(&pair.corrupt, tokenizer, bos)?;
    let (frame, corruption) = (|| pair.frame.clone(), || pair.corruption.clone());
    if clean.len() != corrupt.len() {
        let (clean, corrupt) = (tokenizer.token_texts(&clean), tokenizer.token_texts(&corrupt));
        return Err(DatasetError::Lengths { frame: frame(), corruption: corruption(), clean, corrupt });
    }
    let Some(last) = clean.len().checked_sub(1) else { return Err(DatasetError::Empty) };
    let Some(first_difference) = clean.iter().zip(&corrupt).position(|(clean, corrupt)| clean != corrupt) else {
        let tokens = tokenizer.token_texts(&clean);
        return Err(DatasetError::Unchanged { frame: frame(), corruption: corruption(), tokens });
    };
    let right = answers(&pair.right, &pair.clean, tokenizer, known)?;
    let wrong = answers(&pair.wrong, &pair.clean, tokenizer, known)?;
    if let Some(&token) = right.iter().find(|token| wrong.contains(token)) {
        let (token, prompt) = (tokenizer.token_text(token), pair.clean.clone());
        return Err(DatasetError::RightIsWrong { token, prompt });
    }
    let mut positions: IndexMap<String, Range<usize>> =
        pair.positions.iter().filter_map(|(name, bytes)| Some((name.clone(), tokens_of(bytes, &offsets)?))).collect();
    positions.insert("end".into(), last..last + 1);
    let prompt = pair.clone();
    Ok((TokenPair { clean, corrupt, right, wrong, first_difference, positions, prompt }, record))
}

/// Ids, byte offsets of each token in the text, and what was done about BOS.
type Tokens = (Vec<u32>, Vec<(usize, usize)>, Bos);

/// A prompt's ids and the bytes that each covers.
fn prompt(text: &str, tokenizer: &Tokenizer, bos: Option<bool>) -> Result<Tokens, DatasetError> {
    let mut encoding = match bos {
        Some(false) => tokenizer.encode_plain(text)?,
        _ => tokenizer.encode(text)?,
    };
    let unknown = tokenizer.unknown_words(text, &encoding);
    if !unknown.is_empty() {
        return Err(TokenizerError::Unknown { text: text.to_owned(), tokens: unknown }.into());
    }
    let mut record = match encoding.ids.first() {
        Some(&first) if encoding.added > 0 => Bos::Tokenizer(first),
        _ if bos == Some(false) && tokenizer.encode(text)?.added > 0 => Bos::Refused,
        _ => Bos::None,
    };
    if bos == Some(true) && record == Bos::None {
        let token = tokenizer.bos_token.ok_or(DatasetError::NoBos)?;
        encoding.ids.insert(0, token);
        encoding.offsets.insert(0, (0, 0));
        record = Bos::Asked(token);
    }
    Ok((encoding.ids, encoding.offsets, record))
}

/// The tokens that share at least one byte with a place. A GPT-2 token holds the space before its word.
fn tokens_of(bytes: &Range<usize>, offsets: &[(usize, usize)]) -> Option<Range<usize>> {
    let inside = |&(start, end): &(usize, usize)| start < bytes.end && end > bytes.start && start < end;
    Some(offsets.iter().position(inside)?..offsets.iter().rposition(inside)? + 1)
}

fn answers(
    texts: &[String],
    prompt: &str,
    tokenizer: &Tokenizer,
    known: &mut HashMap<String, u32>,
) -> Result<Vec<u32>, DatasetError> {
    texts
        .iter()
        .map(|text| {
            if let Some(&id) = known.get(text) {
                return Ok(id);
            }
            match tokenizer.single(text) {
                Ok(id) => {
                    known.insert(text.clone(), id);
                    Ok(id)
                }
                Err(cause) => continuation(prompt, text, tokenizer)
                    .ok_or_else(|| DatasetError::Answer { cause, prompt: prompt.to_owned() }),
            }
        })
        .collect()
}

/// The answer's token in its context. SentencePiece tokenizers put a space of their own before a text, so that an answer
/// by itself is two tokens, though it is one after the prompt.
fn continuation(prompt: &str, answer: &str, tokenizer: &Tokenizer) -> Option<u32> {
    let before = tokenizer.encode_plain(prompt).ok()?.ids;
    let after = tokenizer.encode_plain(&format!("{prompt}{answer}")).ok()?.ids;
    let (&last, rest) = after.split_last()?;
    (rest == before && !tokenizer.is_unknown(last)).then_some(last)
}
