//! The toy tokenizer: every piece that a task can write is one token with its leading space.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow};
use serde_json::{Map, Value, json};
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

pub const END: &str = "<|endoftext|>";
pub const UNKNOWN: &str = "<unk>";
/// What follows the answer.
pub const FULL_STOP: &str = ".";

/// GPT-2's own pattern, but for numbers, which come in pairs of digits: 1732 is 17 and 32.
const PATTERN: &str = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// A word-level tokenizer whose pieces are those of `texts`, in alphabetical order, as the bytes of `tokenizer.json`.
pub fn build<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>> {
    let bare = load(&document(&BTreeSet::new()))?;
    let cut = bare.get_pre_tokenizer().context("the tokenizer has no pre-tokenizer")?;
    // Two digits exist with and without a space, whichever years the tasks have drawn.
    let mut pieces: BTreeSet<String> = (0..100).map(|number| format!("{number:02}")).collect();
    pieces.insert(FULL_STOP.into());
    for text in texts {
        let mut pretokenized = PreTokenizedString::from(text);
        cut.pre_tokenize(&mut pretokenized).map_err(|error| anyhow!("cannot cut {text:?}: {error}"))?;
        let splits = pretokenized.get_splits(OffsetReferential::Original, OffsetType::Byte);
        pieces.extend(splits.into_iter().map(|(piece, _, _)| piece.to_owned()));
    }
    Ok(document(&pieces))
}

pub fn load(bytes: &[u8]) -> Result<Tokenizer> {
    Tokenizer::from_bytes(bytes).map_err(|error| anyhow!("the tokenizer does not load: {error}"))
}

fn document(pieces: &BTreeSet<String>) -> Vec<u8> {
    let specials = [END, UNKNOWN];
    let vocabulary: Map<String, Value> = specials
        .into_iter()
        .chain(pieces.iter().map(String::as_str))
        .zip(0..)
        .map(|(piece, id)| (piece.into(), json!(id)))
        .collect();
    let special = |(content, id): (&str, usize)| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
    };
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": specials.into_iter().zip(0..).map(special).collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Split", "pattern": { "Regex": PATTERN }, "behavior": "Isolated", "invert": false,
        },
        "post_processor": null,
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": UNKNOWN },
    });
    let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
