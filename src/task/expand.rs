//! From a task to prompt pairs: seeded draws, each clean text once, frames in turn.
//!
//! A frame draws at random until new pairs become rare; then the combinations that are left are listed, if there are few
//! enough of them, so that a small task gives every pair it has.

use super::capacity::{Capacity, MANY, capacity, combinations, each_clean};
use super::slot::{Draw, Part, UNSET, Values, candidates, choose, render};
use super::{Answers, Content, Frame, SplitBy, Task, TaskError, Templates, Variant};
use indexmap::{IndexMap, IndexSet};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// Draws in a row that give nothing new before a frame's combinations are listed.
const RARE: usize = 200;
/// Draws in a row that give nothing new before a frame too large to list is given up.
const HOPELESS: usize = 20_000;

/// Which pairs: those to score on, those held out, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Split {
    Train,
    Test,
    All,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
            Split::All => "all",
        })
    }
}

/// What is asked of a task.
#[derive(Clone, Debug)]
pub struct Expansion {
    pub split: Split,
    pub pairs: usize,
    pub seed: u64,
    /// A corruption by name; `None` takes the first that applies to each frame.
    pub corruption: Option<String>,
}

/// A clean prompt, its corrupt twin and the answers to the clean one (leading space included).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PromptPair {
    pub clean: String,
    pub corrupt: String,
    pub right: Vec<String>,
    pub wrong: Vec<String>,
    pub frame: String,
    pub corruption: String,
    /// Named places: bytes of `clean`.
    pub positions: IndexMap<String, Range<usize>>,
}

/// Draws longer than this are preceded by a count.
const LONG_DRAW: usize = 20_000;

/// Makes `pairs` prompt pairs with different clean texts. The same seed gives the same pairs, and a larger number of pairs
/// begins with those of a smaller one.
pub fn expand(task: &Task, expansion: &Expansion) -> Result<Vec<PromptPair>, TaskError> {
    if expansion.pairs == 0 {
        return Err(TaskError::NoPairs { task: task.name.clone() });
    }
    // Before a long draw it pays to count what there is to draw.
    if expansion.pairs > LONG_DRAW {
        let (possible, verb) = match capacity(task, expansion.split, expansion.corruption.as_deref())? {
            Capacity::Exactly(possible) => (possible, "can make only"),
            Capacity::AtMost(possible) => (usize::try_from(possible).unwrap_or(usize::MAX), "cannot make more than"),
        };
        if possible < expansion.pairs {
            let (task, split) = (task.name.clone(), expansion.split);
            return Err(TaskError::TooFew { task, split, asked: expansion.pairs, possible, verb });
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(expansion.seed);
    let pairs = match &task.content {
        Content::Templates(templates) => from_templates(task, templates, expansion, &mut rng)?,
        Content::Data(_) => {
            let mut pairs = data_pairs(task, expansion.split, expansion.corruption.as_deref())?;
            pairs.shuffle(&mut rng);
            pairs.truncate(expansion.pairs);
            pairs
        }
    };
    if pairs.len() == expansion.pairs {
        return Ok(pairs);
    }
    let (possible, verb) = match capacity(task, expansion.split, expansion.corruption.as_deref())? {
        Capacity::Exactly(possible) => (possible, "can make only"),
        Capacity::AtMost(_) => (pairs.len(), "gave only"),
    };
    let (task, split) = (task.name.clone(), expansion.split);
    Err(TaskError::TooFew { task, split, asked: expansion.pairs, possible, verb })
}

/// The pairs of a data file in one split, each clean text once, in the order of the file.
pub(super) fn data_pairs(task: &Task, split: Split, corruption: Option<&str>) -> Result<Vec<PromptPair>, TaskError> {
    let Content::Data(rows) = &task.content else { return Ok(Vec::new()) };
    if let Some(name) = corruption.filter(|name| *name != "data") {
        return Err(unknown_corruption(task, name, vec!["data".into()]));
    }
    let mut seen = HashSet::new();
    let wanted = rows.iter().filter(|row| split == Split::All || in_test_by_hash(&row.clean) == (split == Split::Test));
    Ok(wanted
        .filter(|row| seen.insert(row.clean.as_str()))
        .map(|row| PromptPair {
            clean: row.clean.clone(),
            corrupt: row.corrupt.clone(),
            right: row.right.clone(),
            wrong: row.wrong.clone(),
            frame: "data".into(),
            corruption: "data".into(),
            positions: IndexMap::new(),
        })
        .collect())
}

fn unknown_corruption(task: &Task, name: &str, known: Vec<String>) -> TaskError {
    TaskError::UnknownCorruption { task: task.name.clone(), corruption: name.to_owned(), known }
}

/// A frame under one corruption.
#[derive(Clone, Copy)]
pub(super) struct Deck<'a> {
    pub templates: &'a Templates,
    pub index: usize,
    pub frame: &'a Frame,
    pub variant: &'a Variant,
}

/// The frames that take part, each with the corruption asked for or its default.
pub(super) fn decks<'a>(
    task: &Task,
    templates: &'a Templates,
    corruption: Option<&str>,
) -> Result<Vec<Deck<'a>>, TaskError> {
    let decks: Vec<Deck> = templates
        .frames
        .iter()
        .enumerate()
        .filter_map(|(index, frame)| {
            let variant = match corruption {
                None => frame.variants.first(),
                Some(name) => frame.variants.iter().find(|variant| variant.corruption == name),
            };
            Some(Deck { templates, index, frame, variant: variant? })
        })
        .collect();
    match (corruption, decks.is_empty()) {
        (Some(name), true) => Err(unknown_corruption(task, name, templates.corruptions.clone())),
        _ => Ok(decks),
    }
}

