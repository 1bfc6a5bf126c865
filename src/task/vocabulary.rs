//! Lists, fact tables, ranges and slots: the words and numbers of a task, looked up and checked.

use super::Answers;
use super::build::{Checked, check_name, in_order, unknown};
use super::diagnostic::Source;
use super::schema::{BoundV1, ListV1, SetV1, SlotV1, TaskV1, Text};
use super::slot::{Bound, LONGEST_RANGE, Numbers, Slot, Values};
use super::template::is_name;
use indexmap::{IndexMap, IndexSet};
use std::ops::Range;
use toml::Spanned;

/// Keeps sums of bounds far from overflow.
const LARGEST_NUMBER: i64 = 1_000_000_000;

/// The lists and fact tables of a task: for each, columns (one without a name for a list) and rows.
pub(crate) struct Vocabulary {
    pub lists: IndexMap<String, Vec<String>>,
    pub facts: IndexMap<String, (Vec<String>, Vec<Vec<String>>)>,
}

pub(crate) fn vocabulary(written: &TaskV1, source: Source) -> Checked<Vocabulary> {
    let mut lists = IndexMap::new();
    for (name, words) in in_order(&written.lists) {
        let words = words_of(words.get_ref(), words.span(), &format!("list `{}`", name.get_ref()), source)?;
        lists.insert(name.get_ref().clone(), words);
    }
    let mut facts = IndexMap::new();
    for (name, rows) in in_order(&written.facts) {
        let Some(first) = rows.get_ref().first() else {
            let message = format!("fact table `{}` is empty", name.get_ref());
            return Err(source.error(rows.span(), message).hinted("put at least one row into it, or remove it"));
        };
        let columns: Vec<String> =
            in_order(first.get_ref()).into_iter().map(|(key, _)| key.get_ref().clone()).collect();
        let mut table = Vec::new();
        for row in rows.get_ref() {
            for (key, cell) in in_order(row.get_ref()) {
                if !columns.contains(key.get_ref()) {
                    let known = columns.iter().map(String::as_str);
                    return Err(unknown(source, key.span(), "column", key.get_ref(), known));
                }
                if cell.get_ref().is_empty() {
                    return Err(source
                        .error(cell.span(), "a cell is empty")
                        .hinted("write the word, or remove the row"));
                }
            }
            let cell = |column: &String| {
                row.get_ref().iter().find(|(key, _)| key.get_ref() == column).map(|(_, cell)| cell.get_ref().clone())
            };
            let mut cells = Vec::new();
            for column in &columns {
                cells.push(cell(column).ok_or_else(|| {
                    let hint = format!("every row of `{}` has the columns {}", name.get_ref(), columns.join(", "));
                    source.error(row.span(), format!("this row has no `{column}`")).hinted(hint)
                })?);
            }
            if columns.is_empty() {
                return Err(source.error(row.span(), "this row has no columns").hinted("add `column = \"word\"`"));
            }
            table.push(cells);
        }
        if let Some((key, _)) = in_order(first.get_ref()).into_iter().find(|(key, _)| !is_name(key.get_ref())) {
            let hint = "a name begins with a letter or `_`; letters, digits, `_` and `-` may follow";
            let message = format!("`{}` cannot be the name of a column", key.get_ref());
            return Err(source.error(key.span(), message).hinted(hint));
        }
        facts.insert(name.get_ref().clone(), (columns, table));
    }
    Ok(Vocabulary { lists, facts })
}

/// Words without repetition.
fn words_of(words: &[Text], span: Range<usize>, what: &str, source: Source) -> Checked<Vec<String>> {
    if words.is_empty() {
        return Err(source
            .error(span, format!("{what} is empty"))
            .hinted("put at least one word into it, or remove it"));
    }
    let mut seen: Vec<String> = Vec::new();
    for word in words {
        if word.get_ref().is_empty() {
            return Err(source.error(word.span(), "a word is empty").hinted("write the word, or remove it"));
        }
        if seen.contains(word.get_ref()) {
            let message = format!("`{}` is twice in {what}", word.get_ref());
            return Err(source.error(word.span(), message).hinted("remove one of the two"));
        }
        seen.push(word.get_ref().clone());
    }
    Ok(seen)
}

