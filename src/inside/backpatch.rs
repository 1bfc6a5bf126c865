//! Back-patching: for prompts that the model gets wrong, the output of a later block put back as that of an earlier one, at the
//! same position. If that mends the answer, the model had computed what it needed, too late to use it.
//!
//! Paper: Biran et al., arXiv:2406.12775. "At least one pair of layers mends it" has a chance rate that grows with the pairs, so
//! it stands beside nulls: the same with forward pairs (an earlier block's output put in later), with the donor another
//! prompt, and with the answer of another prompt counted; and beside a single pair of layers that was chosen on other prompts,
//! or named before. Cost: for each prompt, position and target layer one batch, whose rows are all sources and donors, of the
//! blocks above at that position and those after it.

use super::generate::{Continuation, Sampling};
use super::patchscope::{Reading, Target, read};
use super::prompt::of_pair;
use crate::compare::overlap::wilson;
use crate::dataset::TokenPair;
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
    pub fn new(count: usize, of: usize) -> Share {
        Share { count, of, interval: wilson(count, of) }
    }

    pub fn of(flags: impl Iterator<Item = bool>) -> Share {
        let flags: Vec<bool> = flags.collect();
        Share::new(flags.iter().filter(|flag| **flag).count(), flags.len())
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

/// When an answer counts as right.
pub enum Criterion<'a> {
    /// The likeliest next token is a right answer.
    Next,
    /// A right answer's text occurs in what the model goes on with, greedily, for so many tokens.
    Text { count: usize, stop: Vec<u32>, decode: &'a dyn Fn(&[u32]) -> String },
}

impl Criterion<'_> {
    fn continuation(&self) -> Continuation {
        let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
        match self {
            Criterion::Next => Continuation { count: 0, sampling, stop: Vec::new() },
            Criterion::Text { count, stop, .. } => Continuation { count: *count, sampling, stop: stop.clone() },
        }
    }

    fn holds(&self, Reading { next, tokens }: &Reading, pair: &TokenPair) -> bool {
        match self {
            Criterion::Next => {
                u32::try_from(next.argmax(-1, false).int64_value(&[])).is_ok_and(|token| pair.right.contains(&token))
            }
            Criterion::Text { decode, .. } => {
                let text = decode(tokens);
                pair.prompt.right.iter().map(|alias| alias.trim()).any(|alias| text.contains(alias))
            }
        }
    }

    /// What the prompt by itself goes on with: a value put back where it was.
    fn unedited(&self, model: &Model, pair: &TokenPair) -> Reading {
        let target = Target::new(model, &of_pair(pair));
        let (layer, last) = (model.spec.layers - 1, pair.len() - 1);
        match self {
            Criterion::Next => Reading { next: target.next, tokens: Vec::new() },
            Criterion::Text { .. } => {
                let own = read(model, &of_pair(pair), last).swap_remove(layer);
                target.with_each(layer, last, &own.unsqueeze(0), &self.continuation()).swap_remove(0)
            }
        }
    }
}

/// Which of the pairs the model gets wrong, by its likeliest next token.
pub fn wrong<'a>(model: &Model, pairs: &'a [TokenPair]) -> Vec<&'a TokenPair> {
    wrong_by(model, pairs, &Criterion::Next)
}

/// Which of the pairs the model gets wrong. The caller keeps what is generated within the model's context.
pub fn wrong_by<'a>(model: &Model, pairs: &'a [TokenPair], criterion: &Criterion) -> Vec<&'a TokenPair> {
    pairs.iter().filter(|pair| !criterion.holds(&criterion.unedited(model, pair), pair)).collect()
}

/// Tries every pair of layers at one place of prompts that all have it; `failures` are those that the model gets wrong.
/// `progress` is told how much is done, from 0 to 1.
pub fn at(model: &Model, place: &str, failures: &[&TokenPair], progress: &mut dyn FnMut(f64)) -> Found {
    at_by(model, place, failures, &Criterion::Next, progress)
}

/// As [`at`], by any criterion.
pub fn at_by(
    model: &Model,
    place: &str,
    failures: &[&TokenPair],
    criterion: &Criterion,
    progress: &mut dyn FnMut(f64),
) -> Found {
    let layers = model.spec.layers;
    let all: Vec<Pair> =
        (0..layers).flat_map(|source| (0..layers).map(move |target| Pair { source, target })).collect();
    let continuation = criterion.continuation();
    // The last token of the place, where a word is complete.
    let position = |pair: &TokenPair| pair.positions.get(place).map_or(pair.len() - 1, |range| range.end - 1);
    let mut rows: Vec<Row> = Vec::new();
    for (index, pair) in failures.iter().enumerate() {
        progress(index as f64 / failures.len() as f64);
        let target = Target::new(model, &of_pair(pair));
        // The next that asks for something else: another prompt with the same answer would be no null.
        let mut others = (1..failures.len()).map(|step| failures[(index + step) % failures.len()]);
        let other = others.find(|other| !other.right.iter().any(|token| pair.right.contains(token)));
        let own = read(model, &of_pair(pair), position(pair));
        let donor = other.map(|other| read(model, &of_pair(other), position(other)));
        let mut row = Row::new(all.len());
        for layer in 0..layers {
            // All sources, then the donors from above.
            let of_donor = donor.as_deref().map_or(&[][..], |donor| &donor[layer + 1..]);
            let values: Vec<&Tensor> = own.iter().chain(of_donor).collect();
            let readings = target.with_each(layer, position(pair), &Tensor::stack(&values, 0), &continuation);
            for (source, reading) in readings.iter().enumerate() {
                let right = criterion.holds(reading, pair);
                match source.checked_sub(layers) {
                    None => {
                        row.mended[source * layers + layer] = right;
                        row.answer[source * layers + layer] =
                            other.is_some_and(|other| criterion.holds(reading, other));
                    }
                    Some(above) => row.donor[(layer + 1 + above) * layers + layer] = right,
                }
            }
        }
        rows.push(row);
    }
    let back = |pair: &Pair| pair.source > pair.target;
    let any = |of: fn(&Row) -> &Vec<bool>, which: &dyn Fn(&Pair) -> bool| {
        Share::of(rows.iter().map(|row| of(row).iter().zip(&all).any(|(flag, pair)| *flag && which(pair))))
    };
    let (first, second) = rows.split_at(rows.len() / 2);
    let count = |rows: &[Row], index: usize| rows.iter().filter(|row| row.mended[index]).count();
    // Of equal pairs the first.
    let best = (0..all.len()).filter(|&index| back(&all[index])).rev().max_by_key(|&index| count(first, index));
    let chosen = best
        .filter(|_| !first.is_empty())
        .map(|index| (all[index], Share::of(second.iter().map(|row| row.mended[index]))));
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

/// Of one prompt, for every pair of layers, sources outermost.
struct Row {
    mended: Vec<bool>,
    donor: Vec<bool>,
    answer: Vec<bool>,
}

impl Row {
    fn new(pairs: usize) -> Row {
        Row { mended: vec![false; pairs], donor: vec![false; pairs], answer: vec![false; pairs] }
    }
}
