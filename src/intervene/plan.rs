//! Edits as plain data: what the command line, the library and the reports all speak.
//!
//! A plan prints as text, one edit a line, and `parse` reads it back to the same value. In JSON it is a list of such lines.

use super::address::{Address, name};
use super::parse::{self, ParseError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Edits in the order in which they apply where several write the same site.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    pub edits: Vec<Edit>,
}

/// `target = verb`
#[derive(Clone, PartialEq, Debug)]
pub struct Edit {
    pub target: Address,
    pub verb: Verb,
}

/// What happens to each vector `x` of the target. Vectors go by name; whoever runs the plan supplies them.
#[derive(Clone, PartialEq, Debug)]
pub enum Verb {
    /// x ← 0
    Zero,
    /// x ← the supplied mean of the site
    Mean,
    /// x ← v
    Set(Value),
    /// x ← a·x
    Scale(f64),
    /// x ← x + a·v
    Add(f64, String),
    /// x ← x + (a − 1)·(x·v̂)·v̂ with v̂ = v/‖v‖: 0 removes the direction, 1 changes nothing.
    Project(f64, String),
    /// x ← what the source held in an unedited run
    From(Source),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Every value is this number.
    Number(f64),
    Vector(String),
}

/// Where `from` reads. Layers, units and positions pair off with those of the target in the order written; a single one serves all.
#[derive(Clone, PartialEq, Debug)]
pub struct Source {
    pub address: Address,
    /// Another prompt; `None` is the same prompt without the edits.
    pub prompt: Option<String>,
}

impl Plan {
    /// The names of the vectors that a run must supply, each once.
    pub fn vectors(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.edits.iter().filter_map(|edit| edit.verb.vector()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of the dictionaries that a run must supply, each once.
    pub fn dictionaries(&self) -> Vec<&str> {
        let sources = self.edits.iter().filter_map(|edit| Some(edit.verb.source()?.address.place.dictionary()));
        let targets = self.edits.iter().map(|edit| edit.target.place.dictionary());
        let mut names: Vec<&str> = targets.chain(sources).flatten().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names of the other prompts that sources refer to, each once.
    pub fn prompts(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.edits.iter().filter_map(|edit| edit.verb.source()?.prompt.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Verb {
    pub fn name(&self) -> &'static str {
        match self {
            Verb::Zero => "zero",
            Verb::Mean => "mean",
            Verb::Set(_) => "set",
            Verb::Scale(_) => "scale",
            Verb::Add(..) => "add",
            Verb::Project(..) => "project",
            Verb::From(_) => "from",
        }
    }

    pub fn vector(&self) -> Option<&str> {
        match self {
            Verb::Set(Value::Vector(name)) | Verb::Add(_, name) | Verb::Project(_, name) => Some(name),
            _ => None,
        }
    }

    pub fn source(&self) -> Option<&Source> {
        match self {
            Verb::From(source) => Some(source),
            _ => None,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.edits.iter().map(Edit::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.target, self.verb)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Verb::Zero | Verb::Mean => Ok(()),
            Verb::Set(Value::Number(number)) => write!(f, " {number}"),
            Verb::Set(Value::Vector(vector)) => write!(f, " {}", name(vector)),
            Verb::Scale(factor) => write!(f, " {factor}"),
            Verb::Add(factor, vector) | Verb::Project(factor, vector) => write!(f, " {factor}*{}", name(vector)),
            Verb::From(source) => write!(f, " {source}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.prompt.as_ref().map_or(Ok(()), |prompt| write!(f, "@{}", name(prompt)))
    }
}

/// A plan in a file: a list of edits as text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanV1(pub Vec<String>);

impl From<&Plan> for PlanV1 {
    fn from(plan: &Plan) -> PlanV1 {
        PlanV1(plan.edits.iter().map(Edit::to_string).collect())
    }
}

impl TryFrom<&PlanV1> for Plan {
    type Error = ParseError;

    fn try_from(file: &PlanV1) -> Result<Plan, ParseError> {
        Ok(Plan { edits: file.0.iter().map(|line| parse::edit(line)).collect::<Result<_, _>>()? })
    }
}
