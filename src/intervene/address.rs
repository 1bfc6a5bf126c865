//! Where an edit writes or a probe reads: sites by name, and token positions within a prompt.
//!
//! Every range includes both its ends, in layers, heads, neurons and positions alike: `L4..9` is six layers and `:-3..-1` the
//! last three tokens. `Display` prints what `parse` reads back to the same value.

use std::fmt;

/// Sites and positions, as written: `L5.H3.q:-1`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    pub place: Place,
    /// Left out, it means every position for an edit, the target's own positions for the source of a `from`, and the last
    /// prompt token for a probe.
    pub position: Option<Position>,
}

/// Which sites.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// `emb`: the token embedding, before positions are added.
    Embedding,
    /// `final`: the residual stream before the final norm.
    Final,
    Layers(Numbers, Part),
}

/// Which part of a layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    Whole(Whole),
    Head(Numbers, HeadPart),
    Neuron(Numbers, NeuronPart),
    /// `L5.sae(g).F42`, `L5.mlp.sae(g).F{3,8}`: features that a dictionary finds in one of the wholes; never [`Numbers::All`].
    Feature(Whole, String, Numbers),
}

/// Features of a dictionary, at most. What a dictionary has is known where it is given ([`super::check`]); the parser refuses more,
/// so that a range that is written by mistake is not written out.
pub(super) const MOST_FEATURES: usize = 1 << 24;

/// A vector as wide as the residual stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whole {
    /// `L5`: the output of the block.
    Out,
    /// `L5.in`: the residual stream that enters the block.
    In,
    /// `L5.mid`: the residual stream between attention and MLP.
    Mid,
    /// `L5.attn`: what the attention adds.
    Attention,
    /// `L5.mlp`: what the MLP adds.
    Mlp,
}

/// Which tensor of an attention head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadPart {
    /// `L5.H3`: what the head adds to the residual stream.
    Out,
    Query,
    Key,
    Value,
    Z,
    Pattern,
}

/// Which side of the non-linearity of a neuron.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeuronPart {
    /// `L5.N123`: after the non-linearity.
    Post,
    /// `L5.N123.pre`
    Pre,
}

/// A set of layers, heads or neurons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Numbers {
    All,
    /// In the order written; no number occurs twice.
    Spans(Vec<Span<usize>>),
}

/// `first..last`, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span<T> {
    pub first: T,
    pub last: T,
}

/// Which tokens of a prompt. Negative indices count back from the end of the prompt, whatever is generated after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Position {
    /// `:all`: prompt and generated tokens.
    All,
    /// `:prompt`
    Prompt,
    /// `:gen`: every position that produces a generated token, so the last prompt token and everything after it.
    Generated,
    /// `:-1`, `:3..6`, `:{0,-1}`; no index occurs twice as written.
    Spans(Vec<Span<i64>>),
    /// `:"Paris"`: the tokens that cover this text.
    Text(String),
    /// `:S2`: a position that the task names.
    Name(String),
}

impl Place {
    /// The dictionary whose features it names.
    pub fn dictionary(&self) -> Option<&str> {
        match self {
            Place::Layers(_, Part::Feature(_, dictionary, _)) => Some(dictionary),
            _ => None,
        }
    }
}

impl Position {
    /// The words that cannot be names.
    pub const KEYWORDS: [&str; 3] = ["all", "prompt", "gen"];

    /// The last token of the prompt.
    pub fn last() -> Position {
        Position::Spans(vec![Span { first: -1, last: -1 }])
    }
}

impl Numbers {
    pub fn one(number: usize) -> Numbers {
        Numbers::Spans(vec![Span { first: number, last: number }])
    }

    /// The numbers below `count`, in the order written, or the first that is not below it.
    pub fn expand(&self, count: usize) -> Result<Vec<usize>, usize> {
        match self {
            Numbers::All => Ok((0..count).collect()),
            Numbers::Spans(spans) => match spans.iter().find(|span| span.last >= count) {
                Some(span) => Err(span.last),
                None => Ok(spans.iter().flat_map(|span| span.first..=span.last).collect()),
            },
        }
    }

    /// The shortest way of writing these numbers in this order.
    pub fn compact(numbers: &[usize]) -> Numbers {
        let mut spans: Vec<Span<usize>> = Vec::new();
        for &number in numbers {
            match spans.last_mut() {
                Some(span) if span.last + 1 == number => span.last = number,
                _ => spans.push(Span { first: number, last: number }),
            }
        }
        Numbers::Spans(spans)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        self.position.as_ref().map_or(Ok(()), |position| write!(f, ":{position}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Embedding => f.write_str("emb"),
            Place::Final => f.write_str("final"),
            Place::Layers(layers, part) => write!(f, "L{layers}{part}"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Whole(whole) => write!(f, "{whole}"),
            Part::Head(heads, part) => write!(f, ".H{heads}{part}"),
            Part::Neuron(neurons, part) => write!(f, ".N{neurons}{part}"),
            Part::Feature(whole, dictionary, features) => write!(f, "{whole}.sae({}).F{features}", name(dictionary)),
        }
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whole::Out => "",
            Whole::In => ".in",
            Whole::Mid => ".mid",
            Whole::Attention => ".attn",
            Whole::Mlp => ".mlp",
        })
    }
}

impl fmt::Display for HeadPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeadPart::Out => "",
            HeadPart::Query => ".q",
            HeadPart::Key => ".k",
            HeadPart::Value => ".v",
            HeadPart::Z => ".z",
            HeadPart::Pattern => ".pattern",
        })
    }
}

impl fmt::Display for NeuronPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NeuronPart::Post => "",
            NeuronPart::Pre => ".pre",
        })
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Numbers::All => f.write_str("*"),
            Numbers::Spans(spans) => write_spans(f, spans),
        }
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Span<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}..{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::All => f.write_str("all"),
            Position::Prompt => f.write_str("prompt"),
            Position::Generated => f.write_str("gen"),
            Position::Spans(spans) => write_spans(f, spans),
            Position::Text(text) => f.write_str(&quoted(text)),
            Position::Name(name) => f.write_str(name),
        }
    }
}

fn write_spans<T: fmt::Display + PartialEq>(f: &mut fmt::Formatter<'_>, spans: &[Span<T>]) -> fmt::Result {
    if let [span] = spans {
        return write!(f, "{span}");
    }
    let spans: Vec<String> = spans.iter().map(Span::to_string).collect();
    write!(f, "{{{}}}", spans.join(","))
}

/// A name, in quotes if it is not a word.
pub(super) fn name(name: &str) -> String {
    let first = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    match first && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        true => name.into(),
        false => quoted(name),
    }
}

/// Text in quotes, on one line.
pub(super) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{}\"", escaped.replace('\r', "\\r"))
}
