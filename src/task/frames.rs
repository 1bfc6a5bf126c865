//! From the TOML as written to [`Templates`]: frames, corruptions, answers and splits, with every name looked up.

use super::build::{Checked, check_name, in_order, unknown};
use super::diagnostic::Source;
use super::expand::trial;
use super::lessons::Taught;
use super::schema::{AnswerSetV1, AnswerV1, CorruptionV1, FrameV1, TaskV1, Text};
use super::slot::{Part, Slot, Values, closure};
use super::template::{Piece, Template, Use};
use super::vocabulary::{Vocabulary, answer_set, slots, vocabulary};
use super::{Answers, Frame, SplitBy, Splits, Templates, Variant};
use crate::metric::MetricKind;
use std::collections::HashSet;
use toml::Spanned;

pub(crate) fn templates(written: &TaskV1, metric: MetricKind, source: Source) -> Checked<Templates> {
    let vocabulary = vocabulary(written, source)?;
    let (slots, longest) = slots(written, &vocabulary, source)?;
    if written.frames.is_empty() {
        let hint = "add `[[frames]]` with `name` and `text`, or `[data]` with `file`";
        return Err(source.error(0..0, "the task has no frames").hinted(hint));
    }
    let splits = splits(written, &slots, source)?;
    let space = written.answer.as_ref().and_then(|answer| answer.get_ref().space).unwrap_or(true);
    let corruptions: Vec<String> = written.corruptions.iter().map(|c| c.get_ref().name.get_ref().clone()).collect();
    let corruptions = corruptions.into_iter().collect::<indexmap::IndexSet<_>>().into_iter().collect();
    let taught = taught(written, &slots, &vocabulary, source)?;
    let mut templates = Templates { slots, longest, frames: Vec::new(), taught, corruptions, space, splits };
    let mut texts: Vec<String> = Vec::new();
    for (index, frame) in written.frames.iter().enumerate() {
        let v1 = frame.get_ref();
        if texts.contains(v1.text.get_ref()) {
            return Err(source.error(v1.text.span(), "two frames have the same text").hinted("remove one of them"));
        }
        texts.push(v1.text.get_ref().clone());
        let name = match &v1.name {
            Some(name) => name.get_ref().clone(),
            None => format!("frame-{}", index + 1),
        };
        if templates.frames.iter().any(|known| known.name == name) {
            let span = v1.name.as_ref().map_or(frame.span(), Spanned::span);
            return Err(source.error(span, format!("two frames are called `{name}`")).hinted("give one another name"));
        }
        let frame = self::frame(name, v1, written, metric, &templates.slots, &vocabulary, source)?;
        templates.frames.push(frame);
    }
    check_corruptions(written, &templates.frames, source)?;
    for (frame_v1, index) in written.frames.iter().zip(0..) {
        let frame: &mut Frame = &mut templates.frames[index];
        for corruption in &written.corruptions {
            if let Some(variant) = variant(frame, corruption.get_ref(), &templates.slots, source)? {
                frame.variants.push(variant);
            }
        }
        if frame.variants.is_empty() {
            let hint = "add `[[corruptions]]` with `name` and `replace`";
            let message = format!("no corruption applies to frame `{}`", frame.name);
            return Err(source.error(frame_v1.get_ref().text.span(), message).hinted(hint));
        }
    }
    check_splits(written, &templates, source)?;
    try_everything(written, &templates, source)?;
    Ok(templates)
}