enum Supply {
    /// Drawing, with the number of draws in a row that gave nothing new.
    Drawing(usize),
    /// What is left, in random order, taken from the end.
    Listed(Vec<PromptPair>),
}

fn from_templates(
    task: &Task,
    templates: &Templates,
    expansion: &Expansion,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<PromptPair>, TaskError> {
    let decks = decks(task, templates, expansion.corruption.as_deref())?;
    let mut supplies: Vec<Supply> = decks.iter().map(|_| Supply::Drawing(0)).collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut pairs = Vec::new();
    let mut idle = 0;
    for turn in (0..decks.len()).cycle() {
        if pairs.len() == expansion.pairs || idle == decks.len() {
            break;
        }
        match next(&decks[turn], &mut supplies[turn], expansion.split, &seen, rng) {
            Some(pair) => {
                seen.insert(pair.clean.clone());
                pairs.push(pair);
                idle = 0;
            }
            None => idle += 1,
        }
    }
    Ok(pairs)
}

fn next(
    deck: &Deck,
    supply: &mut Supply,
    split: Split,
    seen: &HashSet<String>,
    rng: &mut ChaCha8Rng,
) -> Option<PromptPair> {
    loop {
        match supply {
            Supply::Drawing(misses) => {
                let pair = deck.draw(split, rng).ok().filter(|pair| !seen.contains(&pair.clean));
                if pair.is_some() {
                    *misses = 0;
                    return pair;
                }
                *misses += 1;
                let listable = combinations(deck) <= MANY;
                if listable && *misses >= RARE {
                    *supply = Supply::Listed(remaining(deck, split, seen, rng));
                } else if *misses >= HOPELESS {
                    *supply = Supply::Listed(Vec::new());
                }
            }
            Supply::Listed(pairs) => loop {
                let pair = pairs.pop()?;
                if !seen.contains(&pair.clean) {
                    return Some(pair);
                }
            },
        }
    }
}

/// Every clean text of the deck in the split that is not yet taken, as one pair each, in random order.
fn remaining(deck: &Deck, split: Split, seen: &HashSet<String>, rng: &mut ChaCha8Rng) -> Vec<PromptPair> {
    let mut listed: IndexMap<String, PromptPair> = IndexMap::new();
    each_clean(deck, |clean, draw| {
        if deck.in_split(split, clean, draw)
            && !seen.contains(clean)
            && !listed.contains_key(clean)
            && let Some(pair) = complete(deck, draw, rng)
        {
            listed.insert(clean.to_owned(), pair);
        }
    });
    let mut pairs: Vec<PromptPair> = listed.into_values().collect();
    pairs.shuffle(rng);
    pairs
}

/// A pair with the visible slots as drawn and the hidden ones at random, if any choice of those is usable.
pub(super) fn complete(deck: &Deck, draw: &mut Draw, rng: &mut ChaCha8Rng) -> Option<PromptPair> {
    let mut budget = 1000;
    complete_from(deck, deck.variant.visible, draw, &mut budget, rng)
}

fn complete_from(
    deck: &Deck,
    at: usize,
    draw: &mut Draw,
    budget: &mut usize,
    rng: &mut ChaCha8Rng,
) -> Option<PromptPair> {
    let Some(&slot) = deck.variant.order.get(at) else {
        *budget = budget.saturating_sub(1);
        return deck.pair(draw).ok();
    };
    let mut values = candidates(&deck.templates.slots, slot, draw);
    values.shuffle(rng);
    let mut found = None;
    for value in values {
        draw[slot] = value;
        found = complete_from(deck, at + 1, draw, budget, rng);
        if found.is_some() || *budget == 0 {
            break;
        }
    }
    draw[slot] = UNSET;
    found
}

/// Why a draw gives no pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unusable {
    /// Nothing is left for the slot.
    NoValue(usize),
    Unchanged,
    NoRight,
    NoWrong,
    RightIsWrong,
    OtherSplit,
}

