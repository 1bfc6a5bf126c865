//! Positions of prompts in groups, over which scores can be kept apart.

use crate::dataset::TokenPair;
use std::ops::Range;

/// Groups of positions with names that all pairs share. Every position of a prompt is in exactly one of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spans {
    pub names: Vec<String>,
    /// The group of every position of every pair.
    of_pairs: Vec<Vec<usize>>,
}

/// The group of positions that the task gives no name.
pub const OTHER: &str = "other";

impl Spans {
    /// Every position by itself, named by its number from the start.
    pub fn each(pairs: &[TokenPair]) -> Spans {
        let longest = pairs.iter().map(TokenPair::len).max().unwrap_or(0);
        Spans {
            names: (0..longest).map(|position| position.to_string()).collect(),
            of_pairs: pairs.iter().map(|pair| (0..pair.len()).collect()).collect(),
        }
    }

    /// The places that the task names, in the order in which pairs bring them up, and all else as [`OTHER`]. Where places
    /// overlap, a position is the first one's.
    pub fn named(pairs: &[TokenPair]) -> Spans {
        let mut names: Vec<String> = Vec::new();
        for name in pairs.iter().flat_map(|pair| pair.positions.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let other = names.len();
        names.push(OTHER.to_owned());
        let of_pair = |pair: &TokenPair| {
            let place = |position| pair.positions.iter().find(|(_, range)| range.contains(&position));
            let group = |(name, _): (&String, _)| names.iter().position(|known| known == name);
            (0..pair.len()).map(|position| place(position).and_then(group).unwrap_or(other)).collect()
        };
        Spans { of_pairs: pairs.iter().map(of_pair).collect(), names }
    }

    /// Those of some of the pairs, under the same names.
    pub fn part(&self, pairs: Range<usize>) -> Spans {
        Spans { names: self.names.clone(), of_pairs: self.of_pairs[pairs].to_vec() }
    }

    /// The group of every position of a pair.
    pub fn of_pair(&self, pair: usize) -> &[usize] {
        &self.of_pairs[pair]
    }
}