fn frame(
    name: String,
    v1: &FrameV1,
    written: &TaskV1,
    metric: MetricKind,
    slots: &[Slot],
    vocabulary: &Vocabulary,
    source: Source,
) -> Checked<Frame> {
    if v1.text.get_ref().is_empty() {
        return Err(source.error(v1.text.span(), "the frame's text is empty").hinted("write the prompt"));
    }
    let template = parse(&v1.text, source)?;
    let mut positions = Vec::new();
    for piece in &template.pieces {
        positions.push(match piece {
            Piece::Text(_) => None,
            Piece::Use(used) => position(used, &template, slots, &v1.text, source)?,
        });
    }
    let parts =
        template.pieces.iter().map(|piece| part(piece, slots, &v1.text, source)).collect::<Checked<Vec<Part>>>()?;
    let answer = written.answer.as_ref().map(Spanned::get_ref);
    let right = v1.right.as_ref().or(answer.and_then(|answer: &AnswerV1| answer.right.as_ref()));
    let wrong = v1.wrong.as_ref().or(answer.and_then(|answer: &AnswerV1| answer.wrong.as_ref()));
    let Some(right_v1) = right else {
        let hint = "add `[answer]` with `right = [\"{slot}\"]`, or `right` to the frame";
        return Err(source.error(v1.text.span(), format!("frame `{name}` has no right answer")).hinted(hint));
    };
    let right = answers(right_v1, slots, vocabulary, source)?;
    let wrong = match wrong {
        Some(wrong) => answers(wrong, slots, vocabulary, source)?,
        None => Answers::Templates(Vec::new()),
    };
    if right.is_empty() {
        return Err(source.error(right_v1.span(), "there is no right answer").hinted("write at least one"));
    }
    if wrong.is_empty() && metric.needs_wrong() {
        let span = written.metric.as_ref().map_or(v1.text.span(), |metric| metric.get_ref().kind.span());
        let hint = "add `wrong = [...]` to `[answer]` or to the frame, or take `log-probability`";
        let message = format!("metric `{metric}` needs wrong answers, and frame `{name}` has none");
        return Err(source.error(span, message).hinted(hint));
    }
    Ok(Frame { name, template, parts, positions, right, wrong, variants: Vec::new() })
}

/// The `[[teach]]` entries. Their labels name nothing, since nobody patches them.
fn taught(written: &TaskV1, slots: &[Slot], vocabulary: &Vocabulary, source: Source) -> Checked<Vec<Taught>> {
    let mut taught = Vec::new();
    for (index, lesson) in written.teach.iter().enumerate() {
        let v1 = lesson.get_ref();
        let name = v1.name.as_ref().map_or_else(|| format!("lesson-{}", index + 1), |name| name.get_ref().clone());
        let parts = plain_parts(&v1.text, slots, source)?;
        let right = answers(&v1.right, slots, vocabulary, source)?;
        if right.is_empty() {
            return Err(source.error(v1.right.span(), "there is no right answer").hinted("write at least one"));
        }
        let needed = closure(parts.iter().chain(&right.parts()), slots);
        let order = (0..slots.len()).filter(|slot| needed.contains(slot)).collect();
        taught.push(Taught { name, parts, right, order });
    }
    Ok(taught)
}

/// The name of the tokens of one use: its label, or the slot itself if it is used once.
fn position(used: &Use, template: &Template, slots: &[Slot], text: &Text, source: Source) -> Checked<Option<String>> {
    let Some(label) = &used.label else {
        let once = template.uses().filter(|other| other.path() == used.path()).count() == 1;
        return Ok(once.then(|| used.path()));
    };
    let span = source.inside(text, used.at.clone());
    check_name(&Spanned::new(span.clone(), label.clone()), "label", source)?;
    if slots.iter().any(|slot| slot.name == *label) {
        let message = format!("label `{label}` is also the name of a slot");
        return Err(source.error(span, message).hinted("take another label"));
    }
    if template.uses().filter(|other| other.label.as_ref() == Some(label)).count() > 1 {
        let message = format!("label `{label}` is used twice");
        return Err(source
            .error(span, message)
            .hinted("a label names one place of a frame; take another for the second"));
    }
    Ok(Some(label.clone()))
}

pub(crate) fn parse(text: &Text, source: Source) -> Checked<Template> {
    Template::parse(text.get_ref())
        .map_err(|problem| source.error(source.inside(text, problem.at), problem.message).hinted(problem.hint))
}

