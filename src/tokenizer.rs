//! Text to token ids and back, over a Hugging Face `tokenizer.json`.

use crate::error::{FileError, Hint};
use std::path::Path;
use tokenizers::models::ModelWrapper;

/// A tokenizer. What it puts before a text is what transformers' AutoTokenizer puts there:
///
/// - what the post-processor of `tokenizer.json` says (Llama 3, Gemma and OPT put their beginning-of-text token, GPT-2,
///   Pythia and Qwen put nothing);
/// - where it says nothing, the beginning-of-text token if `tokenizer_config.json` beside it has `add_bos_token = true`.
///
/// A task or the command line may ask for it or refuse it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    unknown: Option<u32>,
    /// The beginning-of-text token: that of `tokenizer_config.json`, else of the model's config, else one of the usual
    /// names.
    pub bos_token: Option<u32>,
    /// Whether `tokenizer_config.json` asks for it.
    adds_bos: bool,
}

/// The part of `tokenizer_config.json` that is about the beginning of a text.
#[derive(serde::Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    add_bos_token: Option<bool>,
    /// A string, or an object whose `content` it is.
    #[serde(default)]
    bos_token: serde_json::Value,
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

/// The byte that a character of a byte-level vocabulary stands for: bytes that can be seen stand for themselves, the others, in
/// order, for the characters from 256 on.
fn byte_of(character: char) -> Option<u8> {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => seen(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|&byte| !seen(byte)).nth(code.checked_sub(256)? as usize),
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

    /// `tokenizer.json` of a folder, with what `tokenizer_config.json` and the model's config beside it say about the
    /// beginning of a text.
    ///
    /// # Errors
    /// [`TokenizerError`] for a missing or malformed `tokenizer.json`, or a malformed `tokenizer_config.json`.
    pub fn from_folder(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let mut tokenizer = Tokenizer::from_file(folder.join("tokenizer.json"))?;
        #[derive(serde::Deserialize)]
        struct ModelConfig {
            bos_token_id: Option<u32>,
        }
        let of_model = std::fs::read(folder.join("config.json")).ok();
        let of_model = of_model.and_then(|text| serde_json::from_slice::<ModelConfig>(&text).ok()?.bos_token_id);
        tokenizer.bos_token = of_model.or(tokenizer.bos_token);
        let path = folder.join("tokenizer_config.json");
        if !path.exists() {
            return Ok(tokenizer);
        }
        let bytes = std::fs::read(&path).map_err(FileError::reading(&path))?;
        let config: TokenizerConfig = serde_json::from_slice(&bytes)
            .map_err(|error| TokenizerError::Parse { path: path.display().to_string(), message: error.to_string() })?;
        let text = config.bos_token.get("content").unwrap_or(&config.bos_token).as_str();
        tokenizer.bos_token = text.and_then(|text| tokenizer.token_id(text)).or(tokenizer.bos_token);
        tokenizer.adds_bos = config.add_bos_token == Some(true);
        Ok(tokenizer)
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
        Ok(Tokenizer { inner, unknown, bos_token, adds_bos: false })
    }

    /// The text's tokens, with the special tokens that its own rules put before it. Those that they put after
    /// it (an end-of-sequence) are left out, since answers are read right after the text.
    pub fn encode(&self, text: &str) -> Result<Encoding, TokenizerError> {
        let encoding = self.encode_with(text, true)?;
        let special = encoding.get_special_tokens_mask();
        let added = special.iter().take_while(|&&special| special == 1).count();
        let kept = encoding.len() - special[added..].iter().rev().take_while(|&&special| special == 1).count();
        let mut ids = encoding.get_ids()[..kept].to_vec();
        let mut offsets = encoding.get_offsets()[..kept].to_vec();
        match self.bos_token.filter(|_| added == 0 && self.adds_bos) {
            None => Ok(Encoding { ids, offsets, added }),
            Some(bos) => {
                ids.insert(0, bos);
                offsets.insert(0, (0, 0));
                Ok(Encoding { ids, offsets, added: 1 })
            }
        }
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

    /// Tokens that end a text.
    pub fn end_tokens(&self) -> Vec<u32> {
        let usual = ["<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>", "<|eot_id|>", "<|im_end|>", "<end_of_turn>"];
        usual.iter().filter_map(|token| self.inner.token_to_id(token)).collect()
    }

    /// The bytes that a token stands for, a part of a character too; nothing for special tokens and ids without a token.
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.inner.id_to_token(id)?;
        if self.inner.get_added_tokens_decoder().get(&id).is_some_and(|added| added.special) {
            return None;
        }
        if let Some(tokenizers::DecoderWrapper::ByteLevel(_)) = self.inner.get_decoder() {
            return token.chars().map(byte_of).collect();
        }
        let byte = token.strip_prefix("<0x").and_then(|rest| u8::from_str_radix(rest.strip_suffix('>')?, 16).ok());
        Some(byte.map_or_else(|| token.replace(['▁', 'Ġ'], " ").into_bytes(), |byte| vec![byte]))
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

    /// The token with the largest id, and that id.
    pub fn last_token(&self) -> Option<(String, u32)> {
        self.inner.get_vocab(true).into_iter().max_by_key(|(_, id)| *id)
    }
}
