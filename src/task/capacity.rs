//! How many different pairs a task can make.

use super::expand::{Deck, Split, complete, data_pairs, decks};
use super::slot::{Draw, UNSET, candidates, render};
use super::{Content, Task, TaskError};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// Frames with more combinations than this are not counted one by one.
pub(super) const MANY: u64 = 200_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capacity {
    Exactly(usize),
    /// Too many combinations to count; there are no more pairs than this.
    AtMost(u64),
}

/// The number of pairs with different clean texts in a split.
pub fn capacity(task: &Task, split: Split, corruption: Option<&str>) -> Result<Capacity, TaskError> {
    let Content::Templates(templates) = &task.content else {
        return Ok(Capacity::Exactly(data_pairs(task, split, corruption)?.len()));
    };
    let decks = decks(task, templates, corruption)?;
    if decks.iter().any(|deck| combinations(deck) > MANY) {
        return Ok(Capacity::AtMost(decks.iter().map(combinations).fold(0, u64::saturating_add)));
    }
    let mut found: HashSet<String> = HashSet::new();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for deck in &decks {
        each_clean(deck, |clean, draw| {
            if !found.contains(clean) && deck.in_split(split, clean, draw) && complete(deck, draw, &mut rng).is_some() {
                found.insert(clean.to_owned());
            }
        });
    }
    Ok(Capacity::Exactly(found.len()))
}

/// An upper bound on the combinations of the slots that decide the clean text.
pub(super) fn combinations(deck: &Deck) -> u64 {
    let visible = &deck.variant.order[..deck.variant.visible];
    let values = visible.iter().map(|&slot| deck.templates.slots[slot].most_values(&deck.templates.longest, slot));
    values.fold(1, u64::saturating_mul)
}

/// Visits every combination of the slots that decide the clean text, with that text; the other slots are unset.
pub(super) fn each_clean(deck: &Deck, mut visit: impl FnMut(&str, &mut Draw)) {
    let mut draw = vec![UNSET; deck.templates.slots.len()];
    descend(deck, 0, &mut draw, &mut visit);
}

fn descend(deck: &Deck, at: usize, draw: &mut Draw, visit: &mut impl FnMut(&str, &mut Draw)) {
    if at == deck.variant.visible {
        let clean = render(&deck.frame.parts, &deck.templates.slots, draw);
        visit(&clean, draw);
        return;
    }
    let slot = deck.variant.order[at];
    for value in candidates(&deck.templates.slots, slot, draw) {
        draw[slot] = value;
        descend(deck, at + 1, draw, visit);
    }
    draw[slot] = UNSET;
}