fn part(piece: &Piece, slots: &[Slot], text: &Text, source: Source) -> Checked<Part> {
    let used = match piece {
        Piece::Text(text) => return Ok(Part::Text(text.clone())),
        Piece::Use(used) => used,
    };
    let span = source.inside(text, used.at.clone());
    let slot = find_slot(&used.slot, slots, span.clone(), source)?;
    let columns: &[String] = match &slots[slot].values {
        Values::Rows { columns, .. } => columns,
        Values::Range(_) => &[],
    };
    let column = match &used.column {
        None if columns.is_empty() => 0,
        None => {
            let hint = format!("write {{{}.{}}}; the columns are {}", used.slot, columns[0], columns.join(", "));
            return Err(source.error(span, format!("slot `{}` is a row of facts", used.slot)).hinted(hint));
        }
        Some(column) if columns.is_empty() => {
            let message = format!("slot `{}` has no column `{column}`", used.slot);
            return Err(source.error(span, message).hinted(format!("write {{{}}}", used.slot)));
        }
        Some(column) => match columns.iter().position(|known| known == column) {
            Some(at) => at,
            None => return Err(unknown(source, span, "column", column, columns.iter().map(String::as_str))),
        },
    };
    Ok(Part::Value { slot, column })
}

fn find_slot(name: &str, slots: &[Slot], span: std::ops::Range<usize>, source: Source) -> Checked<usize> {
    let known = slots.iter().map(|slot| slot.name.as_str());
    slots.iter().position(|slot| slot.name == name).ok_or_else(|| unknown(source, span, "slot", name, known))
}

/// A template outside a frame's text, where labels mean nothing.
fn plain_parts(text: &Text, slots: &[Slot], source: Source) -> Checked<Vec<Part>> {
    let template = parse(text, source)?;
    if let Some(used) = template.uses().find(|used| used.label.is_some()) {
        let hint = format!("write {{{}}}; labels name places in a frame's text", used.path());
        return Err(source.error(source.inside(text, used.at.clone()), "a label has no meaning here").hinted(hint));
    }
    template.pieces.iter().map(|piece| part(piece, slots, text, source)).collect()
}

fn answers(v1: &Spanned<AnswerSetV1>, slots: &[Slot], vocabulary: &Vocabulary, source: Source) -> Checked<Answers> {
    match v1.get_ref() {
        AnswerSetV1::Set(set) => answer_set(set, v1.span(), slots, vocabulary, source),
        AnswerSetV1::Templates(templates) => {
            if let Some(empty) = templates.iter().find(|template| template.get_ref().is_empty()) {
                return Err(source.error(empty.span(), "an answer is empty").hinted("write the answer, or remove it"));
            }
            templates
                .iter()
                .map(|text| plain_parts(text, slots, source))
                .collect::<Checked<_>>()
                .map(Answers::Templates)
        }
    }
}

/// Checks that need no particular frame: known frame names, and no two corruptions of one name for one frame.
fn check_corruptions(written: &TaskV1, frames: &[Frame], source: Source) -> Checked<()> {
    let mut taken: HashSet<(&str, &str)> = HashSet::new();
    for corruption in &written.corruptions {
        let v1 = corruption.get_ref();
        if v1.replace.get_ref().is_empty() {
            let hint = "write `replace = { slot = \"{other}\" }`";
            return Err(source.error(v1.replace.span(), "the corruption replaces nothing").hinted(hint));
        }
        if let Some(listed) = &v1.frames {
            if listed.get_ref().is_empty() {
                let hint = "name a frame, or remove `frames` to mean all of them";
                return Err(source.error(listed.span(), "the corruption applies to no frame").hinted(hint));
            }
            for name in listed.get_ref() {
                if !frames.iter().any(|frame| frame.name == *name.get_ref()) {
                    let known = frames.iter().map(|frame| frame.name.as_str());
                    return Err(unknown(source, name.span(), "frame", name.get_ref(), known));
                }
            }
        }
        for frame in frames.iter().filter(|frame| applies(v1, frame)) {
            if !taken.insert((v1.name.get_ref(), &frame.name)) {
                let message = format!("two corruptions of frame `{}` are called `{}`", frame.name, v1.name.get_ref());
                return Err(source
                    .error(v1.name.span(), message)
                    .hinted("give one another name, or limit its `frames`"));
            }
        }
    }
    Ok(())
}

