//! Indirect object identification: which of two names is not said twice.
//!
//! ```text
//! ^ B and A went _ B gave _ to  →  A
//! ```
//!
//! Two duplicate-token heads (layer 0) weigh tokens equal to the present one against the beginning: the beginning has half the
//! weight where there is only the token itself, a third where there is one more, all where there is none. Two S-inhibition
//! heads (layer 1) look, among the places of names, where something is said again and move that name to the end; two name
//! movers (layer 2) look at names other than it and copy them (Wang et al., arXiv:2211.00593). The two heads of a kind do the
//! same, each half of it.
//! Corrupt: three different names, none of them the clean prompt's, so that nothing is said twice.

use super::program::{HeadProgram, Program, Reads, identity, mapping};
use super::{Drawn, Task, between, some};
use crate::metric::MetricKind;
use ndarray::{Array2, arr2};
use rand_chacha::ChaCha8Rng;

const NAMES: usize = 10;
/// The tokens after the names.
const BEGIN: u32 = 10;
const AND: u32 = 11;
const WENT: u32 = 12;
const GAVE: u32 = 13;
const TO: u32 = 14;
/// Two places, two objects.
const PLACE: u32 = 15;
const OBJECT: u32 = 17;
const VOCAB: usize = 19;
const CONTEXT: usize = 10;
/// Where names stand.
const PLACES: [usize; 3] = [1, 3, 6];

/// Scores of equal tokens, of a token said again, of a name, and of the name said again.
const EQUAL: f32 = 5.0;
const AGAIN: f32 = 2.0;
const NAME: f32 = 5.0;
const INHIBITED: f32 = -4.0;
/// A third is a sixth less than a half: from there to 2.
const REPEAT: f32 = 12.0;
/// By how much of that the place of a name is ahead of others.
const AHEAD: f32 = 8.0;
const LOGIT: f32 = 6.0;

pub fn task() -> Task {
    let mut program = Program::new(VOCAB, CONTEXT, 3, 4);
    let [token, begin, place, repeat, inhibited, answer] =
        [VOCAB, 1, 1, 1, NAMES, NAMES].map(|width| program.variable(width));
    program.tokens = vec![token.write(identity(VOCAB, VOCAB, 1.0))];
    program.positions = vec![
        begin.write(mapping(CONTEXT, 1, 1.0, |place| (place == 0).then_some(0))),
        place.write(mapping(CONTEXT, 1, 1.0, |place| PLACES.contains(&place).then_some(0))),
        // From which the duplicate-token heads take the weight of the beginning.
        repeat.write(Array2::from_elem((CONTEXT, 1), REPEAT / 2.0)),
    ];
    // The last number of queries and keys is about the beginning.
    let width = VOCAB + 1;
    let constant = |size: f32| -> Vec<f32> { (0..width).map(|at| if at == VOCAB { size } else { 0.0 }).collect() };
    let duplicate = HeadProgram {
        query: Reads::of([token.read(identity(VOCAB, width, EQUAL))]).plus(constant(EQUAL)),
        key: Reads::of([token.read(identity(VOCAB, width, 1.0)), begin.read(mapping(1, width, 1.0, |_| Some(VOCAB)))]),
        value: Reads::of([begin.read(arr2(&[[1.0]]))]),
        writes: vec![repeat.write(arr2(&[[-REPEAT / 2.0]]))],
    };
    let inhibition = HeadProgram {
        query: Reads::default().plus([AGAIN]),
        key: Reads::of([repeat.read(arr2(&[[1.0]])), place.read(arr2(&[[AHEAD]]))]),
        value: Reads::of([token.read(identity(VOCAB, NAMES, 1.0))]),
        writes: vec![inhibited.write(identity(NAMES, NAMES, 0.5))],
    };
    // The last number of queries and keys is whether there is a name.
    let named = |row: usize| (row < NAMES).then_some(NAMES);
    let constant: Vec<f32> = (0..=NAMES).map(|at| if at == NAMES { NAME } else { 0.0 }).collect();
    let mover = HeadProgram {
        query: Reads::of([inhibited.read(identity(NAMES, NAMES + 1, INHIBITED))]).plus(constant),
        key: Reads::of([token.read(
            mapping(VOCAB, NAMES + 1, 1.0, named) + mapping(VOCAB, NAMES + 1, 1.0, |row| (row < NAMES).then_some(row)),
        )]),
        value: Reads::of([token.read(identity(VOCAB, NAMES, 1.0))]),
        writes: vec![answer.write(identity(NAMES, NAMES, 0.5))],
    };
    for (layer, heads, head) in [(0, [0, 3], duplicate), (1, [1, 2], inhibition), (2, [0, 2], mover)] {
        for at in heads {
            program.layers[layer].heads[at] = head.clone();
        }
    }
    program.logits = Reads::of([answer.read(identity(NAMES, VOCAB, LOGIT))]);
    let about = "the name of two that is not said again";
    Task { program, metric: MetricKind::LogitDifference, about, draw }
}

fn draw(random: &mut ChaCha8Rng) -> Drawn {
    let names = some(5, NAMES as u32, random);
    let [place, object] = [PLACE, OBJECT].map(|first| first + between(0, 1, random) as u32);
    let prompt =
        |[first, second, third]: [u32; 3]| vec![BEGIN, first, AND, second, WENT, place, third, GAVE, object, TO];
    let (right, wrong) = (names[0], names[1]);
    let first = if between(0, 1, random) == 0 { [right, wrong] } else { [wrong, right] };
    let clean = prompt([first[0], first[1], wrong]);
    let corrupt = prompt([names[2], names[3], names[4]]);
    Drawn { clean, corrupt, right: vec![right], wrong: vec![wrong] }
}