/// The slots, in an order in which each comes after those its range is computed from, and the length of each range at most.
pub(crate) fn slots(written: &TaskV1, vocabulary: &Vocabulary, source: Source) -> Checked<(Vec<Slot>, Vec<i64>)> {
    let entries = sorted_by_dependency(in_order(&written.slots), source)?;
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.get_ref().as_str()).collect();
    let mut slots: Vec<Slot> = Vec::new();
    // The least and the greatest number of each range slot.
    let mut limits: Vec<Option<(i64, i64)>> = Vec::new();
    for (name, slot) in &entries {
        check_name(name, "slot", source)?;
        let v1 = slot.get_ref();
        let values = match (&v1.list, &v1.facts, &v1.range) {
            (Some(list), None, None) => {
                let (from, words) = find_list(list, vocabulary, source)?;
                let rows = words.into_iter().map(|word| vec![word]).collect();
                limits.push(None);
                Values::Rows { from, columns: Vec::new(), rows }
            }
            (None, Some(table), None) => {
                let (columns, rows) = find_table(table, vocabulary, source)?;
                limits.push(None);
                Values::Rows { from: table.get_ref().clone(), columns: columns.clone(), rows: rows.clone() }
            }
            (None, None, Some(range)) => {
                let (numbers, limit) = numbers(range, &v1.pad, &v1.except, &names, &limits, source)?;
                limits.push(Some(limit));
                Values::Range(numbers)
            }
            _ => {
                let message = format!("slot `{}` needs one of `list`, `range` and `facts`", name.get_ref());
                let hint = "write { list = \"name\" }, { range = [2, 97] } or { facts = \"table\" }";
                return Err(source.error(slot.span(), message).hinted(hint));
            }
        };
        range_only(v1, source)?;
        slots.push(Slot { name: name.get_ref().clone(), values, distinct_from: Vec::new() });
    }
    for (index, (name, slot)) in entries.iter().enumerate() {
        for other in &slot.get_ref().distinct_from {
            let Some(at) = names.iter().position(|known| known == other.get_ref()) else {
                return Err(unknown(source, other.span(), "slot", other.get_ref(), names.iter().copied()));
            };
            if at == index {
                let message = format!("slot `{}` cannot be distinct from itself", name.get_ref());
                return Err(source.error(other.span(), message).hinted("name another slot"));
            }
            for (one, two) in [(index, at), (at, index)] {
                if !slots[one].distinct_from.contains(&two) {
                    slots[one].distinct_from.push(two);
                }
            }
        }
    }
    let longest = limits.iter().map(|limit| limit.map_or(0, |(low, high)| (high - low + 1).max(0))).collect();
    Ok((slots, longest))
}

/// `pad` and `except` say nothing about lists and tables.
fn range_only(v1: &SlotV1, source: Source) -> Checked<()> {
    let span = v1.pad.as_ref().map(Spanned::span).or_else(|| v1.except.first().map(Spanned::span));
    match (v1.range.is_none(), span) {
        (true, Some(span)) => {
            Err(source.error(span, "`pad` and `except` belong to a range").hinted("remove it, or use `range`"))
        }
        _ => Ok(()),
    }
}