fn applies(corruption: &CorruptionV1, frame: &Frame) -> bool {
    match &corruption.frames {
        None => true,
        Some(listed) => listed.get_ref().iter().any(|name| *name.get_ref() == frame.name),
    }
}

/// What a corruption does to a frame, if it applies to it.
fn variant(frame: &Frame, v1: &CorruptionV1, slots: &[Slot], source: Source) -> Checked<Option<Variant>> {
    if !applies(v1, frame) {
        return Ok(None);
    }
    // By part: how exactly the key names it (a label beats `slot.column`, which beats `slot`), and what comes there.
    let mut replaced: Vec<Option<(u8, Vec<Part>)>> = vec![None; frame.parts.len()];
    for (key, value) in in_order(v1.replace.get_ref()) {
        let mut matched = false;
        for (index, piece) in frame.template.pieces.iter().enumerate() {
            let Piece::Use(used) = piece else { continue };
            let exactness = match key.get_ref() {
                key if Some(key) == used.label.as_ref() => 3,
                key if *key == used.path() => 2,
                key if *key == used.slot => 1,
                _ => continue,
            };
            matched = true;
            let parts = match exactness {
                1 => vec![same_column(used, value, slots, source)?],
                _ => plain_parts(value, slots, source)?,
            };
            if replaced[index].as_ref().is_none_or(|(before, _)| *before < exactness) {
                replaced[index] = Some((exactness, parts));
            }
        }
        if !matched {
            let mut known: Vec<String> = frame.template.uses().filter_map(|used| used.label.clone()).collect();
            known.extend(frame.template.uses().flat_map(|used| [used.path(), used.slot.clone()]));
            let message = format!("frame `{}` has no slot or label `{}`", frame.name, key.get_ref());
            let hint = match crate::error::nearest(key.get_ref(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`frames = [...]` limits a corruption to the frames that have it".into(),
            };
            return Err(source.error(key.span(), message).hinted(hint));
        }
    }
    let replaced: Vec<(usize, Vec<Part>)> =
        replaced.into_iter().enumerate().filter_map(|(index, change)| Some((index, change?.1))).collect();
    let visible = closure(&frame.parts, slots);
    let in_answers = [&frame.right, &frame.wrong].into_iter().flat_map(Answers::parts);
    let hidden: Vec<Part> = replaced.iter().flat_map(|(_, parts)| parts.clone()).chain(in_answers).collect();
    let hidden = closure(&hidden, slots);
    let mut order: Vec<usize> = (0..slots.len()).filter(|slot| visible.contains(slot)).collect();
    let count = order.len();
    order.extend((0..slots.len()).filter(|slot| hidden.contains(slot) && !visible.contains(slot)));
    Ok(Some(Variant { corruption: v1.name.get_ref().clone(), replaced, order, visible: count }))
}

/// `here = "{there}"` swaps rows: `{here.capital}` becomes `{there.capital}`.
fn same_column(used: &Use, value: &Text, slots: &[Slot], source: Source) -> Checked<Part> {
    let template = parse(value, source)?;
    let column = used.column.clone().unwrap_or_default();
    let hint = format!("name the column, `\"{}\" = ...`, or another row, `{} = \"{{row}}\"`", used.path(), used.slot);
    match template.pieces.as_slice() {
        [Piece::Use(Use { slot, column: None, label: None, at })] => {
            let other = find_slot(slot, slots, source.inside(value, at.clone()), source)?;
            match &slots[other].values {
                Values::Rows { columns, .. } if columns.contains(&column) => {
                    let column = columns.iter().position(|known| *known == column).unwrap_or_default();
                    Ok(Part::Value { slot: other, column })
                }
                _ => {
                    let message = format!("slot `{slot}` has no column `{column}`, which this frame uses");
                    Err(source.error(value.span(), message).hinted(hint))
                }
            }
        }
        _ => Err(source.error(value.span(), format!("slot `{}` is a row of facts", used.slot)).hinted(hint)),
    }
}

fn splits(written: &TaskV1, slots: &[Slot], source: Source) -> Checked<Option<Splits>> {
    let Some(splits) = &written.splits else { return Ok(None) };
    let v1 = splits.get_ref();
    if v1.by.get_ref().is_empty() {
        let hint = "name slots, or \"frame\"; or remove [splits] to split by chance";
        return Err(source.error(v1.by.span(), "there is nothing to split by").hinted(hint));
    }
    let mut by = Vec::new();
    for name in v1.by.get_ref() {
        let entry = match name.get_ref().as_str() {
            "frame" => SplitBy::Frame,
            slot => match slots.iter().position(|known| known.name == slot) {
                Some(slot) => SplitBy::Slot(slot),
                None => {
                    let known = slots.iter().map(|slot| slot.name.as_str()).chain(["frame"]);
                    return Err(unknown(source, name.span(), "slot", slot, known));
                }
            },
        };
        if by.contains(&entry) {
            let message = format!("`{}` is named twice", name.get_ref());
            return Err(source.error(name.span(), message).hinted("name it once"));
        }
        by.push(entry);
    }
    let every = match &v1.every {
        None => 4,
        Some(every) if (2..=1000).contains(every.get_ref()) => *every.get_ref(),
        Some(every) => {
            let message = format!("`every = {}` is out of range", every.get_ref());
            return Err(source
                .error(every.span(), message)
                .hinted("`every` is 2 to 1000; one combination in so many is held out"));
        }
    };
    Ok(Some(Splits { by, every }))
}

/// A slot that no frame shows cannot divide clean prompts into two sets.
fn check_splits(written: &TaskV1, templates: &Templates, source: Source) -> Checked<()> {
    let (Some(v1), Some(splits)) = (&written.splits, &templates.splits) else { return Ok(()) };
    for (name, by) in v1.get_ref().by.get_ref().iter().zip(&splits.by) {
        let SplitBy::Slot(slot) = by else { continue };
        if !templates.frames.iter().any(|frame| frame.parts.iter().any(|part| part.slot() == Some(*slot))) {
            let message = format!("no frame shows slot `{}`", name.get_ref());
            let hint = "split by slots that stand in the clean prompts, so that no prompt is in both splits";
            return Err(source.error(name.span(), message).hinted(hint));
        }
    }
    Ok(())
}

/// Every frame must give at least one pair under every corruption that applies to it.
fn try_everything(written: &TaskV1, templates: &Templates, source: Source) -> Checked<()> {
    for (frame_v1, index) in written.frames.iter().zip(0..) {
        let frame = &templates.frames[index];
        for which in 0..frame.variants.len() {
            let Err(reason) = trial(templates, index, which) else { continue };
            let variant = &frame.variants[which];
            let place = written.corruptions.iter().find(|corruption| {
                *corruption.get_ref().name.get_ref() == variant.corruption && applies(corruption.get_ref(), frame)
            });
            let (span, message) = match (reason.blames_corruption(), place) {
                (true, Some(place)) => {
                    let span = place.get_ref().replace.span();
                    (span, format!("corruption `{}` changes nothing in frame `{}`", variant.corruption, frame.name))
                }
                _ => (
                    frame_v1.get_ref().text.span(),
                    format!("frame `{}` makes no pairs: {}", frame.name, reason.text(templates)),
                ),
            };
            return Err(source.error(span, message).hinted(reason.hint()));
        }
    }
    Ok(())
}
