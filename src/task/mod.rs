//! A task: a validated description of prompts, corruptions and answers, read from TOML.
//!
//! [`load`] reads and checks a file (every mistake is a [`Diagnostic`] with its place), [`expand()`] makes prompt pairs of it,
//! [`check()`] looks at those pairs through a tokenizer.

mod build;
mod capacity;
pub mod check;
mod data;
mod describe;
mod diagnostic;
mod expand;
mod frames;
mod lessons;
mod schema;
pub mod slot;
pub mod template;
mod vocabulary;

pub use capacity::{Capacity, capacity};
pub use check::check;
pub use diagnostic::Diagnostic;
pub use expand::{Expansion, PromptPair, Split, expand};
pub use lessons::{Lesson, lessons};

use crate::error::{FileError, Hint, nearest};
use crate::metric::MetricKind;
use indexmap::IndexMap;
use slot::{Numbers, Part, Slot};
use std::path::{Path, PathBuf};

/// The tasks that come with the program: name and TOML.
const BUILT_IN: &[(&str, &str)] = &[
    ("ioi", include_str!("../../tasks/ioi.toml")),
    ("greater-than", include_str!("../../tasks/greater-than.toml")),
    ("gendered-pronoun", include_str!("../../tasks/gendered-pronoun.toml")),
    ("subject-verb-agreement", include_str!("../../tasks/subject-verb-agreement.toml")),
    ("induction", include_str!("../../tasks/induction.toml")),
    ("docstring", include_str!("../../tasks/docstring.toml")),
    ("country-capital", include_str!("../../tasks/country-capital.toml")),
    ("antonym", include_str!("../../tasks/antonym.toml")),
    ("two-hop", include_str!("../../tasks/two-hop.toml")),
    ("refusal", include_str!("../../tasks/refusal.toml")),
];

/// The commented task that `penjing task new` writes; `NAME` stands for its name.
pub const NEW_TEMPLATE: &str = include_str!("new_template.toml");

/// A task that has been checked: every name in it is known and every frame can make at least one pair.
#[derive(Clone, Debug)]
pub struct Task {
    pub name: String,
    pub title: String,
    pub description: String,
    pub paper: Option<String>,
    pub metric: MetricKind,
    /// Whether prompts begin with the beginning-of-text token; `None` leaves it to the tokenizer's own rules.
    pub bos: Option<bool>,
    pub notes: IndexMap<String, String>,
    /// BLAKE3 of the TOML's bytes followed by the data file's bytes, in hex.
    pub hash: String,
    /// The file it was read from; `None` for a built-in task.
    pub path: Option<PathBuf>,
    pub content: Content,
}

/// Where a task's pairs come from.
#[derive(Clone, Debug)]
pub enum Content {
    Templates(Templates),
    Data(Vec<DataPair>),
}

/// A pair read from a data file. Answers are as they are written there, leading space included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPair {
    pub clean: String,
    pub corrupt: String,
    pub right: Vec<String>,
    pub wrong: Vec<String>,
}

/// Frames, and the slots that their templates are filled from.
#[derive(Clone, Debug)]
pub struct Templates {
    pub slots: Vec<Slot>,
    /// The number of values of each range slot, at most; 0 for the others.
    pub(crate) longest: Vec<i64>,
    pub frames: Vec<Frame>,
    /// The `[[teach]]` entries: frames that stand in no split and take no corruption.
    pub(crate) taught: Vec<lessons::Taught>,
    /// Names of the corruptions in the order of the file.
    pub corruptions: Vec<String>,
    /// Answers are written with a leading space.
    pub space: bool,
    pub splits: Option<Splits>,
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub name: String,
    /// The template as written.
    pub template: template::Template,
    pub parts: Vec<Part>,
    /// The name by which each part's tokens are known, if it has one.
    pub positions: Vec<Option<String>>,
    pub right: Answers,
    pub wrong: Answers,
    /// The corruptions that apply here, the default first.
    pub variants: Vec<Variant>,
}

