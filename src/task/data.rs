//! Prompt pairs from a file: JSONL, JSON or CSV, with the columns `clean`, `corrupt`, `answer` and `wrong`.
//!
//! Without a column map the names that public data sets use are known too: `corrupted`, `clean_prefix`, `patch_prefix`,
//! `answers`, `clean_answer`, `wrong_answers`, `patch_answer`, `corrupted_answer`; a JSON file may hold its pairs under `prompts`.

use super::DataPair;
use super::build::{Checked, unknown};
use super::diagnostic::Source;
use super::schema::{DataV1, TaskV1, Text};
use crate::error::FileError;
use crate::metric::MetricKind;
use crate::task::TaskError;
use indexmap::IndexMap;
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

const CLEAN: &[&str] = &["clean", "clean_prefix"];
const CORRUPT: &[&str] = &["corrupt", "corrupted", "patch_prefix"];
const ANSWER: &[&str] = &["answer", "answers", "clean_answer"];
const WRONG: &[&str] = &["wrong", "wrong_answers", "patch_answer", "corrupted_answer"];

/// One record: its values by column, and its place in the data file.
struct Record {
    values: IndexMap<String, Value>,
    span: Range<usize>,
}

/// The pairs of `[data]` and the file's bytes.
pub(crate) fn read(
    written: &TaskV1,
    metric: MetricKind,
    folder: &Path,
    source: Source,
) -> Result<(Vec<DataPair>, Vec<u8>), TaskError> {
    let Some(v1) = &written.data else { return Ok(Default::default()) };
    no_templates(written, source)?;
    let v1 = v1.get_ref();
    let path = folder.join(v1.file.get_ref());
    let format = format(v1, source)?;
    let bytes = std::fs::read(&path).map_err(|error| {
        let hint = "the path is taken relative to the task's file";
        let error = FileError::reading(&path)(error);
        source.error(v1.file.span(), error.to_string()).hinted(hint)
    })?;
    let shown = path.display().to_string();
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let lossy = String::from_utf8_lossy(&bytes);
        let at = error.valid_up_to();
        Source { path: &shown, text: &lossy }
            .error(at..at + 3, "the file is not UTF-8")
            .hinted("save the file as UTF-8")
    })?;
    // Windows programs put a byte-order mark before CSV and JSON; it is no part of the first column's name.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = Source { path: &shown, text };
    let records = match format {
        Format::Jsonl => jsonl(file)?,
        Format::Json => json(file)?,
        Format::Csv => csv(file)?,
    };
    if records.is_empty() {
        return Err(file.error(0..0, "the file holds no pairs").hinted("put at least one pair into it").into());
    }
    let space = written.answer.as_ref().and_then(|answer| answer.get_ref().space).unwrap_or(false);
    let columns = Columns {
        clean: column(&v1.columns.clean, CLEAN, &records, source)?,
        corrupt: column(&v1.columns.corrupt, CORRUPT, &records, source)?,
        answer: column(&v1.columns.answer, ANSWER, &records, source)?,
        wrong: column(&v1.columns.wrong, WRONG, &records, source)?,
    };
    let pairs =
        records.iter().map(|record| pair(record, &columns, metric, space, file)).collect::<Checked<Vec<_>>>()?;
    Ok((pairs, bytes))
}

/// Templates and data exclude each other.
fn no_templates(written: &TaskV1, source: Source) -> Checked<()> {
    let slot = written.slots.keys().map(Text::span).next();
    let frame = written.frames.first().map(|frame| frame.get_ref().text.span());
    let corruption = written.corruptions.first().map(|corruption| corruption.get_ref().name.span());
    let splits = written.splits.as_ref().map(|splits| splits.get_ref().by.span());
    let answer = written.answer.as_ref().map(|answer| answer.get_ref());
    let answer = answer.and_then(|a| a.right.as_ref().or(a.wrong.as_ref())).map(toml::Spanned::span);
    match slot.or(frame).or(corruption).or(splits).or(answer) {
        None => Ok(()),
        Some(span) => Err(source
            .error(span, "a task with `[data]` takes its prompts and answers from the file alone")
            .hinted("remove this, or remove `[data]`")),
    }
}

enum Format {
    Jsonl,
    Json,
    Csv,
}

fn format(v1: &DataV1, source: Source) -> Checked<Format> {
    let ending = v1.file.get_ref().rsplit_once('.').map_or("", |(_, ending)| ending).to_lowercase();
    let (name, span) = match &v1.format {
        Some(format) => (format.get_ref().clone(), format.span()),
        None => (ending, v1.file.span()),
    };
    match name.as_str() {
        "jsonl" | "ndjson" => Ok(Format::Jsonl),
        "json" => Ok(Format::Json),
        "csv" => Ok(Format::Csv),
        _ if v1.format.is_some() => Err(unknown(source, span, "format", &name, ["jsonl", "json", "csv"])),
        _ => Err(source
            .error(span, "the file's ending does not say its format")
            .hinted("add `format = \"jsonl\"`, \"json\" or \"csv\"")),
    }
}

fn json_error(error: &serde_json::Error, file: Source, start: usize) -> Box<super::Diagnostic> {
    // serde_json counts columns in bytes, from 1, and gives 0 where the text ends too early.
    let line_start = match error.line() {
        0 | 1 => start,
        line => file.text[start..].match_indices('\n').nth(line - 2).map_or(file.text.len(), |(at, _)| start + at + 1),
    };
    let at = (line_start + error.column().saturating_sub(1)).min(file.text.len());
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    file.error(at..at + 1, format!("not valid JSON: {message}")).hinted("strings and keys need double quotes")
}

