//! Text to token ids and back, over a Hugging Face `tokenizer.json`.

use crate::error::{FileError, Hint};
use std::path::Path;
use tokenizers::models::ModelWrapper;

/// A tokenizer. Special tokens are added only where its own post-processor does, see [`Tokenizer::encode`].
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    unknown: Option<u32>,
    /// The beginning-of-text token, guessed from the usual names; a model's config may say otherwise.
    pub bos_token: Option<u32>,
}

/// Token ids and the bytes of the text that each one covers (none for added special tokens).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Encoding {
    pub ids: Vec<u32>,
    pub offsets: Vec<(usize, usize)>,
    /// How many ids at the start the tokenizer's post-processor added.
    pub added: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path} is not a tokenizer: {message}")]
    Parse { path: String, message: String },
    #[error("cannot tokenise `{text}`: {message}")]
    Encode { text: String, message: String },
    #[error("`{text}` is {} tokens: {}", tokens.len(), show(tokens))]
    SeveralTokens { text: String, tokens: Vec<String> },
    #[error("`{text}` has words that the tokenizer does not know: {}", show(tokens))]
    Unknown { text: String, tokens: Vec<String> },
}

impl Hint for TokenizerError {
    fn hint(&self) -> Option<String> {
        match self {
            TokenizerError::File(error) => error.hint(),
            TokenizerError::Parse { .. } => Some("a Hugging Face `tokenizer.json` is needed".into()),
            TokenizerError::Encode { .. } => None,
            TokenizerError::SeveralTokens { tokens, .. } if tokens.is_empty() => Some("write a word".into()),
            TokenizerError::SeveralTokens { text, .. } => Some(match text.starts_with(' ') {
                true => "take a word that is one token with its leading space".into(),
                false => "take a word that is one token; most words are one only with a leading space".into(),
            }),
            TokenizerError::Unknown { .. } => Some("take words that the model's tokenizer knows".into()),
        }
    }
}

/// `[" Mary", " and"]`, so that spaces can be seen.
pub(crate) fn show(tokens: &[String]) -> String {
    let quoted: Vec<String> = tokens.iter().map(|token| format!("{token:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

impl Tokenizer {
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer, TokenizerError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
        Tokenizer::parse(&bytes, &path.display().to_string())
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::parse(bytes, "tokenizer.json")
    }

    fn parse(bytes: &[u8], shown: &str) -> Result<Tokenizer, TokenizerError> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|error| TokenizerError::Parse { path: shown.to_owned(), message: error.to_string() })?;
        // Files made for training may cut or pad texts; a prompt is used as it is.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| TokenizerError::Parse { path: shown.to_owned(), message: error.to_string() })?;
        let unknown = match inner.get_model() {
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::Unigram(_) => Some("<unk>".into()),
        };
        let unknown = unknown.and_then(|token| inner.token_to_id(&token));
        let usual = ["<|endoftext|>", "<s>", "<bos>", "<|begin_of_text|>", "<|bos|>", "[BOS]"];
        let bos_token = usual.iter().find_map(|token| inner.token_to_id(token));
        Ok(Tokenizer { inner, unknown, bos_token })
    }

    /// The text's tokens, with the special tokens that the tokenizer's own rules put before it. Those that they put after
    /// it (an end-of-sequence) are left out, since answers are read right after the text.
    pub fn encode(&self, text: &str) -> Result<Encoding, TokenizerError> {
        let encoding = self.encode_with(text, true)?;
        let special = encoding.get_special_tokens_mask();
        let added = special.iter().take_while(|&&special| special == 1).count();
        let kept = encoding.len() - special[added..].iter().rev().take_while(|&&special| special == 1).count();
        let ids = encoding.get_ids()[..kept].to_vec();
        let offsets = encoding.get_offsets()[..kept].to_vec();
        Ok(Encoding { ids, offsets, added })
    }

    /// The text's tokens alone.
    pub fn encode_plain(&self, text: &str) -> Result<Encoding, TokenizerError> {
        let encoding = self.encode_with(text, false)?;
        Ok(Encoding { ids: encoding.get_ids().to_vec(), offsets: encoding.get_offsets().to_vec(), added: 0 })
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<tokenizers::Encoding, TokenizerError> {
        self.inner
            .encode(text, special)
            .map_err(|error| TokenizerError::Encode { text: text.to_owned(), message: error.to_string() })
    }

    /// The one token that `text` is.
    pub fn single(&self, text: &str) -> Result<u32, TokenizerError> {
        let encoding = self.encode_plain(text)?;
        let unknown = self.unknown_words(text, &encoding);
        if !unknown.is_empty() {
            return Err(TokenizerError::Unknown { text: text.to_owned(), tokens: unknown });
        }
        match encoding.ids.as_slice() {
            [id] => Ok(*id),
            _ => Err(TokenizerError::SeveralTokens { text: text.to_owned(), tokens: self.token_texts(&encoding.ids) }),
        }
    }

    /// Whether the id stands for words outside the vocabulary.
    pub fn is_unknown(&self, id: u32) -> bool {
        self.unknown == Some(id)
    }

    /// The pieces of a text that the tokenizer's vocabulary does not have.
    pub(crate) fn unknown_words(&self, text: &str, encoding: &Encoding) -> Vec<String> {
        let tokens = encoding.ids.iter().zip(&encoding.offsets).skip(encoding.added);
        let unknown = tokens.filter(|&(&id, _)| self.is_unknown(id));
        unknown.map(|(_, &(start, end))| text.get(start..end).unwrap_or_default().to_owned()).collect()
    }

    /// A token as text, with its leading space; an id outside the vocabulary as `<id>`.
    pub fn token_text(&self, id: u32) -> String {
        let Some(token) = self.inner.id_to_token(id) else { return format!("<{id}>") };
        match self.inner.get_decoder() {
            Some(tokenizers::DecoderWrapper::ByteLevel(_)) => self.inner.decode(&[id], false).unwrap_or(token),
            _ => token.replace(['▁', 'Ġ'], " "),
        }
    }

    pub fn token_texts(&self, ids: &[u32]) -> Vec<String> {
        ids.iter().map(|&id| self.token_text(id)).collect()
    }

    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner
            .decode(ids, false)
            .map_err(|error| TokenizerError::Encode { text: format!("{ids:?}"), message: error.to_string() })
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Size of the vocabulary, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}
