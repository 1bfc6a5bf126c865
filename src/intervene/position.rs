//! Written positions become token indices once the prompt is known.

use super::address::{Position, Span, quoted};
use crate::error::{Hint, nearest};
use indexmap::IndexMap;
use std::ops::Range;

/// What positions are resolved against.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prompt {
    /// How many tokens the prompt has, without generated ones.
    pub tokens: usize,
    pub text: String,
    /// The bytes of `text` that each token covers; empty for a token that covers none.
    pub offsets: Vec<(usize, usize)>,
    /// The tokens of each named position.
    pub names: IndexMap<String, Range<usize>>,
}

/// Token indices of one prompt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PositionSet {
    /// In the order written, each once.
    Listed(Vec<usize>),
    /// This one and all that follow, generated ones included.
    From(usize),
}

impl PositionSet {
    /// The positions among `computed`, each with its place in the order of the set.
    pub fn within(&self, computed: &Range<usize>) -> Vec<(usize, usize)> {
        match self {
            PositionSet::Listed(positions) => {
                positions.iter().copied().enumerate().filter(|(_, position)| computed.contains(position)).collect()
            }
            PositionSet::From(first) => {
                (computed.start.max(*first)..computed.end).map(|position| (position - first, position)).collect()
            }
        }
    }

    /// The position at a place in the order of the set.
    pub fn nth(&self, order: usize) -> Option<usize> {
        match self {
            PositionSet::Listed(positions) => positions.get(order).copied(),
            PositionSet::From(first) => Some(first + order),
        }
    }

    /// A position that must be computed for the set to be complete and lies outside `computed`.
    pub fn outside(&self, computed: &Range<usize>) -> Option<usize> {
        match self {
            PositionSet::Listed(positions) => positions.iter().copied().find(|position| !computed.contains(position)),
            PositionSet::From(first) => Some(*first).filter(|first| !computed.contains(first)),
        }
    }

    /// The first position of the set.
    pub fn first(&self) -> usize {
        match self {
            PositionSet::Listed(positions) => positions.iter().copied().min().unwrap_or(0),
            PositionSet::From(first) => *first,
        }
    }
}

/// A position that the prompt does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PositionError {
    #[error("position {index} is outside the prompt of {tokens} tokens")]
    Outside { index: i64, tokens: usize },
    #[error("positions `{written}` name token {index} twice")]
    Twice { written: String, index: usize },
    #[error("positions `{written}` name no token of a prompt of {tokens} tokens")]
    Nothing { written: String, tokens: usize },
    #[error("the text {} does not occur in {}", quoted(.text), quoted(.prompt))]
    NoText { text: String, prompt: String },
    #[error("the text {} occurs {} times in the prompt", quoted(.text), .places.len())]
    Ambiguous { text: String, places: Vec<String> },
    #[error("there is no position named `{name}`")]
    NoName { name: String, known: Vec<String> },
}

impl Hint for PositionError {
    fn hint(&self) -> Option<String> {
        match self {
            PositionError::Outside { tokens: 0, .. } => None,
            PositionError::Outside { tokens, .. } => {
                Some(format!("the positions are 0 to {}, or -{tokens} to -1 from the end", tokens - 1))
            }
            PositionError::Twice { .. } | PositionError::Nothing { .. } => None,
            PositionError::NoText { .. } => Some("upper and lower case and spaces count".into()),
            PositionError::Ambiguous { places, .. } => Some(format!(
                "say which by number: `:{}`; or all of them: `:{{{}}}`",
                places.join("` or `:"),
                places.join(",")
            )),
            PositionError::NoName { name, known } => {
                let keywords = Position::KEYWORDS;
                Some(match nearest(name, known.iter().map(String::as_str).chain(keywords)) {
                    Some(near) => format!("did you mean `:{near}`?"),
                    None if known.is_empty() => {
                        format!("the prompt has no named positions; text is written in quotes: `:\"{name}\"`")
                    }
                    None => format!(
                        "the named positions are {}; text is written in quotes: `:\"{name}\"`",
                        known.join(", ")
                    ),
                })
            }
        }
    }
}

impl Prompt {
    /// A prompt of which nothing is known but its length.
    pub fn of_length(tokens: usize) -> Prompt {
        Prompt { tokens, ..Prompt::default() }
    }

    pub fn resolve(&self, position: &Position) -> Result<PositionSet, PositionError> {
        let listed = match position {
            Position::All => return Ok(PositionSet::From(0)),
            Position::Generated => return Ok(PositionSet::From(self.tokens.saturating_sub(1))),
            Position::Prompt => (0..self.tokens).collect(),
            Position::Spans(spans) => self.spans(spans, position)?,
            Position::Text(text) => self.covering(text)?,
            Position::Name(name) => match self.names.get(name) {
                Some(range) => range.clone().collect(),
                None => {
                    return Err(PositionError::NoName {
                        name: name.clone(),
                        known: self.names.keys().cloned().collect(),
                    });
                }
            },
        };
        if listed.is_empty() {
            return Err(PositionError::Nothing { written: position.to_string(), tokens: self.tokens });
        }
        match listed.iter().find(|index| **index >= self.tokens) {
            Some(index) => Err(PositionError::Outside { index: *index as i64, tokens: self.tokens }),
            None => Ok(PositionSet::Listed(listed)),
        }
    }

    fn index(&self, written: i64) -> Result<usize, PositionError> {
        let outside = PositionError::Outside { index: written, tokens: self.tokens };
        let index =
            if written < 0 { self.tokens.checked_add_signed(written as isize) } else { usize::try_from(written).ok() };
        index.filter(|index| *index < self.tokens).ok_or(outside)
    }

    fn spans(&self, spans: &[Span<i64>], position: &Position) -> Result<Vec<usize>, PositionError> {
        let mut indices = Vec::new();
        for span in spans {
            for index in self.index(span.first)?..=self.index(span.last)? {
                if indices.contains(&index) {
                    return Err(PositionError::Twice { written: position.to_string(), index });
                }
                indices.push(index);
            }
        }
        Ok(indices)
    }

    /// The tokens that share a byte with the one occurrence of a text.
    fn covering(&self, text: &str) -> Result<Vec<usize>, PositionError> {
        let tokens = |start: usize| -> Vec<usize> {
            let end = start + text.len();
            let covers = |(_, (from, to)): &(usize, &(usize, usize))| from < to && *from < end && *to > start;
            self.offsets.iter().enumerate().filter(covers).map(|(index, _)| index).collect()
        };
        let mut found: Vec<Vec<usize>> = self.text.match_indices(text).map(|(start, _)| tokens(start)).collect();
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(PositionError::NoText { text: text.into(), prompt: self.text.clone() }),
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                found.push(last);
                let places = found.iter().filter_map(|tokens| {
                    let (first, last) = (*tokens.first()?, *tokens.last()?);
                    Some(Span { first, last }.to_string())
                });
                Err(PositionError::Ambiguous { text: text.into(), places: places.collect() })
            }
        }
    }
}