fn jsonl(file: Source) -> Checked<Vec<Record>> {
    let mut records = Vec::new();
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let span = start..start + line.trim_end().len();
        if !line.trim().is_empty() {
            let value: Value = serde_json::from_str(line).map_err(|error| json_error(&error, file, start))?;
            records.push(record(value, span, file)?);
        }
        start += line.len();
    }
    Ok(records)
}

fn json(file: Source) -> Checked<Vec<Record>> {
    let value: Value = serde_json::from_str(file.text).map_err(|error| json_error(&error, file, 0))?;
    let items = match value {
        Value::Array(items) => Some(items),
        Value::Object(mut object) => match object.remove("prompts") {
            Some(Value::Array(items)) => Some(items),
            _ => None,
        },
        _ => None,
    };
    let hint = "write [{\"clean\": ..., \"corrupt\": ..., \"answer\": ..., \"wrong\": ...}, ...]";
    let items = items.ok_or_else(|| file.error(0..1, "the file is not a list of pairs").hinted(hint))?;
    items.into_iter().map(|item| record(item, 0..1, file)).collect()
}

fn record(value: Value, span: Range<usize>, file: Source) -> Checked<Record> {
    match value {
        Value::Object(object) => Ok(Record { values: object.into_iter().collect(), span }),
        _ => Err(file
            .error(span, "this is not an object")
            .hinted("write {\"clean\": ..., \"corrupt\": ..., \"answer\": ...}")),
    }
}

fn csv(file: Source) -> Checked<Vec<Record>> {
    let mut reader = csv::ReaderBuilder::new().from_reader(file.text.as_bytes());
    let wrong = |error: csv::Error| {
        let at = error.position().map_or(0, |position| position.byte() as usize).min(file.text.len());
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("this row has {len} fields, the header has {expected_len}")
            }
            _ => error.to_string(),
        };
        file.error(at..at + 1, message).hinted("put fields with commas, quotes or line breaks into double quotes")
    };
    let header: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    let mut records = Vec::new();
    for row in reader.records() {
        let row = row.map_err(wrong)?;
        let start = row.position().map_or(0, |position| position.byte() as usize).min(file.text.len());
        let end = file.text[start..].find('\n').map_or(file.text.len(), |length| start + length);
        let cell = |cell: &str| match cell.starts_with('[') {
            // A cell such as ["a", "b"] is a list; anything else is text.
            true => serde_json::from_str(cell).unwrap_or_else(|_| Value::String(cell.to_owned())),
            false => Value::String(cell.to_owned()),
        };
        let values = header.iter().cloned().zip(row.iter().map(cell)).collect();
        records.push(Record { values, span: start..end });
    }
    Ok(records)
}

struct Columns {
    clean: String,
    corrupt: String,
    answer: String,
    wrong: String,
}

/// The column that was asked for, else the first usual name that the first record has.
fn column(asked: &Option<Text>, usual: &[&str], records: &[Record], source: Source) -> Checked<String> {
    let values = &records[0].values;
    match asked {
        Some(name) if values.contains_key(name.get_ref()) => Ok(name.get_ref().clone()),
        Some(name) => Err(unknown(source, name.span(), "column", name.get_ref(), values.keys().map(String::as_str))),
        None => Ok(usual.iter().find(|name| values.contains_key(**name)).unwrap_or(&usual[0]).to_string()),
    }
}

fn pair(record: &Record, columns: &Columns, metric: MetricKind, space: bool, file: Source) -> Checked<DataPair> {
    let one = |column: &str| {
        let mut texts = texts(record, column, file)?;
        match (texts.pop(), texts.is_empty()) {
            (Some(text), true) => Ok(text),
            _ => Err(file.error(record.span.clone(), format!("`{column}` is not one text")).hinted("write one string")),
        }
    };
    let spaced = |texts: Vec<String>| -> Vec<String> {
        let texts: indexmap::IndexSet<String> =
            texts.into_iter().map(|text| if space { format!(" {text}") } else { text }).collect();
        texts.into_iter().collect()
    };
    let (clean, corrupt) = (one(&columns.clean)?, one(&columns.corrupt)?);
    if clean == corrupt {
        let hint = "a pair needs a corrupt prompt that differs";
        return Err(file.error(record.span.clone(), "clean and corrupt are the same").hinted(hint));
    }
    let right = spaced(texts(record, &columns.answer, file)?);
    let wrong = match record.values.contains_key(&columns.wrong) || metric.needs_wrong() {
        true => spaced(texts(record, &columns.wrong, file)?),
        false => Vec::new(),
    };
    let problem = match () {
        _ if right.is_empty() => "there is no right answer",
        _ if wrong.is_empty() && metric.needs_wrong() => "there is no wrong answer, and the metric needs one",
        _ if wrong.iter().any(|answer| right.contains(answer)) => "an answer is both right and wrong",
        _ => return Ok(DataPair { clean, corrupt, right, wrong }),
    };
    Err(file.error(record.span.clone(), problem).hinted("mend or remove this pair"))
}

/// A string or a list of strings.
fn texts(record: &Record, column: &str, file: Source) -> Checked<Vec<String>> {
    let wrong = |message: String, hint: String| Err(file.error(record.span.clone(), message).hinted(hint));
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let texts: Option<Vec<String>> = match record.values.get(column) {
        None => {
            let known: Vec<&str> = record.values.keys().map(String::as_str).collect();
            let hint = format!("name the right one in `[data] columns`; here are {}", known.join(", "));
            return wrong(format!("this pair has no `{column}`"), hint);
        }
        Some(Value::Array(items)) => items.iter().map(text).collect(),
        Some(value) => text(value).map(|text| vec![text]),
    };
    match texts {
        Some(texts) => Ok(texts),
        None => {
            wrong(format!("`{column}` is not text"), "write a string or a list of strings, none of them empty".into())
        }
    }
}
