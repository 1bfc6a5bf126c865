//! What the grammar is made of: words, numbers, ranges, names and quoted text, and the error that points at a place.

use super::address::Span;
use crate::error::Hint;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

/// A place in the text that is not of the grammar.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}\n  {line}\n  {}", caret(line, span))]
pub struct ParseError {
    pub what: String,
    /// The line of the text that holds the place.
    pub line: String,
    /// Bytes of `line`.
    pub span: Range<usize>,
    pub hint: Option<String>,
}

impl Hint for ParseError {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

fn caret(line: &str, span: &Range<usize>) -> String {
    let before = line.get(..span.start).map_or(0, |text| text.chars().count());
    let under = line.get(span.clone()).map_or(1, |text| text.chars().count().max(1));
    " ".repeat(before) + &"^".repeat(under)
}

/// How far a text has been read.
pub(super) struct Cursor<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    pub fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub fn take(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        self.at += if found { prefix.len() } else { 0 };
        found
    }

    pub fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    pub fn word(&mut self) -> &'a str {
        self.take_while(|c| c.is_alphanumeric() || c == '_')
    }

    pub fn spaces(&mut self) {
        self.take_while(|c| c == ' ' || c == '\t');
    }

    pub fn error(&self, span: Range<usize>, what: impl Display, hint: Option<String>) -> ParseError {
        let start = self.text[..span.start].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[span.start..].find('\n').map_or(self.text.len(), |newline| span.start + newline);
        let line = self.text[start..end].trim_end().to_string();
        let what = match self.text[..start].matches('\n').count() {
            0 => what.to_string(),
            lines => format!("line {}: {what}", lines + 1),
        };
        ParseError { what, line, span: span.start - start..span.end.min(end) - start, hint }
    }

    /// Points at the word or the character that follows.
    pub fn error_here(&self, what: impl Display, hint: Option<String>) -> ParseError {
        let length = self.rest().find(|c: char| !c.is_alphanumeric()).unwrap_or(self.rest().len());
        let length = length.max(self.peek().map_or(0, char::len_utf8));
        self.error(self.at..self.at + length, what, hint)
    }

    /// One span, or several in braces. Reversed and overlapping ones are refused: they are slips.
    pub fn spans<T: FromStr + PartialOrd + Copy + Display + Signed>(
        &mut self,
        kind: &str,
    ) -> Result<Vec<Span<T>>, ParseError> {
        let braces = self.take("{");
        let mut spans: Vec<Span<T>> = Vec::new();
        loop {
            if braces {
                self.spaces();
            }
            let start = self.at;
            let span = self.span(kind)?;
            if spans.iter().any(|other| span.overlaps(other)) {
                return Err(self.error(start..self.at, format_args!("{kind} named twice"), None));
            }
            spans.push(span);
            if !braces {
                return Ok(spans);
            }
            self.spaces();
            if self.take("}") {
                return Ok(spans);
            }
            if !self.take(",") {
                return Err(self.error_here("expected `,` or `}`", Some("a set is written {0,3,5..7}".into())));
            }
        }
    }

    fn span<T: FromStr + PartialOrd + Copy + Display + Signed>(&mut self, kind: &str) -> Result<Span<T>, ParseError> {
        let range = || Some("a range names both its ends and includes them: 4..9".to_string());
        let start = self.at;
        let first: T = self.integer(kind)?;
        let last: T = match self.take("..") {
            true if self.peek() == Some('=') => return Err(self.error_here("expected a number", range())),
            true if !self.peek().is_some_and(|c| c == '-' || c.is_ascii_digit()) => {
                return Err(self.error_here("the range has no end", range()));
            }
            true => self.integer(kind)?,
            false if self.peek() == Some('-') => {
                return Err(self.error_here("a range is not written with `-`", range()));
            }
            false => first,
        };
        if first.is_negative() == last.is_negative() && last < first {
            let hint = format!("did you mean {last}..{first}?");
            return Err(self.error(start..self.at, "the range ends before it begins", Some(hint)));
        }
        Ok(Span { first, last })
    }

    fn integer<T: FromStr>(&mut self, kind: &str) -> Result<T, ParseError> {
        let start = self.at;
        self.take("-");
        self.take_while(|c| c.is_ascii_digit());
        match self.text[start..self.at].parse() {
            Ok(number) => Ok(number),
            Err(_) if self.at > start + 1 || self.text[start..self.at].chars().any(|c| c.is_ascii_digit()) => {
                Err(self.error(start..self.at, format_args!("this is not the number of a {kind}"), None))
            }
            Err(_) => {
                self.at = start;
                Err(self.error_here(format_args!("expected the number of a {kind}"), None))
            }
        }
    }

    /// Letters, digits and underscores, with single dots and dashes inside.
    pub fn name(&mut self, what: &str, hint: &str) -> Result<&'a str, ParseError> {
        let rest = self.rest();
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return Err(self.error_here(format_args!("expected {what}"), Some(hint.into())));
        }
        let mut end = 0;
        let mut chars = rest.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let joins = (c == '.' || c == '-') && chars.peek().is_some_and(|(_, next)| inside(*next));
            if !inside(c) && !joins {
                break;
            }
            end = at + c.len_utf8();
        }
        self.at += end;
        Ok(&rest[..end])
    }

    pub fn name_or_quoted(&mut self, what: &str, hint: &str) -> Result<String, ParseError> {
        match self.peek() {
            Some('"') => self.text_in_quotes(),
            _ => self.name(what, hint).map(str::to_string),
        }
    }

    pub fn text_in_quotes(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        self.take("\"");
        let mut text = String::new();
        loop {
            let c = self.peek().filter(|c| *c != '\n');
            let Some(c) = c else {
                return Err(self.error(
                    start..start + 1,
                    "the quotation is not closed",
                    Some("end it with `\"`".into()),
                ));
            };
            self.at += c.len_utf8();
            match c {
                '"' if text.is_empty() => return Err(self.error(start..self.at, "the quotation is empty", None)),
                '"' => return Ok(text),
                '\\' => {
                    let escaped = self.peek();
                    text.push(match escaped {
                        Some('n') => '\n',
                        Some('t') => '\t',
                        Some('r') => '\r',
                        Some(c @ ('"' | '\\')) => c,
                        _ => {
                            let hint = "the escapes are \\\" \\\\ \\n \\t and \\r".to_string();
                            return Err(self.error(self.at - 1..self.at, "unknown escape", Some(hint)));
                        }
                    });
                    self.at += 1;
                }
                c => text.push(c),
            }
        }
    }

    pub fn number(&mut self) -> Option<f64> {
        let bytes = self.rest().as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = digits(usize::from(matches!(bytes.first(), Some(b'-' | b'+'))));
        if bytes.get(end) == Some(&b'.') {
            end = digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
            let exponent = digits(end + 1 + sign);
            end = if exponent > end + 1 + sign { exponent } else { end };
        }
        let number = self.rest().get(..end)?.parse().ok().filter(|number: &f64| number.is_finite())?;
        self.at += end;
        Some(number)
    }
}

/// Numbers that count from the end when negative.
pub trait Signed {
    fn is_negative(&self) -> bool;
}

impl Signed for usize {
    fn is_negative(&self) -> bool {
        false
    }
}

impl Signed for i64 {
    fn is_negative(&self) -> bool {
        *self < 0
    }
}

impl<T: PartialOrd + Signed> Span<T> {
    /// Whether two spans share a number, as far as that can be told before the length of the prompt is known.
    fn overlaps(&self, other: &Span<T>) -> bool {
        let same_sign =
            [&self.last, &other.first, &other.last].iter().all(|n| n.is_negative() == self.first.is_negative());
        same_sign && self.first <= other.last && other.first <= self.last
    }
}
