//! The parser of the edit grammar, by recursive descent.
//!
//! ```text
//! plan     = { edit (";" | newline) }            "#" starts a comment
//! edit     = address "=" verb
//! address  = place [":" position]
//! place    = "emb" | "final" | "L" numbers ["." part]
//! part     = whole | "H" numbers ["." ("q"|"k"|"v"|"z"|"pattern")] | "N" numbers [".pre"]
//!          | [whole "."] "sae" "(" dictionary ")" ".F" numbers
//! whole    = "in" | "mid" | "attn" | "mlp"
//! numbers  = "*" | span | "{" span {"," span} "}"
//! span     = number [".." number]                 both ends included
//! position = "all" | "prompt" | "gen" | index span | "{" index spans "}" | text in quotes | name
//! verb     = "zero" | "mean" | "set" (number|vector) | "scale" number | "add" [number "*"] vector
//!          | "project" number "*" vector | "from" address ["@" prompt]
//! ```

use super::address::{Address, HeadPart, MOST_FEATURES, NeuronPart, Numbers, Part, Place, Position, Whole};
use super::lexer::Cursor;
pub use super::lexer::ParseError;
use super::plan::{Edit, Plan, Source, Value, Verb};
use crate::error::nearest;
use std::str::FromStr;

/// Reads any number of edits, separated by newlines or semicolons.
pub fn plan(text: &str) -> Result<Plan, ParseError> {
    let mut cursor = Cursor::new(text);
    let mut edits = Vec::new();
    while cursor.next_edit() {
        edits.push(cursor.edit()?);
        cursor.end_of_edit()?;
    }
    Ok(Plan { edits })
}

/// Reads one edit.
pub fn edit(text: &str) -> Result<Edit, ParseError> {
    let mut cursor = Cursor::new(text);
    cursor.next_edit();
    let edit = cursor.edit()?;
    cursor.end_of_edit()?;
    if cursor.next_edit() {
        return Err(cursor.error_here("one edit is expected here", Some("give several edits as a plan".into())));
    }
    Ok(edit)
}

/// Reads one address: what a probe looks at.
pub fn address(text: &str) -> Result<Address, ParseError> {
    let mut cursor = Cursor::new(text);
    cursor.spaces();
    let address = cursor.address()?;
    cursor.spaces();
    match cursor.at == text.len() {
        true => Ok(address),
        false => Err(cursor.error_here("nothing may follow the site", None)),
    }
}

impl FromStr for Plan {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Plan, ParseError> {
        plan(text)
    }
}

impl FromStr for Edit {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Edit, ParseError> {
        edit(text)
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Address, ParseError> {
        address(text)
    }
}

const PARTS: [&str; 6] = ["in", "mid", "attn", "mlp", "H0", "N0"];
const HEAD_PARTS: [&str; 5] = ["q", "k", "v", "z", "pattern"];
const VERBS: [&str; 7] = ["zero", "mean", "set", "scale", "add", "project", "from"];
const EXAMPLE: &str = "an edit is written SITE = VERB, for example `L5.H3:-1 = scale 0`";

/// What other tools call our names.
const ELSEWHERE: [(&str, &str); 21] = [
    ("embed", "emb"),
    ("embedding", "emb"),
    ("wte", "emb"),
    ("ln_final", "final"),
    ("ln_f", "final"),
    ("pre", "in"),
    ("resid_pre", "in"),
    ("resid_mid", "mid"),
    ("attn_out", "attn"),
    ("attention", "attn"),
    ("mlp_out", "mlp"),
    ("query", "q"),
    ("key", "k"),
    ("value", "v"),
    ("attn", "pattern"),
    ("ablate", "zero"),
    ("multiply", "scale"),
    ("mul", "scale"),
    ("steer", "add"),
    ("patch", "from"),
    ("copy", "from"),
];

fn did_you_mean(typed: &str, known: &[&str], otherwise: &str) -> String {
    let sorted = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    let elsewhere = ELSEWHERE.iter().find(|(theirs, ours)| *theirs == typed && known.contains(ours));
    // Swapped letters are two edits away, as far as many an unrelated word.
    let swapped = || known.iter().copied().find(|word| sorted(word) == sorted(typed));
    let near = elsewhere.map(|(_, ours)| *ours).or_else(swapped).or_else(|| nearest(typed, known.iter().copied()));
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise.into(),
    }
}

impl<'a> Cursor<'a> {
    /// Skips what lies between edits; whether another one follows.
    fn next_edit(&mut self) -> bool {
        loop {
            self.take_while(|c| c.is_whitespace() || c == ';');
            match self.peek() {
                Some('#') => self.take_while(|c| c != '\n'),
                other => return other.is_some(),
            };
        }
    }

