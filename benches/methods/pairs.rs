//! The prompt pairs that are timed.

use penjing::dataset::TokenPair;
use penjing::task::PromptPair;

pub const LENGTH: usize = 20;
const DIFFER_AT: usize = 12;

/// Pairs that differ in one token, as indirect object identification's do.
pub fn pairs(count: usize, vocab: usize) -> Vec<TokenPair> {
    let token = |row: usize, place: usize| ((row * 7919 + place * 104_729 + 17) % vocab) as u32;
    (0..count)
        .map(|row| {
            let clean: Vec<u32> = (0..LENGTH).map(|place| token(row, place)).collect();
            let mut corrupt = clean.clone();
            corrupt[DIFFER_AT] = (clean[DIFFER_AT] + 1) % vocab as u32;
            let prompt = PromptPair::default();
            let (right, wrong) = (vec![token(row, 30)], vec![token(row, 31)]);
            TokenPair {
                clean,
                corrupt,
                right,
                wrong,
                first_difference: DIFFER_AT,
                positions: Default::default(),
                prompt,
            }
        })
        .collect()
}