fn sorted_by_dependency<'a>(
    entries: Vec<(&'a Text, &'a Spanned<SlotV1>)>,
    source: Source,
) -> Checked<Vec<(&'a Text, &'a Spanned<SlotV1>)>> {
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.get_ref().as_str()).collect();
    let depends_on = |slot: &SlotV1| -> Vec<usize> {
        let bounds = slot.range.iter().flat_map(|range| range.get_ref());
        let slots = bounds.filter_map(|bound| match bound.get_ref() {
            BoundV1::Computed(text) => parse_bound(text)?.0,
            BoundV1::Number(_) => None,
        });
        slots.filter_map(|slot| names.iter().position(|name| *name == slot)).collect()
    };
    let mut placed: Vec<usize> = Vec::new();
    while placed.len() < entries.len() {
        let ready = |&index: &usize| {
            !placed.contains(&index)
                && depends_on(entries[index].1.get_ref()).iter().all(|other| placed.contains(other))
        };
        match (0..entries.len()).find(ready) {
            Some(index) => placed.push(index),
            None => {
                let stuck = (0..entries.len()).find(|index| !placed.contains(index)).unwrap_or(0);
                let message = format!("the range of slot `{}` is computed from itself", names[stuck]);
                return Err(source
                    .error(entries[stuck].1.span(), message)
                    .hinted("give one of the ranges fixed numbers"));
            }
        }
    }
    Ok(placed.into_iter().map(|index| entries[index]).collect())
}

/// A list's words, and its name if it has one.
fn find_list(list: &Spanned<ListV1>, vocabulary: &Vocabulary, source: Source) -> Checked<(String, Vec<String>)> {
    match list.get_ref() {
        ListV1::Words(words) => Ok((String::new(), words_of(words, list.span(), "the list", source)?)),
        ListV1::Named(name) => match vocabulary.lists.get(name) {
            Some(words) => Ok((name.clone(), words.clone())),
            None => {
                let known = vocabulary.lists.keys().map(String::as_str);
                Err(unknown(source, list.span(), "list", name, known))
            }
        },
    }
}

type FactTable = (Vec<String>, Vec<Vec<String>>);

fn find_table<'a>(table: &Text, vocabulary: &'a Vocabulary, source: Source) -> Checked<&'a FactTable> {
    let known = vocabulary.facts.keys().map(String::as_str);
    vocabulary
        .facts
        .get(table.get_ref())
        .ok_or_else(|| unknown(source, table.span(), "fact table", table.get_ref(), known))
}

/// The slot's name, if there is one, and the number of `"{slot}"`, `"{slot}+1"`, `"{slot} - 2"` or `"7"`.
fn parse_bound(text: &str) -> Option<(Option<&str>, i64)> {
    let Some(rest) = text.trim().strip_prefix('{') else {
        return Some((None, text.trim().parse().ok()?));
    };
    let (slot, rest) = rest.split_once('}')?;
    let rest = rest.trim();
    let offset = match rest.chars().next() {
        None => 0,
        Some('+') => rest[1..].trim().parse().ok().filter(|number: &i64| *number >= 0)?,
        Some('-') => -rest[1..].trim().parse().ok().filter(|number: &i64| *number >= 0)?,
        Some(_) => return None,
    };
    Some((Some(slot), offset))
}

