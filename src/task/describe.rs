//! Slots and answers in words, for people who read a task.

use super::Answers;
use super::slot::{Bound, Numbers, Part, Slot, Values};

impl Slot {
    /// "24 words of `name`, distinct from io".
    pub fn describe(&self, slots: &[Slot]) -> String {
        let values = match &self.values {
            Values::Rows { from, rows, .. } if from.is_empty() => format!("{} words", rows.len()),
            Values::Rows { from, columns, rows } if columns.is_empty() => format!("{} words of `{from}`", rows.len()),
            Values::Rows { from, columns, rows } => {
                format!("{} rows of `{from}` ({})", rows.len(), columns.join(", "))
            }
            Values::Range(numbers) => numbers.describe(slots),
        };
        let others: Vec<&str> = self.distinct_from.iter().map(|&other| slots[other].name.as_str()).collect();
        match others.is_empty() {
            true => values,
            false => format!("{values}, distinct from {}", others.join(", ")),
        }
    }
}

impl Numbers {
    fn describe(&self, slots: &[Slot]) -> String {
        let end = |bound: Bound| match (bound.slot, bound.offset) {
            (None, offset) => self.text(offset),
            (Some(slot), 0) => format!("{{{}}}", slots[slot].name),
            (Some(slot), offset) => format!("{{{}}}{offset:+}", slots[slot].name),
        };
        let mut text = format!("{} to {}", end(self.low), end(self.high));
        if !self.except.is_empty() {
            let except: Vec<String> = self.except.iter().map(|&number| self.text(number)).collect();
            text.push_str(&format!(" except {}", except.join(", ")));
        }
        text
    }
}

impl Answers {
    /// `"{io}"`, a few words, or a range.
    pub fn describe(&self, slots: &[Slot]) -> String {
        match self {
            Answers::Templates(templates) => {
                templates.iter().map(|parts| format!("\"{}\"", template(parts, slots))).collect::<Vec<_>>().join(", ")
            }
            Answers::Words(words) if words.len() > 8 => {
                format!("{}, ... ({} words)", words[..6].join(", "), words.len())
            }
            Answers::Words(words) => words.join(", "),
            Answers::Numbers(numbers) => numbers.describe(slots),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Answers::Templates(templates) if templates.is_empty())
    }
}

fn template(parts: &[Part], slots: &[Slot]) -> String {
    let text = |part: &Part| match part {
        Part::Text(text) => text.clone(),
        Part::Value { slot, column } => match &slots[*slot].values {
            Values::Rows { columns, .. } if !columns.is_empty() => {
                format!("{{{}.{}}}", slots[*slot].name, columns[*column])
            }
            _ => format!("{{{}}}", slots[*slot].name),
        },
    };
    parts.iter().map(text).collect()
}