    fn end_of_edit(&mut self) -> Result<(), ParseError> {
        self.spaces();
        match self.peek() {
            None | Some(';' | '\n' | '\r' | '#') => Ok(()),
            Some(_) => {
                Err(self.error_here("the edit should end here", Some("separate edits with `;` or a new line".into())))
            }
        }
    }

    fn edit(&mut self) -> Result<Edit, ParseError> {
        let target = self.address()?;
        self.spaces();
        if !self.take("=") {
            return Err(self.error_here("expected `=` and a verb", Some(EXAMPLE.into())));
        }
        self.spaces();
        Ok(Edit { target, verb: self.verb()? })
    }

    fn address(&mut self) -> Result<Address, ParseError> {
        let place = self.place()?;
        let position = if self.take(":") { Some(self.position()?) } else { None };
        Ok(Address { place, position })
    }

    fn starts_numbers(&self, letter: char) -> bool {
        let mut chars = self.rest().chars();
        chars.next() == Some(letter) && chars.next().is_some_and(|c| c.is_ascii_digit() || c == '*' || c == '{')
    }

    fn place(&mut self) -> Result<Place, ParseError> {
        if self.starts_numbers('L') {
            self.at += 1;
            let layers = self.numbers("layer")?;
            let part = if self.take(".") { self.part()? } else { Part::Whole(Whole::Out) };
            if self.peek() == Some('.') {
                return Err(self.error_here("this site has no parts", Some("see `L5.H3.q` and `L5.N123.pre`".into())));
            }
            return Ok(Place::Layers(layers, part));
        }
        let start = self.at;
        let word = self.word();
        let place = match word {
            "emb" => Place::Embedding,
            "final" => Place::Final,
            "" => return Err(self.error_here("expected a site", Some(EXAMPLE.into()))),
            _ => {
                let sites =
                    "the sites are `emb`, `L0`, `L0.in`, `L0.mid`, `L0.attn`, `L0.mlp`, `L0.H0`, `L0.N0` and `final`";
                let hint = match word.strip_prefix('l').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
                    Some(layer) => format!("did you mean `L{layer}`?"),
                    None => did_you_mean(word, &["emb", "final"], sites),
                };
                return Err(self.error(start..self.at, format_args!("`{word}` is not a site"), Some(hint)));
            }
        };
        match self.peek() {
            Some('.') => Err(self.error_here(format_args!("`{word}` has no parts"), None)),
            _ => Ok(place),
        }
    }

    fn part(&mut self) -> Result<Part, ParseError> {
        if self.starts_numbers('H') {
            self.at += 1;
            let heads = self.numbers("head")?;
            return Ok(Part::Head(heads, if self.take(".") { self.head_part()? } else { HeadPart::Out }));
        }
        if self.starts_numbers('N') {
            self.at += 1;
            let neurons = self.numbers("neuron")?;
            return Ok(Part::Neuron(neurons, if self.take(".") { self.neuron_part()? } else { NeuronPart::Post }));
        }
        let start = self.at;
        let word = self.word();
        let whole = match word {
            "in" => Whole::In,
            "mid" => Whole::Mid,
            "attn" => Whole::Attention,
            "mlp" => Whole::Mlp,
            "sae" => return self.features(Whole::Out),
            _ => {
                let all =
                    "the parts of a layer are `in`, `mid`, `attn`, `mlp`, `H0` and `N0`; the layer alone is its output";
                let (unit, digits) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
                let hint = match unit {
                    "h" | "n" if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                        format!("did you mean `{}{digits}`?", unit.to_uppercase())
                    }
                    _ => did_you_mean(word, &PARTS, all),
                };
                let what = if word.is_empty() {
                    "expected a part of the layer".into()
                } else {
                    format!("a layer has no part `{word}`")
                };
                return Err(self.error(start..self.at.max(start + 1), what, Some(hint)));
            }
        };
        if self.take(".sae") { self.features(whole) } else { Ok(Part::Whole(whole)) }
    }

    /// What follows `sae`.
    fn features(&mut self, whole: Whole) -> Result<Part, ParseError> {
        const EXAMPLE: &str = "features are written `L5.sae(name).F42`, with the name that the dictionary was given";
        if !self.take("(") {
            return Err(self.error_here("expected `(` and the name of a dictionary", Some(EXAMPLE.into())));
        }
        let dictionary = self.name_or_quoted("the name of a dictionary", EXAMPLE)?;
        if !self.take(").") || !self.starts_numbers('F') {
            return Err(self.error_here("expected `).F` and the number of a feature", Some(EXAMPLE.into())));
        }
        self.at += 1;
        let start = self.at;
        match self.numbers("feature")? {
            Numbers::All => {
                let hint = "for example `F42`, `F{3,8}` or `F0..15`".to_string();
                Err(self.error(start..self.at, "features are named by their numbers", Some(hint)))
            }
            Numbers::Spans(spans) if spans.iter().any(|span| span.last >= MOST_FEATURES) => {
                Err(self.error(start..self.at, "no dictionary has so many features", None))
            }
            features => Ok(Part::Feature(whole, dictionary, features)),
        }
    }

    fn head_part(&mut self) -> Result<HeadPart, ParseError> {
        let start = self.at;
        let word = self.word();
        Ok(match word {
            "q" => HeadPart::Query,
            "k" => HeadPart::Key,
            "v" => HeadPart::Value,
            "z" => HeadPart::Z,
            "pattern" => HeadPart::Pattern,
            _ => {
                let hint = did_you_mean(word, &HEAD_PARTS, "the parts of a head are `q`, `k`, `v`, `z` and `pattern`");
                return Err(self.error(start..self.at, format_args!("a head has no part `{word}`"), Some(hint)));
            }
        })
    }

    fn neuron_part(&mut self) -> Result<NeuronPart, ParseError> {
        let start = self.at;
        let word = self.word();
        match word {
            "pre" => Ok(NeuronPart::Pre),
            _ => {
                let hint = "`.pre` is the neuron before its non-linearity; without it, after".to_string();
                Err(self.error(start..self.at, format_args!("a neuron has no part `{word}`"), Some(hint)))
            }
        }
    }

    fn numbers(&mut self, kind: &str) -> Result<Numbers, ParseError> {
        match self.take("*") {
            true => Ok(Numbers::All),
            false => Ok(Numbers::Spans(self.spans(kind)?)),
        }
    }

    fn position(&mut self) -> Result<Position, ParseError> {
        match self.peek() {
            Some('"') => Ok(Position::Text(self.text_in_quotes()?)),
            Some('{' | '-' | '0'..='9') => Ok(Position::Spans(self.spans("position")?)),
            _ => {
                let start = self.at;
                Ok(
                    match self
                        .name("a position", "see `:-1`, `:3..6`, `:\"Paris\"`, `:S2`, `:all`, `:prompt` and `:gen`")?
                    {
                        "all" => Position::All,
                        "prompt" => Position::Prompt,
                        "gen" => Position::Generated,
                        word @ ("new" | "tip") => {
                            let hint = "`:gen` is every position that produces a generated token".to_string();
                            let what = format_args!("the position `{word}` is not available yet");
                            return Err(self.error(start..self.at, what, Some(hint)));
                        }
                        name => Position::Name(name.into()),
                    },
                )
            }
        }
    }

    fn verb(&mut self) -> Result<Verb, ParseError> {
        let start = self.at;
        let word = self.word();
        self.spaces();
        Ok(match word {
            "zero" => Verb::Zero,
            "mean" => Verb::Mean,
            "set" => Verb::Set(match self.number() {
                Some(number) => Value::Number(number),
                None => Value::Vector(self.name_or_quoted("a number or a vector", "for example `set 0.5`")?),
            }),
            "scale" => match self.number() {
                Some(factor) => Verb::Scale(factor),
                None => return Err(self.error_here("expected a number", Some("for example `scale 0.5`".into()))),
            },
            "add" => {
                let factor = self.factor()?.unwrap_or(1.0);
                Verb::Add(factor, self.name_or_quoted("the name of a vector", "for example `add 4*refusal`")?)
            }
            "project" => {
                let hint = "for example `project 0*refusal`; 0 removes the direction, 1 changes nothing";
                let Some(factor) = self.factor()? else {
                    return Err(self.error_here("expected a number and a vector", Some(hint.into())));
                };
                Verb::Project(factor, self.name_or_quoted("the name of a vector", hint)?)
            }
            "from" => {
                let address = self.address()?;
                let prompt = match self.take("@") {
                    true => Some(self.name_or_quoted("the name of a prompt", "for example `from L5:-1@corrupt`")?),
                    false => None,
                };
                Verb::From(Source { address, prompt })
            }
            "" => return Err(self.error_here("expected a verb", Some(format!("the verbs are {}", VERBS.join(", "))))),
            _ => {
                let hint = did_you_mean(word, &VERBS, &format!("the verbs are {}", VERBS.join(", ")));
                return Err(self.error(start..start + word.len(), format_args!("`{word}` is not a verb"), Some(hint)));
            }
        })
    }

    /// `4*`, if there is a number.
    fn factor(&mut self) -> Result<Option<f64>, ParseError> {
        let Some(factor) = self.number() else { return Ok(None) };
        self.spaces();
        if !self.take("*") {
            let hint = "a number times a vector, for example `4*refusal`".to_string();
            return Err(self.error_here("expected `*` and the name of a vector", Some(hint)));
        }
        self.spaces();
        Ok(Some(factor))
    }
}
