//! Prompt templates: text with `{slot}`, `{slot:label}`, `{fact.column}` and `{fact.column:label}`; `{{` and `}}` are braces.

use std::fmt;
use std::ops::Range;

/// A template as it is written: names are not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Template {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Use(Use),
}

/// One `{...}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub slot: String,
    pub column: Option<String>,
    pub label: Option<String>,
    /// Its bytes in the template, braces included.
    pub at: Range<usize>,
}

/// Why a template cannot be read, and which bytes of it are to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub at: Range<usize>,
    pub message: String,
    pub hint: String,
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, Problem> {
        let problem = |at: Range<usize>, message: String, hint: &str| Problem { at, message, hint: hint.into() };
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = 0;
        while let Some(offset) = text[rest..].find(['{', '}']) {
            let brace = rest + offset;
            literal.push_str(&text[rest..brace]);
            let two = text.get(brace..brace + 2).unwrap_or_default();
            if two == "{{" || two == "}}" {
                literal.push_str(&two[..1]);
                rest = brace + 2;
                continue;
            }
            if text[brace..].starts_with('}') {
                return Err(problem(brace..brace + 1, "`}` without `{`".into(), "write `}}` for a brace in the text"));
            }
            let Some(length) = text[brace..].find('}') else {
                let hint = "close it with `}`, or write `{{` for a brace in the text";
                return Err(problem(brace..brace + 1, "`{` is never closed".into(), hint));
            };
            let at = brace..brace + length + 1;
            let inner = &text[brace + 1..brace + length];
            let (path, label) = match inner.split_once(':') {
                Some((path, label)) => (path, Some(label)),
                None => (inner, None),
            };
            let (slot, column) = match path.split_once('.') {
                Some((slot, column)) => (slot, Some(column)),
                None => (path, None),
            };
            if [Some(slot), column, label].into_iter().flatten().any(|name| !is_name(name)) {
                let hint = "write {slot}, {slot:label}, {fact.column} or {fact.column:label}; names are letters, digits, `_` and `-`";
                return Err(problem(at, format!("`{{{inner}}}` is not a slot"), hint));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            let (slot, column, label) = (slot.to_owned(), column.map(str::to_owned), label.map(str::to_owned));
            rest = at.end;
            pieces.push(Piece::Use(Use { slot, column, label, at }));
        }
        literal.push_str(&text[rest..]);
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Template { pieces })
    }

    pub fn uses(&self) -> impl Iterator<Item = &Use> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Use(used) => Some(used),
            Piece::Text(_) => None,
        })
    }
}

impl Use {
    /// `slot` or `slot.column`.
    pub fn path(&self) -> String {
        match &self.column {
            Some(column) => format!("{}.{column}", self.slot),
            None => self.slot.clone(),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}"))?,
                Piece::Use(used) => match &used.label {
                    Some(label) => write!(f, "{{{}:{label}}}", used.path())?,
                    None => write!(f, "{{{}}}", used.path())?,
                },
            }
        }
        Ok(())
    }
}

/// Names of slots, labels, lists, tables, columns and frames: a letter or `_`, then letters, digits, `_` or `-`.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
}
