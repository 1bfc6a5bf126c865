//! Texts as tokens, cut into the windows that a model reads.

use super::prompt::PromptError;
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// Texts cut into windows.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Corpus {
    pub tokens: Vec<u32>,
    /// Of `tokens`.
    pub windows: Vec<Range<usize>>,
    /// So many tokens at the start of each window are no text (the beginning-of-text token) and are not counted.
    pub lead: usize,
    /// How many tokens stand for words outside the vocabulary.
    pub unknown: usize,
}

impl Corpus {
    /// Every text begins a new window; long ones are cut into windows of at most `window` tokens. `bos` as in
    /// [`super::prompt::encode`].
    ///
    /// # Errors
    /// [`PromptError`]: no text at all, or a tokenizer without the token that is asked for.
    pub fn new<'a>(
        texts: impl IntoIterator<Item = &'a str>,
        tokenizer: &Tokenizer,
        window: usize,
        bos: Option<bool>,
    ) -> Result<Corpus, PromptError> {
        let mut corpus = Corpus::default();
        for text in texts {
            let encoding = match bos {
                None => tokenizer.encode(text)?,
                Some(_) => tokenizer.encode_plain(text)?,
            };
            let (lead, body) = encoding.ids.split_at(encoding.added);
            let asked = (bos == Some(true)).then(|| tokenizer.bos_token.ok_or(PromptError::NoBos)).transpose()?;
            let lead: Vec<u32> = lead.iter().copied().chain(asked).collect();
            corpus.lead = lead.len();
            corpus.unknown += body.iter().filter(|&&id| tokenizer.is_unknown(id)).count();
            for part in body.chunks(window.saturating_sub(lead.len()).max(1)) {
                let start = corpus.tokens.len();
                corpus.tokens.extend(lead.iter().chain(part));
                corpus.windows.push(start..corpus.tokens.len());
            }
        }
        if corpus.windows.is_empty() { Err(PromptError::Empty) } else { Ok(corpus) }
    }

    /// The positions that count.
    pub fn counted(&self) -> impl Iterator<Item = usize> + '_ {
        self.windows.iter().flat_map(|window| window.start + self.lead..window.end)
    }

    /// The window that a token is in.
    pub fn around(&self, token: usize) -> Range<usize> {
        let index = self.windows.partition_point(|window| window.end <= token);
        self.windows.get(index).cloned().unwrap_or_default()
    }
}