/// A range and the least and the greatest number it can hold.
fn numbers(
    range: &Spanned<Vec<Spanned<BoundV1>>>,
    pad: &Option<Spanned<i64>>,
    except: &[Spanned<i64>],
    names: &[&str],
    limits: &[Option<(i64, i64)>],
    source: Source,
) -> Checked<(Numbers, (i64, i64))> {
    let [low, high] = range.get_ref().as_slice() else {
        let message = format!("a range has two ends, not {}", range.get_ref().len());
        return Err(source.error(range.span(), message).hinted("write `range = [2, 97]`; both ends are included"));
    };
    let bound = |written: &Spanned<BoundV1>| -> Checked<(Bound, (i64, i64))> {
        let (slot, offset) = match written.get_ref() {
            BoundV1::Number(number) => (None, *number),
            BoundV1::Computed(text) => parse_bound(text).ok_or_else(|| {
                let hint = "write a number, \"{slot}\", \"{slot}+1\" or \"{slot}-1\"";
                source.error(written.span(), format!("`{text}` is not the end of a range")).hinted(hint)
            })?,
        };
        if offset.checked_abs().is_none_or(|size| size > LARGEST_NUMBER) {
            let hint = format!("numbers go up to {LARGEST_NUMBER}");
            return Err(source.error(written.span(), format!("{offset} is too large")).hinted(hint));
        }
        let Some(name) = slot else {
            return Ok((Bound { slot: None, offset }, (offset, offset)));
        };
        let Some(slot) = names.iter().position(|known| *known == name) else {
            return Err(unknown(source, written.span(), "slot", name, names.iter().copied()));
        };
        match limits.get(slot).copied().flatten() {
            Some((least, greatest)) => Ok((Bound { slot: Some(slot), offset }, (least + offset, greatest + offset))),
            None => {
                let hint = "ranges can be computed from slots with a `range` only";
                Err(source.error(written.span(), format!("slot `{name}` is not a number")).hinted(hint))
            }
        }
    };
    let ((low, (least, _)), (high, (_, greatest))) = (bound(low)?, bound(high)?);
    let numbers = Numbers {
        low,
        high,
        pad: match pad {
            None => 0,
            Some(pad) => usize::try_from(*pad.get_ref()).ok().filter(|pad| *pad <= 32).ok_or_else(|| {
                source
                    .error(pad.span(), format!("`pad = {}` is out of range", pad.get_ref()))
                    .hinted("`pad` is 0 to 32 digits")
            })?,
        },
        except: except.iter().map(|number| *number.get_ref()).collect(),
    };
    let crossed = low.slot == high.slot && low.offset > high.offset;
    let all_excepted = low.slot.is_none()
        && high.slot.is_none()
        && greatest - least < LONGEST_RANGE
        && (least..=greatest).all(|number| numbers.except.contains(&number));
    if crossed || least > greatest || all_excepted {
        let hint = "the first end must not be above the second; both ends are included";
        return Err(source.error(range.span(), "this range holds no numbers").hinted(hint));
    }
    if greatest - least >= LONGEST_RANGE || greatest.abs() > LARGEST_NUMBER * 4 {
        let hint = format!("a range holds at most {LONGEST_RANGE} numbers");
        return Err(source.error(range.span(), "this range is too long").hinted(hint));
    }
    Ok((numbers, (least, greatest)))
}

/// The least and the greatest number of every slot, for ranges outside `[slots]`.
fn limits(slots: &[Slot]) -> Vec<Option<(i64, i64)>> {
    let mut limits: Vec<Option<(i64, i64)>> = Vec::new();
    for slot in slots {
        let limit = |bound: Bound| match bound.slot.and_then(|slot| limits[slot]) {
            Some((least, greatest)) => (least + bound.offset, greatest + bound.offset),
            None => (bound.offset, bound.offset),
        };
        let limit = match &slot.values {
            Values::Range(numbers) => Some((limit(numbers.low).0, limit(numbers.high).1)),
            Values::Rows { .. } => None,
        };
        limits.push(limit);
    }
    limits
}

/// The words or numbers of a set of answers.
pub(crate) fn answer_set(
    set: &SetV1,
    span: Range<usize>,
    slots: &[Slot],
    vocabulary: &Vocabulary,
    source: Source,
) -> Checked<Answers> {
    match (&set.list, &set.facts, &set.column, &set.range) {
        (Some(list), None, None, None) => Ok(Answers::Words(find_list(list, vocabulary, source)?.1)),
        (None, Some(table), Some(column), None) => {
            let (columns, rows) = find_table(table, vocabulary, source)?;
            let Some(at) = columns.iter().position(|known| known == column.get_ref()) else {
                let known = columns.iter().map(String::as_str);
                return Err(unknown(source, column.span(), "column", column.get_ref(), known));
            };
            let words: IndexSet<String> = rows.iter().map(|row| row[at].clone()).collect();
            Ok(Answers::Words(words.into_iter().collect()))
        }
        (None, None, None, Some(range)) => {
            let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
            let (numbers, _) = numbers(range, &set.pad, &set.except, &names, &limits(slots), source)?;
            Ok(Answers::Numbers(numbers))
        }
        _ => {
            let hint = "write [\"{slot}\"], { list = \"name\" }, { facts = \"table\", column = \"name\" } or { range = [0, 99] }";
            Err(source.error(span, "this is not a set of answers").hinted(hint))
        }
    }
}
