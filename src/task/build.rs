//! From the TOML as written to a [`Task`]: identity, metric and the choice between templates and data.

use super::diagnostic::{Diagnostic, Source};
use super::schema::{Table, TaskV1, Text, Version};
use super::template::is_name;
use super::{Content, DataPair, Task, TaskError, data, frames};
use crate::error::nearest;
use crate::metric::MetricKind;
use std::ops::Range;
use std::path::Path;

pub(crate) type Checked<T> = Result<T, Box<Diagnostic>>;

/// Names that cannot be slots or labels, since they mean something else where positions are written.
const RESERVED: [&str; 5] = ["end", "all", "prompt", "gen", "frame"];

pub(crate) const TASK_NAME_HINT: &str = "a task's name is made of lower-case letters, digits and hyphens";

/// Output folders are named after tasks.
pub(crate) fn is_task_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

pub(crate) fn build(bytes: &[u8], shown: &str, path: Option<&Path>) -> Result<Task, TaskError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let lossy = String::from_utf8_lossy(bytes);
            let source = Source { path: shown, text: &lossy };
            let byte = bytes.get(at).copied().unwrap_or_default();
            return Err(source
                .error(at..at + 3, format!("the file is not UTF-8: byte 0x{byte:02x} at offset {at}"))
                .hinted("save the file as UTF-8")
                .into());
        }
    };
    let source = Source { path: shown, text };
    let written = parse(source)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes);

    let name = match &written.name {
        None => return Err(source.error(0..0, "`name` is missing").hinted("add `name = \"my-task\"`").into()),
        Some(name) if is_task_name(name.get_ref()) => name.get_ref().clone(),
        Some(name) => {
            let message = format!("`{}` cannot be a task's name", name.get_ref());
            return Err(source.error(name.span(), message).hinted(TASK_NAME_HINT).into());
        }
    };
    let metric = metric(&written, source)?;
    let content = match &written.data {
        None => Content::Templates(frames::templates(&written, metric, source)?),
        Some(_) => {
            let folder = path.and_then(Path::parent).unwrap_or(Path::new(""));
            let (pairs, bytes): (Vec<DataPair>, Vec<u8>) = data::read(&written, metric, folder, source)?;
            hasher.update(&bytes);
            Content::Data(pairs)
        }
    };
    Ok(Task {
        title: written.title.unwrap_or_else(|| name.clone()),
        name,
        description: written.description.unwrap_or_default(),
        paper: written.paper,
        metric,
        bos: written.bos,
        notes: written.notes,
        hash: hasher.finalize().to_hex().to_string(),
        path: path.map(Path::to_owned),
        content,
    })
}

fn parse(source: Source) -> Checked<TaskV1> {
    let version: Version = toml::from_str(source.text).map_err(|error| toml_error(error, source))?;
    match version.schema {
        Some(schema) if *schema.get_ref() == 1 => {}
        Some(schema) => {
            let message = format!("tasks of schema {} are not known", schema.get_ref());
            return Err(source.error(schema.span(), message).hinted("this program reads `schema = 1`"));
        }
        None => return Err(source.error(0..0, "`schema` is missing").hinted("begin the file with `schema = 1`")),
    }
    toml::from_str(source.text).map_err(|error| toml_error(error, source))
}

/// A message of the TOML reader, with the nearest known key as its hint.
fn toml_error(error: toml::de::Error, source: Source) -> Box<Diagnostic> {
    let span = error.span().unwrap_or(0..0);
    let message = error.message().trim().replace('\n', ", ");
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field") && !names.is_empty() {
        let (typed, known) = (names[0], &names[1..]);
        let hint = match nearest(typed, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys here are {}", known.join(", ")),
        };
        return source.error(span, format!("unknown key `{typed}`")).hinted(hint);
    }
    if message.starts_with("missing field") && !names.is_empty() {
        return source
            .error(span, format!("`{}` is missing here", names[0]))
            .hinted(format!("add `{} = ...`", names[0]));
    }
    let message = message
        .replace("expected i64", "expected a whole number")
        .replace("expected a string", "expected text in quotes");
    let hint = match message.split_once(", expected ") {
        Some((kind, expected)) if kind.starts_with("invalid") => format!("write {expected}"),
        _ => "mend the TOML here; https://toml.io describes it".into(),
    };
    source.error(span, message).hinted(hint)
}

/// The metric; logit difference, the field's usual one, if none is named.
fn metric(written: &TaskV1, source: Source) -> Checked<MetricKind> {
    let Some(metric) = &written.metric else { return Ok(MetricKind::LogitDifference) };
    let kind = &metric.get_ref().kind;
    MetricKind::parse(kind.get_ref()).ok_or_else(|| {
        source
            .error(kind.span(), format!("unknown metric `{}`", kind.get_ref()))
            .hinted(MetricKind::hint(kind.get_ref()))
    })
}

/// The entries of a table in the order of the file.
pub(crate) fn in_order<T>(table: &Table<T>) -> Vec<(&Text, &T)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// An unknown name, with the nearest known one as its hint.
pub(crate) fn unknown<'a>(
    source: Source,
    span: Range<usize>,
    what: &str,
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Box<Diagnostic> {
    let known: Vec<&str> = known.into_iter().collect();
    // Very short names are near to anything; a slip has at least a letter in common with what was meant.
    let near = nearest(typed, known.iter().copied()).filter(|near| near.chars().any(|letter| typed.contains(letter)));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there is no {what} here to choose from"),
        None => format!("known: {}", known.join(", ")),
    };
    source.error(span, format!("unknown {what} `{typed}`")).hinted(hint)
}

pub(crate) fn check_name(name: &Text, what: &str, source: Source) -> Checked<()> {
    let text = name.get_ref();
    if !is_name(text) {
        let hint = "a name begins with a letter or `_`; letters, digits, `_` and `-` may follow";
        return Err(source.error(name.span(), format!("`{text}` cannot be the name of a {what}")).hinted(hint));
    }
    if RESERVED.contains(&text.as_str()) {
        let hint = format!("`{text}` has a meaning of its own where positions and splits are named; take another name");
        return Err(source.error(name.span(), format!("`{text}` cannot be the name of a {what}")).hinted(hint));
    }
    Ok(())
}
