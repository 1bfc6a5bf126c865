//! Proportion: how many eighths of the tokens are an x.
//!
//! ```text
//! ^ x a x b a x c a  →  3
//! ```
//!
//! Tracr's `frac_prevs` (Lindner et al., arXiv:2301.05062): a head attends to all positions alike and gives the share of x
//! (layer 0), which the logits read in two ways: by itself, as 2 b s − b² for the answer b, largest at the b nearest to the
//! share s, and through an MLP (layer 1) that makes bumps around each answer.
//! Corrupt: another number of x; the metric compares the logits of the two numbers, a regression over buckets.

use super::program::{HeadProgram, MlpProgram, Program, Reads, identity, mapping};
use super::{Drawn, Task, some};
use crate::metric::MetricKind;
use ndarray::{Array2, arr2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// x, three other tokens, and the beginning.
const VOCAB: usize = 5;
const BEGIN: u32 = 4;
const TOKENS: usize = 8;
const CONTEXT: usize = TOKENS + 1;
const ANSWERS: usize = TOKENS + 1;

/// What an x adds to the share as a number of the residual stream.
const COUNT: f32 = 0.25;
/// The logits by the share itself, and of the middle of a bump.
const STRAIGHT: f32 = 0.25;
const BUMP: f32 = 4.0;

pub fn task() -> Task {
    let mut program = Program::new(VOCAB, CONTEXT, 2, 4);
    let [token, share, near] = [VOCAB, 1, ANSWERS].map(|width| program.variable(width));
    program.tokens = vec![token.write(identity(VOCAB, VOCAB, 1.0))];
    program.layers[0].heads[0] = HeadProgram {
        value: Reads::of([token.read(mapping(VOCAB, 1, CONTEXT as f32, |row| (row == 0).then_some(0)))]),
        writes: vec![share.write(arr2(&[[COUNT]]))],
        ..HeadProgram::default()
    };
    // A bump around b is 1 at a quarter below b and 0 two further: unit k begins at k − 2 − 1/4.
    let units = ANSWERS + 4;
    program.layers[1].mlp = MlpProgram {
        input: Reads::of([share.read(Array2::from_elem((1, units), 1.0 / COUNT))])
            .plus((0..units).map(|unit| 2.25 - unit as f32).collect::<Vec<_>>()),
        writes: vec![near.write(Array2::from_shape_fn((units, ANSWERS), |(unit, at)| match unit.checked_sub(at) {
            Some(0 | 4) => 0.5,
            Some(2) => -1.0,
            _ => 0.0,
        }))],
    };
    let straight = Array2::from_shape_fn((1, ANSWERS), |(_, at)| 2.0 * STRAIGHT * at as f32 / COUNT);
    program.logits = Reads::of([share.read(straight), near.read(identity(ANSWERS, ANSWERS, BUMP))])
        .plus((0..ANSWERS).map(|at| -STRAIGHT * (at * at) as f32).collect::<Vec<_>>());
    let about = "how many eighths of the tokens are an x";
    Task { program, metric: MetricKind::LogitDifference, about, draw }
}

fn draw(random: &mut ChaCha8Rng) -> Drawn {
    let numbers = some(2, ANSWERS as u32, random);
    let mut prompt = |count: u32| -> Vec<u32> {
        let places = some(count as usize, TOKENS as u32, random);
        let middle = (0..TOKENS as u32)
            .map(|place| if places.contains(&place) { 0 } else { random.random_range(1..BEGIN as u64) as u32 });
        [BEGIN].into_iter().chain(middle).collect()
    };
    let (clean, corrupt) = (prompt(numbers[0]), prompt(numbers[1]));
    Drawn { clean, corrupt, right: vec![numbers[0]], wrong: vec![numbers[1]] }
}
