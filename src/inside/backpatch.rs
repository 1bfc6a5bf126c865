//! Back-patching: for prompts that the model gets wrong, the output of a later block put back as that of an earlier one, at the
//! same position. If that mends the answer, the model had computed what it needed, too late to use it.
//!
//! Paper: Biran et al., arXiv:2406.12775. "At least one pair of layers mends it" has a chance rate that grows with the pairs, so
//! it stands beside nulls: the same with forward pairs (an earlier block's output put in later), with the donor another
//! prompt, and with the answer of another prompt counted; and beside a single pair of layers that was chosen on other prompts.
//! Cost: for each prompt and position one run of the blocks above t for every pair (s, t).

use super::generate::{Continuation, Sampling};
use super::patchscope::{Mapping, Target, read};
use crate::compare::overlap::wilson;
use crate::dataset::TokenPair;
use crate::intervene::position::Prompt;
use crate::model::Model;
use tch::Tensor;

/// A share of prompts with its 95 % interval (Wilson).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Share {
    pub count: usize,
    pub of: usize,
    pub interval: [f64; 2],
}

impl Share {
    pub fn new(flags: impl Iterator<Item = bool>) -> Share {
        let flags: Vec<bool> = flags.collect();
        let count = flags.iter().filter(|flag| **flag).count();
        Share { count, of: flags.len(), interval: wilson(count, flags.len()) }
    }
}

/// Two layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    pub source: usize,
    pub target: usize,
}

/// What was found at one place of the prompts.
#[derive(Clone, PartialEq, Debug)]
pub struct Found {
    pub place: String,
    /// Mended by at least one pair with the source above the target.
    pub any: Share,
    /// The nulls: by at least one pair with the source below; with a prompt of another answer as the donor; with that answer.
    pub forward: Share,
    pub donor: Share,
    pub answer: Share,
    /// The pair that mends most of the first half of the prompts, and what it does to the second.
    pub chosen: Option<(Pair, Share)>,
    /// How many prompts each pair mends.
    pub pairs: Vec<(Pair, usize)>,
}

/// Which of the pairs the model gets wrong, by its likeliest next token.
pub fn wrong<'a>(model: &Model, pairs: &'a [TokenPair]) -> Vec<&'a TokenPair> {
    pairs.iter().filter(|pair| !says(&Target::new(model, &encoded(pair)).next, pair)).collect()
}

fn encoded(pair: &TokenPair) -> (Vec<u32>, Prompt) {
    (pair.clean.clone(), Prompt::of_length(pair.len()))
}

/// Whether the likeliest token is a right answer of the pair.
fn says(next: &Tensor, pair: &TokenPair) -> bool {
    u32::try_from(next.argmax(-1, false).int64_value(&[])).is_ok_and(|token| pair.right.contains(&token))
}

/// Tries every pair of layers at one place of prompts that all have it; `failures` are those that the model gets wrong.
/// `progress` is told how much is done, from 0 to 1.
pub fn at(model: &Model, place: &str, failures: &[&TokenPair], progress: &mut dyn FnMut(f64)) -> Found {
    let layers = model.spec.layers;
    let all: Vec<Pair> =
        (0..layers).flat_map(|source| (0..layers).map(move |target| Pair { source, target })).collect();
    let once =
        Continuation { count: 0, sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 }, stop: Vec::new() };
    // The last token of the place, where a word is complete.
    let position = |pair: &TokenPair| pair.positions.get(place).map_or(pair.len() - 1, |range| range.end - 1);
    let mut rows: Vec<Row> = Vec::new();
    for (index, pair) in failures.iter().enumerate() {
        progress(index as f64 / failures.len() as f64);
        let target = Target::new(model, &encoded(pair));
        // The next that asks for something else: another prompt with the same answer would be no null.
        let mut others = (1..failures.len()).map(|step| failures[(index + step) % failures.len()]);
        let other = others.find(|other| !other.right.iter().any(|token| pair.right.contains(token)));
        let own = read(model, &encoded(pair), position(pair));
        let donor = other.map(|other| read(model, &encoded(other), position(other)));
        let mut row = Row::default();
        for &layers in &all {
            let next = |values: &[Tensor]| {
                let value = &values[layers.source];
                target.with(layers.target, position(pair), value, Mapping::Identity, &once).next
            };
            let mended = next(&own);
            row.mended.push(says(&mended, pair));
            row.answer.push(other.is_some_and(|other| says(&mended, other)));
            let donor = donor.as_ref().filter(|_| layers.source > layers.target);
            row.donor.push(donor.is_some_and(|donor| says(&next(donor), pair)));
        }
        rows.push(row);
    }
    let back = |pair: &Pair| pair.source > pair.target;
    let any = |of: fn(&Row) -> &Vec<bool>, which: &dyn Fn(&Pair) -> bool| {
        Share::new(rows.iter().map(|row| of(row).iter().zip(&all).any(|(flag, pair)| *flag && which(pair))))
    };
    let (first, second) = rows.split_at(rows.len() / 2);
    let count = |rows: &[Row], index: usize| rows.iter().filter(|row| row.mended[index]).count();
    // Of equal pairs the first.
    let best = (0..all.len()).filter(|&index| back(&all[index])).rev().max_by_key(|&index| count(first, index));
    let chosen = best
        .filter(|_| !first.is_empty())
        .map(|index| (all[index], Share::new(second.iter().map(|row| row.mended[index]))));
    Found {
        place: place.to_owned(),
        any: any(|row| &row.mended, &back),
        forward: any(|row| &row.mended, &|pair| pair.source < pair.target),
        donor: any(|row| &row.donor, &back),
        answer: any(|row| &row.answer, &back),
        chosen,
        pairs: all.iter().enumerate().map(|(index, pair)| (*pair, count(&rows, index))).collect(),
    }
}

/// Of one prompt, for every pair of layers.
#[derive(Default)]
struct Row {
    mended: Vec<bool>,
    donor: Vec<bool>,
    answer: Vec<bool>,
}
