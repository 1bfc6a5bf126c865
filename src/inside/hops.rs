//! Whether a model answers the single hops of a two-hop prompt, by sentences that the task teaches them with.
//!
//! A first hop is a taught sentence that names a word of the prompt (at a place that the task names) and whose answer is e2; a
//! second hop one that names e2 and whose answer is the prompt's. A hop is answered if most of up to four such sentences get
//! their answer as the likeliest next token. Paper: Biran et al., arXiv:2406.12775, whose populations are the two-hop prompts
//! among those whose hops are answered. Cost: a forward for each sentence. Not to be used where several words of the
//! prompts have the same name.

use super::prompt::encode;
use super::row;
use crate::dataset::TokenPair;
use crate::model::{Loaded, Pass, Start, tap::NoTap};
use crate::task::Lesson;
use std::collections::HashMap;

/// Sentences that a hop is asked with, at most.
const ASKED: usize = 4;

/// The taught sentences, and which of them were answered.
pub struct Hops<'a> {
    loaded: &'a Loaded,
    bos: Option<bool>,
    lessons: &'a [Lesson],
    answered: HashMap<&'a str, bool>,
}

impl<'a> Hops<'a> {
    pub fn new(loaded: &'a Loaded, bos: Option<bool>, lessons: &'a [Lesson]) -> Hops<'a> {
        Hops { loaded, bos, lessons, answered: HashMap::new() }
    }

    /// Whether both hops of a prompt are answered; nothing where the task teaches no chain for it.
    pub fn known(&mut self, pair: &TokenPair) -> Option<bool> {
        let answer: Vec<&str> = pair.prompt.right.iter().map(|right| right.trim()).collect();
        let words = pair.prompt.positions.values().map(|range| pair.prompt.clean[range.clone()].trim());
        for word in words {
            let first: Vec<&Lesson> = self.lessons.iter().filter(|lesson| names(&lesson.text, word)).collect();
            let mut between: Vec<&str> =
                first.iter().flat_map(|lesson| &lesson.right).map(|right| right.trim()).collect();
            between.sort_unstable();
            between.dedup();
            for e2 in between {
                let ends = |lesson: &&Lesson| lesson.right.iter().any(|right| answer.contains(&right.trim()));
                let second: Vec<&Lesson> =
                    self.lessons.iter().filter(|lesson| names(&lesson.text, e2)).filter(ends).collect();
                if !second.is_empty() {
                    let to_e2 = |lesson: &&&Lesson| lesson.right.iter().any(|right| right.trim() == e2);
                    let first: Vec<&Lesson> = first.iter().filter(to_e2).copied().collect();
                    return Some(self.answers(&first) && self.answers(&second));
                }
            }
        }
        None
    }

    fn answers(&mut self, lessons: &[&'a Lesson]) -> bool {
        let asked = &lessons[..lessons.len().min(ASKED)];
        2 * asked.iter().filter(|lesson| self.is_answered(lesson)).count() > asked.len()
    }

    fn is_answered(&mut self, lesson: &'a Lesson) -> bool {
        if let Some(&known) = self.answered.get(lesson.text.as_str()) {
            return known;
        }
        let (model, tokenizer) = (&self.loaded.model, &self.loaded.tokenizer);
        let right = encode(&lesson.text, tokenizer, &model.spec, self.bos, 0).is_ok_and(|(tokens, _)| {
            let next = tch::no_grad(|| model.forward(Start::Tokens(&row(model, &tokens)), &Pass::LAST, &mut NoTap));
            let likeliest = u32::try_from(next.view([-1]).argmax(-1, false).int64_value(&[])).unwrap_or(u32::MAX);
            lesson.right.iter().any(|answer| tokenizer.single(answer).is_ok_and(|id| id == likeliest))
        });
        self.answered.insert(&lesson.text, right);
        right
    }
}

/// Whether a text has a word, between what are no letters.
fn names(text: &str, word: &str) -> bool {
    let free = |next: Option<char>| next.is_none_or(|next| !next.is_alphanumeric());
    let stands = |(start, found): (usize, &str)| {
        free(text[..start].chars().next_back()) && free(text[start + found.len()..].chars().next())
    };
    !word.is_empty() && text.match_indices(word).any(stands)
}
