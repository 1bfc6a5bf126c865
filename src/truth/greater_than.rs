//! Greater-than: a year, and every later one.
//!
//! ```text
//! ^ _ 07 _ to  →  08, 09, .. 11
//! ```
//!
//! Two heads (layers 0 and 1) look for the year and move it to the end as a number, each half of it; an MLP (layer 1) turns the
//! number into all larger years, those far above it more than the next ones (Hanna et al., arXiv:2305.00586).
//! Corrupt: an earlier year, as in the paper, and at another place, so that keys differ as well.

use super::program::{HeadProgram, MlpProgram, Program, Reads, identity, mapping};
use super::{Drawn, Task, between, some};
use crate::metric::MetricKind;
use ndarray::{Array2, arr2};
use rand_chacha::ChaCha8Rng;

/// The years from 0 up; after them three nouns, the beginning and the end.
const YEARS: usize = 12;
const NOUN: u32 = YEARS as u32;
const BEGIN: u32 = NOUN + 3;
const TO: u32 = NOUN + 4;
const VOCAB: usize = YEARS + 5;
const CONTEXT: usize = 5;

/// The score of a year.
const SHARP: f32 = 4.0;
/// What a year is as a number of the residual stream.
const YEAR: f32 = 0.25;
const LOGIT: f32 = 6.0;

pub fn task() -> Task {
    let mut program = Program::new(VOCAB, CONTEXT, 2, 4);
    let [token, year, larger] = [VOCAB, 1, YEARS].map(|width| program.variable(width));
    program.tokens = vec![token.write(identity(VOCAB, VOCAB, 1.0))];
    // The year's share of a head's attention at the last position.
    let share = SHARP.exp() / (SHARP.exp() + CONTEXT as f32 - 1.0);
    let number = |row: usize| if row < YEARS { row as f32 } else { 0.0 };
    let mover = HeadProgram {
        query: Reads::default().plus([SHARP]),
        key: Reads::of([token.read(mapping(VOCAB, 1, 1.0, |row| (row < YEARS).then_some(0)))]),
        value: Reads::of([token.read(Array2::from_shape_fn((VOCAB, 1), |(row, _)| number(row)))]),
        writes: vec![year.write(arr2(&[[YEAR / share / 2.0]]))],
    };
    program.layers[0].heads[1] = mover.clone();
    program.layers[1].heads[3] = mover;
    // From 0 to 1 while the year goes from half a year above j to one and a half below: two units for each j.
    let rising = |unit: usize| (unit / 2) as f32 / 2.0 + [0.25, -0.75][unit % 2];
    let bias: Vec<f32> = (0..2 * YEARS).map(rising).collect();
    program.layers[1].mlp = MlpProgram {
        input: Reads::of([year.read(Array2::from_elem((1, 2 * YEARS), -0.5 / YEAR))]).plus(bias),
        writes: vec![larger.write(Array2::from_shape_fn((2 * YEARS, YEARS), |(unit, answer)| {
            if unit / 2 == answer { [1.0, -1.0][unit % 2] } else { 0.0 }
        }))],
    };
    program.logits = Reads::of([larger.read(identity(YEARS, VOCAB, LOGIT))]);
    let about = "every year later than that of the prompt";
    Task { program, metric: MetricKind::ProbabilityDifference, about, draw }
}

fn draw(random: &mut ChaCha8Rng) -> Drawn {
    let year = between(3, YEARS - 3, random) as u32;
    let earlier = between(0, year as usize - 3, random) as u32;
    let places = some(2, 3, random);
    let nouns = some(3, 3, random);
    let prompt = |place: u32, year: u32| -> Vec<u32> {
        let middle = (0..3).map(|at| if at == place { year } else { NOUN + nouns[at as usize] });
        [BEGIN].into_iter().chain(middle).chain([TO]).collect()
    };
    let (clean, corrupt) = (prompt(places[0], year), prompt(places[1], earlier));
    Drawn { clean, corrupt, right: (year + 1..YEARS as u32).collect(), wrong: (0..=year).collect() }
}
