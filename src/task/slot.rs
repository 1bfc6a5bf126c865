//! Slots: where a template's words and numbers come from, and which of them may stand together.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

/// One choice for every slot, by slot index: a row of its list or table, or the number itself. [`UNSET`] where none is made.
pub(crate) type Draw = Vec<i64>;
pub(crate) const UNSET: i64 = i64::MIN;

/// Ranges longer than this are taken for slips.
pub(crate) const LONGEST_RANGE: i64 = 100_000;

#[derive(Clone, Debug)]
pub struct Slot {
    pub name: String,
    pub values: Values,
    /// Slots, by index, that must not get the same words or number. Symmetric.
    pub distinct_from: Vec<usize>,
}

#[derive(Clone, Debug)]
pub enum Values {
    /// A list (one column without a name) or the rows of a fact table.
    Rows {
        from: String,
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
    },
    Range(Numbers),
}

/// Whole numbers from `low` to `high`, both included.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub low: Bound,
    pub high: Bound,
    /// Smallest number of digits, filled with zeros.
    pub pad: usize,
    pub except: Vec<i64>,
}

/// `offset`, or the number drawn for `slot` plus `offset`.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub slot: Option<usize>,
    pub offset: i64,
}

/// A piece of a template whose names are looked up.
#[derive(Clone, Debug)]
pub enum Part {
    Text(String),
    /// `column` is 0 for a list and has no meaning for a range.
    Value {
        slot: usize,
        column: usize,
    },
}

impl Bound {
    fn at(self, draw: &Draw) -> i64 {
        self.slot.map_or(0, |slot| draw[slot]) + self.offset
    }
}

impl Numbers {
    pub(crate) fn list<'a>(&'a self, draw: &Draw) -> impl Iterator<Item = i64> + use<'a> {
        (self.low.at(draw)..=self.high.at(draw)).filter(|number| !self.except.contains(number))
    }

    pub(crate) fn text(&self, number: i64) -> String {
        format!("{number:0width$}", width = self.pad)
    }

    /// The slots that the ends are computed from.
    pub(crate) fn depends_on(&self) -> impl Iterator<Item = usize> {
        [self.low.slot, self.high.slot].into_iter().flatten()
    }
}

impl Slot {
    pub(crate) fn text(&self, value: i64, column: usize) -> Cow<'_, str> {
        match &self.values {
            Values::Rows { rows, .. } => Cow::Borrowed(&rows[value as usize][column]),
            Values::Range(numbers) => Cow::Owned(numbers.text(value)),
        }
    }

    /// An upper bound on the number of values, for any choice of the other slots.
    pub(crate) fn most_values(&self, longest: &[i64], index: usize) -> u64 {
        match &self.values {
            Values::Rows { rows, .. } => rows.len() as u64,
            Values::Range(_) => longest[index].max(0) as u64,
        }
    }
}

/// Every value of `slot` that goes together with what is already drawn.
pub(crate) fn candidates(slots: &[Slot], slot: usize, draw: &Draw) -> Vec<i64> {
    domain(slots, slot, draw).filter(|&value| fits(slots, slot, value, draw)).collect()
}

/// A random value of `slot` that goes together with what is already drawn.
pub(crate) fn choose(slots: &[Slot], slot: usize, draw: &Draw, rng: &mut ChaCha8Rng) -> Option<i64> {
    let domain = domain(slots, slot, draw);
    if domain.is_empty() {
        return None;
    }
    // Most values fit, so that listing all of them is seldom needed.
    for _ in 0..16 {
        let value = rng.random_range(domain.clone());
        if fits(slots, slot, value, draw) {
            return Some(value);
        }
    }
    let values = candidates(slots, slot, draw);
    (!values.is_empty()).then(|| values[rng.random_range(0..values.len() as u64) as usize])
}

fn domain(slots: &[Slot], slot: usize, draw: &Draw) -> Range<i64> {
    match &slots[slot].values {
        Values::Rows { rows, .. } => 0..rows.len() as i64,
        Values::Range(numbers) => numbers.low.at(draw)..numbers.high.at(draw) + 1,
    }
}

fn fits(slots: &[Slot], slot: usize, value: i64, draw: &Draw) -> bool {
    let excepted = matches!(&slots[slot].values, Values::Range(numbers) if numbers.except.contains(&value));
    let clashes = |other: &usize| draw[*other] != UNSET && clash(slots, slot, value, *other, draw[*other]);
    !excepted && !slots[slot].distinct_from.iter().any(clashes)
}

/// Whether two slots have a word or number in common: in columns of the same name if they share any, else in any column.
fn clash(slots: &[Slot], a: usize, a_value: i64, b: usize, b_value: i64) -> bool {
    match (&slots[a].values, &slots[b].values) {
        (Values::Range(_), Values::Range(_)) => a_value == b_value,
        (Values::Rows { columns: ac, rows: ar, .. }, Values::Rows { columns: bc, rows: br, .. }) => {
            let (a_row, b_row) = (&ar[a_value as usize], &br[b_value as usize]);
            let mut shared =
                ac.iter().enumerate().filter_map(|(i, name)| Some((i, bc.iter().position(|b| b == name)?)));
            match ac.iter().any(|name| bc.contains(name)) {
                true => shared.any(|(i, j)| a_row[i] == b_row[j]),
                false => a_row.iter().any(|cell| b_row.contains(cell)),
            }
        }
        (Values::Rows { rows, .. }, Values::Range(numbers)) => rows[a_value as usize].contains(&numbers.text(b_value)),
        (Values::Range(numbers), Values::Rows { rows, .. }) => rows[b_value as usize].contains(&numbers.text(a_value)),
    }
}

pub(crate) fn render(parts: &[Part], slots: &[Slot], draw: &Draw) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Value { slot, column } => text.push_str(&slots[*slot].text(draw[*slot], *column)),
        }
    }
    text
}

/// The slots of `parts` together with those that their ranges are computed from.
pub(crate) fn closure<'a>(parts: impl IntoIterator<Item = &'a Part>, slots: &[Slot]) -> HashSet<usize> {
    let mut open: Vec<usize> = parts.into_iter().filter_map(Part::slot).collect();
    let mut found = HashSet::new();
    while let Some(slot) = open.pop() {
        if found.insert(slot)
            && let Values::Range(numbers) = &slots[slot].values
        {
            open.extend(numbers.depends_on());
        }
    }
    found
}

impl Part {
    pub(crate) fn slot(&self) -> Option<usize> {
        match self {
            Part::Text(_) => None,
            Part::Value { slot, .. } => Some(*slot),
        }
    }
}