/// A corruption as it applies to one frame.
#[derive(Clone, Debug)]
pub struct Variant {
    pub corruption: String,
    /// Index into the frame's parts, and what stands there in the corrupt prompt.
    pub replaced: Vec<(usize, Vec<Part>)>,
    /// The slots to draw, each after those it depends on; the first `visible` decide the clean text.
    pub(crate) order: Vec<usize>,
    pub(crate) visible: usize,
}

#[derive(Clone, Debug)]
pub enum Answers {
    Templates(Vec<Vec<Part>>),
    Words(Vec<String>),
    Numbers(Numbers),
}

/// A Latin-square hold-out: a draw is in `test` when the indices of its values sum to 0 modulo `every`.
#[derive(Clone, Debug)]
pub struct Splits {
    pub by: Vec<SplitBy>,
    pub every: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitBy {
    Frame,
    Slot(usize),
}

/// Why a task cannot be read or expanded.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Diagnostic(#[from] Box<Diagnostic>),
    #[error("there is no task `{name}`")]
    Unknown { name: String },
    #[error("task `{task}` has no corruption `{corruption}`")]
    UnknownCorruption { task: String, corruption: String, known: Vec<String> },
    #[error("`{name}` cannot be a task's name")]
    BadName { name: String },
    #[error("no pairs of task `{task}` were asked for")]
    NoPairs { task: String },
    #[error(
        "{asked} pairs were asked for, but task `{task}` {} {possible} distinct {}",
        verb,
        of_split(*split)
    )]
    TooFew { task: String, split: Split, asked: usize, possible: usize, verb: &'static str },
}

fn of_split(split: Split) -> String {
    match split {
        Split::All => "ones".into(),
        split => format!("ones in its {split} split"),
    }
}

impl Hint for TaskError {
    fn hint(&self) -> Option<String> {
        match self {
            TaskError::File(error) => error.hint(),
            TaskError::Diagnostic(diagnostic) => diagnostic.hint(),
            TaskError::Unknown { name } => Some(match nearest(name, built_in_names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None if built_in_names().next().is_none() => {
                    format!("a file is written with its folder: ./{name}.toml")
                }
                None => format!(
                    "the tasks are {}; a file is written with its folder or ending, as ./{name}.toml",
                    built_in_names().collect::<Vec<_>>().join(", ")
                ),
            }),
            TaskError::UnknownCorruption { corruption, known, .. } => {
                Some(match nearest(corruption, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its corruptions are {}", known.join(", ")),
                })
            }
            TaskError::BadName { .. } => Some(build::TASK_NAME_HINT.into()),
            TaskError::NoPairs { .. } => Some("ask for at least one pair".into()),
            TaskError::TooFew { possible: 0, .. } => {
                Some("this split is empty: give the task more words or change its [splits]".into())
            }
            TaskError::TooFew { possible, .. } => {
                Some(format!("ask for at most {possible}, or give the task more words"))
            }
        }
    }
}

/// A new task's TOML: [`NEW_TEMPLATE`] under another name, which must be fit to be one.
pub fn new_task(name: &str) -> Result<String, TaskError> {
    match build::is_task_name(name) {
        true => Ok(NEW_TEMPLATE.replace("NAME", name)),
        false => Err(TaskError::BadName { name: name.to_owned() }),
    }
}

/// Names of the built-in tasks.
pub fn built_in_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// A built-in task by name.
pub fn built_in(name: &str) -> Result<Task, TaskError> {
    let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) else {
        return Err(TaskError::Unknown { name: name.to_owned() });
    };
    build::build(text.as_bytes(), &format!("tasks/{name}.toml"), None)
}

/// Reads and checks a task file.
pub fn load(path: impl AsRef<Path>) -> Result<Task, TaskError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
    build::build(&bytes, &path.display().to_string(), Some(path))
}

/// Checks a task that is not in a file of its own; `shown` names it in messages, data files are taken relative to the
/// current folder.
pub fn parse(toml: &[u8], shown: &str) -> Result<Task, TaskError> {
    build::build(toml, shown, None)
}

/// The task that `argument` names: a file if it has a folder or ends in `.toml`, else a built-in task.
pub fn resolve(argument: &str) -> Result<Task, TaskError> {
    match argument.contains(['/', std::path::MAIN_SEPARATOR]) || argument.ends_with(".toml") {
        true => load(argument),
        false => built_in(argument),
    }
}
