//! `[[teach]]`: sentences beside the task that only the growing of toy models uses, such as the single facts of a chain.

use super::slot::{Draw, Part, UNSET, choose, render};
use super::{Answers, Content, Task, Templates};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One `[[teach]]` entry with its names looked up.
#[derive(Clone, Debug)]
pub(crate) struct Taught {
    pub name: String,
    pub parts: Vec<Part>,
    pub right: Answers,
    /// The slots to draw, each after those it depends on.
    pub order: Vec<usize>,
}

/// A sentence to learn: a text and what may follow it (leading space included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lesson {
    pub text: String,
    pub right: Vec<String>,
    pub name: String,
}

/// `count` sentences of the task's `[[teach]]` entries in turn, drawn independently; none if the task has no such entry.
/// They know no [`Split`](super::Split): what they teach is taught for every value of every slot.
pub fn lessons(task: &Task, count: usize, seed: u64) -> Vec<Lesson> {
    let Content::Templates(templates) = &task.content else { return Vec::new() };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    templates.taught.iter().cycle().take(count).filter_map(|taught| draw(templates, taught, &mut rng)).collect()
}

/// `None` where `distinct_from` leaves a slot without a value.
fn draw(templates: &Templates, taught: &Taught, rng: &mut ChaCha8Rng) -> Option<Lesson> {
    let mut draw: Draw = vec![UNSET; templates.slots.len()];
    for &slot in &taught.order {
        draw[slot] = choose(&templates.slots, slot, &draw, rng)?;
    }
    let right = templates.answers(&taught.right, &draw).into_iter().collect();
    Some(Lesson { text: render(&taught.parts, &templates.slots, &draw), right, name: taught.name.clone() })
}