impl Unusable {
    pub fn blames_corruption(self) -> bool {
        self == Unusable::Unchanged
    }

    pub fn text(self, templates: &Templates) -> String {
        match self {
            Unusable::NoValue(slot) => format!("nothing is left for slot `{}`", templates.slots[slot].name),
            Unusable::Unchanged => "the corruption changes nothing".into(),
            Unusable::NoRight => "there is no right answer".into(),
            Unusable::NoWrong => "there is no wrong answer".into(),
            Unusable::RightIsWrong => "the right answer is among the wrong ones".into(),
            Unusable::OtherSplit => "every combination is in the other split".into(),
        }
    }

    pub fn hint(self) -> &'static str {
        match self {
            Unusable::NoValue(_) => "give its list more words, widen its range, or drop a `distinct_from`",
            Unusable::Unchanged => "replace with a slot that differs: `distinct_from` keeps two slots apart",
            Unusable::NoRight | Unusable::NoWrong => "widen the set of answers",
            Unusable::RightIsWrong => "keep the slots of `right` and `wrong` apart with `distinct_from`",
            Unusable::OtherSplit => "split by slots with more values",
        }
    }
}

/// Whether a frame gives at least one pair under a corruption.
pub(super) fn trial(templates: &Templates, frame: usize, variant: usize) -> Result<(), Unusable> {
    let frame_ref = &templates.frames[frame];
    let deck = Deck { templates, index: frame, frame: frame_ref, variant: &frame_ref.variants[variant] };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut reason = Unusable::Unchanged;
    for _ in 0..RARE {
        match deck.draw(Split::All, &mut rng) {
            Ok(_) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    if combinations(&deck) <= MANY {
        let mut usable = false;
        each_clean(&deck, |_, draw| usable = usable || complete(&deck, draw, &mut rng).is_some());
        return if usable { Ok(()) } else { Err(reason) };
    }
    match (0..HOPELESS).any(|_| deck.draw(Split::All, &mut rng).is_ok()) {
        true => Ok(()),
        false => Err(reason),
    }
}

impl Templates {
    pub(super) fn answers(&self, answers: &Answers, draw: &Draw) -> IndexSet<String> {
        let space = if self.space { " " } else { "" };
        let spaced = |text: &str| format!("{space}{text}");
        match answers {
            Answers::Templates(templates) => {
                templates.iter().map(|parts| spaced(&render(parts, &self.slots, draw))).collect()
            }
            Answers::Words(words) => words.iter().map(|word| spaced(word)).collect(),
            Answers::Numbers(numbers) => numbers.list(draw).map(|number| spaced(&numbers.text(number))).collect(),
        }
    }
}

impl Answers {
    /// The slots that the answers are made of.
    pub(super) fn parts(&self) -> Vec<Part> {
        match self {
            Answers::Templates(templates) => templates.concat(),
            Answers::Numbers(numbers) => numbers.depends_on().map(|slot| Part::Value { slot, column: 0 }).collect(),
            Answers::Words(_) => Vec::new(),
        }
    }
}

impl Deck<'_> {
    fn draw(&self, split: Split, rng: &mut ChaCha8Rng) -> Result<PromptPair, Unusable> {
        let mut draw = vec![UNSET; self.templates.slots.len()];
        for &slot in &self.variant.order {
            draw[slot] = choose(&self.templates.slots, slot, &draw, rng).ok_or(Unusable::NoValue(slot))?;
        }
        if split != Split::All {
            let clean = render(&self.frame.parts, &self.templates.slots, &draw);
            if !self.in_split(split, &clean, &draw) {
                return Err(Unusable::OtherSplit);
            }
        }
        self.pair(&draw)
    }

    /// The pair of a finished draw.
    fn pair(&self, draw: &Draw) -> Result<PromptPair, Unusable> {
        let slots = &self.templates.slots;
        let (mut clean, mut corrupt) = (String::new(), String::new());
        let mut positions = IndexMap::new();
        let mut replaced = self.variant.replaced.iter().peekable();
        for (index, part) in self.frame.parts.iter().enumerate() {
            let text = render(std::slice::from_ref(part), slots, draw);
            if let Some(name) = &self.frame.positions[index] {
                positions.insert(name.clone(), clean.len()..clean.len() + text.len());
            }
            clean.push_str(&text);
            match replaced.next_if(|(at, _)| *at == index) {
                Some((_, parts)) => corrupt.push_str(&render(parts, slots, draw)),
                None => corrupt.push_str(&text),
            }
        }
        if clean == corrupt {
            return Err(Unusable::Unchanged);
        }
        let right = self.templates.answers(&self.frame.right, draw);
        let mut wrong = self.templates.answers(&self.frame.wrong, draw);
        if !matches!(self.frame.wrong, Answers::Templates(_)) {
            // A set of wrong answers means "the others of this set".
            wrong.retain(|answer| !right.contains(answer));
        }
        if right.is_empty() {
            return Err(Unusable::NoRight);
        }
        if wrong.is_empty() && !self.frame.wrong.is_empty() {
            return Err(Unusable::NoWrong);
        }
        if wrong.iter().any(|answer| right.contains(answer)) {
            return Err(Unusable::RightIsWrong);
        }
        let (frame, corruption) = (self.frame.name.clone(), self.variant.corruption.clone());
        let (right, wrong) = (right.into_iter().collect(), wrong.into_iter().collect());
        Ok(PromptPair { clean, corrupt, right, wrong, frame, corruption, positions })
    }

    pub(super) fn in_split(&self, split: Split, clean: &str, draw: &Draw) -> bool {
        let test = match &self.templates.splits {
            _ if split == Split::All => return true,
            None => in_test_by_hash(clean),
            Some(splits) => {
                let mut indices = splits.by.iter().filter_map(|by| self.split_index(by, draw)).peekable();
                match indices.peek() {
                    // The frame shows nothing of what the task is split by.
                    None => in_test_by_hash(clean),
                    Some(_) => indices.sum::<i64>().rem_euclid(splits.every) == 0,
                }
            }
        };
        test == (split == Split::Test)
    }

    /// `None` for a slot that the frame does not show. Rows that look alike in this frame count as the first of them, so
    /// that the split is a function of the clean text.
    fn split_index(&self, by: &SplitBy, draw: &Draw) -> Option<i64> {
        let slot = match by {
            SplitBy::Frame => return Some(self.index as i64),
            SplitBy::Slot(slot) => *slot,
        };
        let shown = self.frame.parts.iter().filter_map(|part| match part {
            Part::Value { slot: used, column } if *used == slot => Some(*column),
            _ => None,
        });
        let shown: Vec<usize> = shown.collect();
        let index = match &self.templates.slots[slot].values {
            _ if shown.is_empty() => return None,
            Values::Range(numbers) if numbers.low.slot.is_none() => draw[slot] - numbers.low.offset,
            Values::Rows { columns, rows, .. } if !columns.is_empty() => {
                let drawn = &rows[draw[slot] as usize];
                let alike = |row: &Vec<String>| shown.iter().all(|&column| row[column] == drawn[column]);
                rows.iter().position(alike).map_or(draw[slot], |first| first as i64)
            }
            Values::Range(_) | Values::Rows { .. } => draw[slot],
        };
        Some(index)
    }
}

/// Without `[splits]` a quarter of the clean texts, by their hash, is held out.
fn in_test_by_hash(clean: &str) -> bool {
    blake3::hash(clean.as_bytes()).as_bytes()[0].is_multiple_of(4)
}
