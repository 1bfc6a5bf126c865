//! Sets of tokens that stand for a word, whatever the tokenizer: every token whose bytes begin the word, with or without a space
//! before it (Wendler et al., arXiv:2402.10588, for whole characters; on bytes a tokenizer that cuts inside of characters is
//! no exception).

use crate::tokenizer::Tokenizer;

/// The tokens of a vocabulary of `size` that begin one of the words, the word as a whole included; spaces alone do not count.
pub fn beginning(tokenizer: &Tokenizer, size: usize, words: &[&str]) -> Vec<u32> {
    let spelt: Vec<Vec<u8>> =
        words.iter().flat_map(|word| [word.as_bytes().to_vec(), format!(" {word}").into_bytes()]).collect();
    let begins =
        |bytes: &[u8]| bytes.iter().any(|byte| *byte != b' ') && spelt.iter().any(|word| word.starts_with(bytes));
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    (0..size).filter(|&id| tokenizer.token_bytes(id).is_some_and(|bytes| begins(&bytes))).collect()
}
