//! Reversal: the i-th token of a sequence read from its end.
//!
//! ```text
//! ^ E A B F _ _ 2  →  B
//! ```
//!
//! As Tracr compiles it (Lindner et al., arXiv:2301.05062): a head attends to all positions alike, which gives the number of
//! tokens (layer 0); an MLP makes it a category, in steps; an MLP makes of it and of i the target's position (layer 1); a head
//! moves the token from there (layer 2).
//! Corrupt: another length, another i, other tokens, and another target.

use super::program::{HeadProgram, MlpProgram, Program, Reads, identity, mapping};
use super::{Drawn, Task, between, some};
use crate::metric::MetricKind;
use ndarray::{Array2, arr2};
use rand_chacha::ChaCha8Rng;

const WORDS: usize = 10;
const PAD: u32 = 10;
const BEGIN: u32 = 11;
/// The token that asks for the first from the end; those for the others follow.
const ASK: usize = 12;
const LONGEST: usize = 6;
const SHORTEST: usize = 3;
const VOCAB: usize = ASK + LONGEST;
const CONTEXT: usize = LONGEST + 2;

/// What a token adds to the length as a number of the residual stream.
const COUNT: f32 = 1.0 / 3.0;
/// How far length and i have to be there together before the target is.
const BOTH: f32 = 1.1;
const SHARP: f32 = 6.0;
const LOGIT: f32 = 6.0;

pub fn task() -> Task {
    let mut program = Program::new(VOCAB, CONTEXT, 3, 4);
    let [token, position, count, length, target, answer] =
        [VOCAB, CONTEXT, 1, LONGEST, CONTEXT, WORDS].map(|width| program.variable(width));
    program.tokens = vec![token.write(identity(VOCAB, VOCAB, 1.0))];
    program.positions = vec![position.write(identity(CONTEXT, CONTEXT, 1.0))];
    program.layers[0].heads[2] = HeadProgram {
        value: Reads::of([token.read(mapping(VOCAB, 1, CONTEXT as f32, |row| (row < WORDS).then_some(0)))]),
        writes: vec![count.write(arr2(&[[COUNT]]))],
        ..HeadProgram::default()
    };
    // Step l goes from 0 to 1 while the count goes from l − 3/4 to l − 1/4, by two units; length l is step l less step l + 1.
    let steps = LONGEST + 1;
    let rising = |unit: usize| 1.5 - 2.0 * (unit / 2 + 1) as f32 - (unit % 2) as f32;
    program.layers[0].mlp = MlpProgram {
        input: Reads::of([count.read(Array2::from_elem((1, 2 * steps), 2.0 / COUNT))])
            .plus((0..2 * steps).map(rising).collect::<Vec<_>>()),
        writes: vec![length.write(Array2::from_shape_fn((2 * steps, LONGEST), |(unit, at)| {
            let sign = [1.0, -1.0][unit % 2];
            match (unit / 2).checked_sub(at) {
                Some(0) => sign,
                Some(1) => -sign,
                _ => 0.0,
            }
        }))],
    };
    // One unit for each length and i: both, counted from 0, are there.
    let [units, of] = [LONGEST * LONGEST, LONGEST];
    let is_length = mapping(units, LONGEST, 1.0, |unit| Some(unit / of)).reversed_axes();
    let is_asked = mapping(units, VOCAB, 1.0, |unit| Some(ASK + unit % of)).reversed_axes();
    program.layers[1].mlp = MlpProgram {
        input: Reads::of([length.read(is_length), token.read(is_asked)]).plus(vec![-BOTH; units]),
        // Position 1 has the first token; of l tokens the i-th from the end is at l + 1 − i.
        writes: vec![target.write(mapping(units, CONTEXT, 1.0 / (2.0 - BOTH), |unit| {
            (unit / of + 1).checked_sub(unit % of).filter(|&place| place > 0)
        }))],
    };
    program.layers[2].heads[1] = HeadProgram {
        query: Reads::of([target.read(identity(CONTEXT, CONTEXT, SHARP))]),
        key: Reads::of([position.read(identity(CONTEXT, CONTEXT, 1.0))]),
        value: Reads::of([token.read(identity(VOCAB, WORDS, 1.0))]),
        writes: vec![answer.write(identity(WORDS, WORDS, 1.0))],
    };
    program.logits = Reads::of([answer.read(identity(WORDS, VOCAB, LOGIT))]);
    let about = "the i-th token from the end";
    Task { program, metric: MetricKind::LogitDifference, about, draw }
}

fn draw(random: &mut ChaCha8Rng) -> Drawn {
    let words = some(WORDS, WORDS as u32, random);
    let length = between(SHORTEST, LONGEST, random);
    let asked = between(1, length, random);
    let target = length - asked;
    loop {
        let other_length = between(SHORTEST.max(length - 2), LONGEST.min(length + 2), random);
        let other_asked = between(1, other_length, random);
        let other_target = other_length - other_asked;
        if other_length == length || other_asked == asked || other_target == target {
            continue;
        }
        // Of ten words in a circle, each stands three later than in the clean prompt.
        let other = |place: usize| words[(place + 3) % WORDS];
        let prompt = |length: usize, asked: usize, word: &dyn Fn(usize) -> u32| -> Vec<u32> {
            let middle = (0..LONGEST).map(|place| if place < length { word(place) } else { PAD });
            [BEGIN].into_iter().chain(middle).chain([(ASK + asked - 1) as u32]).collect()
        };
        let (right, wrong) = (words[target], other(other_target));
        if right == wrong {
            continue;
        }
        let clean = prompt(length, asked, &|place| words[place]);
        let corrupt = prompt(other_length, other_asked, &other);
        return Drawn { clean, corrupt, right: vec![right], wrong: vec![wrong] };
    }
}
