//! Induction: a random sequence, the end of a repetition of it, and what comes next.
//!
//! ```text
//! ^ E A B F C D G  E A  →  B
//! ```
//!
//! A previous-token head (layer 0) writes at each token which one stands before it; an induction head (layer 1) looks for the
//! token whose predecessor is the present one and copies it (Elhage et al., 2021; Olsson et al., arXiv:2209.11895).
//! Corrupt: A and B, wherever they stand, are other tokens, so that queries, keys and values all differ; the wrong answer is
//! the corrupt prompt's own.

use super::program::{HeadProgram, Program, Reads, identity, mapping};
use super::{Drawn, Task, between, some};
use crate::metric::MetricKind;
use rand_chacha::ChaCha8Rng;

/// Tokens that sequences are drawn from; the beginning is one more.
const WORDS: usize = 16;
const BEGIN: u32 = WORDS as u32;
const VOCAB: usize = WORDS + 1;

/// Tokens of the sequence, and of its repetition.
const LENGTH: usize = 7;
const REPEATED: usize = 3;
const CONTEXT: usize = 1 + LENGTH + REPEATED;

/// Scores of positions and of tokens that fit, and the logit of a token that is copied whole.
const SHARP: f32 = 8.0;
const FITS: f32 = 7.0;
const LOGIT: f32 = 6.0;

pub fn task() -> Task {
    let mut program = Program::new(VOCAB, CONTEXT, 2, 4);
    let [token, position, before, copied] = [VOCAB, CONTEXT, VOCAB, VOCAB].map(|width| program.variable(width));
    program.tokens = vec![token.write(identity(VOCAB, VOCAB, 1.0))];
    program.positions = vec![position.write(identity(CONTEXT, CONTEXT, 1.0))];
    program.layers[0].heads[1] = HeadProgram {
        query: Reads::of([position.read(identity(CONTEXT, CONTEXT, SHARP))]),
        key: Reads::of([position.read(mapping(CONTEXT, CONTEXT, 1.0, |place| Some(place + 1)))]),
        value: Reads::of([token.read(identity(VOCAB, VOCAB, 1.0))]),
        writes: vec![before.write(identity(VOCAB, VOCAB, 1.0))],
    };
    program.layers[1].heads[2] = HeadProgram {
        query: Reads::of([token.read(identity(VOCAB, VOCAB, FITS))]),
        key: Reads::of([before.read(identity(VOCAB, VOCAB, 1.0))]),
        value: Reads::of([token.read(identity(VOCAB, VOCAB, 1.0))]),
        writes: vec![copied.write(identity(VOCAB, VOCAB, 1.0))],
    };
    program.logits = Reads::of([copied.read(identity(VOCAB, VOCAB, LOGIT))]);
    let about = "what came after the last token before";
    Task { program, metric: MetricKind::LogitDifference, about, draw }
}

fn draw(random: &mut ChaCha8Rng) -> Drawn {
    let words = some(LENGTH + 2, WORDS as u32, random);
    let (sequence, other) = words.split_at(LENGTH);
    let last = between(REPEATED - 1, LENGTH - 2, random);
    let repeated = &sequence[last + 1 - REPEATED..=last];
    let clean: Vec<u32> = [BEGIN].iter().chain(sequence).chain(repeated).copied().collect();
    let replaced = |token: u32| match token {
        token if token == sequence[last] => other[0],
        token if token == sequence[last + 1] => other[1],
        token => token,
    };
    let corrupt = clean.iter().map(|&token| replaced(token)).collect();
    Drawn { clean, corrupt, right: vec![sequence[last + 1]], wrong: vec![other[1]] }
}
