//! A mistake in a file: what, where (file, line, column, the marked text) and what to do about it.

use crate::error::Hint;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;

/// A text that spans point into, and the name to show for it.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    pub fn error(&self, span: Range<usize>, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic {
            path: self.path.to_owned(),
            source: self.text.to_owned(),
            span,
            message: message.into(),
            label: String::new(),
            hint: None,
        })
    }

    /// The place of `inner`, a span inside a TOML string's value, in the file. A string with escapes is marked as a whole.
    pub fn inside(&self, string: &toml::Spanned<String>, inner: Range<usize>) -> Range<usize> {
        let whole = string.span();
        let value = string.get_ref().as_str();
        let raw = self.text.get(whole.clone()).unwrap_or_default();
        let start = ["\"\"\"\r\n", "'''\r\n", "\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"]
            .into_iter()
            .find(|quote| raw.starts_with(quote))
            .map_or(0, str::len);
        match raw[start..].starts_with(value) {
            true => whole.start + start + inner.start..whole.start + start + inner.end,
            false => whole,
        }
    }
}

/// One mistake. `Display` shows the marked source line without colours; the advice is in [`Hint::hint`].
#[derive(Clone, Debug)]
pub struct Diagnostic {
    pub path: String,
    /// The whole text of the file.
    pub source: String,
    /// Bytes of `source` that are marked.
    pub span: Range<usize>,
    pub message: String,
    /// A few words beside the mark, or nothing.
    pub label: String,
    pub hint: Option<String>,
}

impl Diagnostic {
    pub fn label(mut self: Box<Self>, label: impl Into<String>) -> Box<Self> {
        self.label = label.into();
        self
    }

    pub fn hinted(mut self: Box<Self>, hint: impl Into<String>) -> Box<Self> {
        self.hint = Some(hint.into());
        self
    }

    /// Line and column of the mark, both counted from 1, the column in characters.
    pub fn line_column(&self) -> (usize, usize) {
        let before = &self.source[..floor_char_boundary(&self.source, self.span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = floor_char_boundary(&self.source, self.span.start);
        let end = floor_char_boundary(&self.source, self.span.end.max(start));
        // A mark over many lines (a whole table) says no more than its first line.
        let end = self.source[start..end].find('\n').map_or(end, |line| start + line);
        let mut mark = AnnotationKind::Primary.span(start..end);
        if !self.label.is_empty() {
            mark = mark.label(self.label.as_str());
        }
        let snippet = Snippet::source(self.source.as_str()).path(self.path.as_str()).annotation(mark);
        let group = Group::with_level(Level::ERROR.no_name()).element(snippet);
        let drawing = Renderer::plain().render(&[group]);
        write!(f, "{}\n{}", self.message, drawing.trim_end())
    }
}

impl std::error::Error for Diagnostic {}

impl Hint for Diagnostic {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}
