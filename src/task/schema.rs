//! A task as it is written in TOML, `schema = 1`. Every value that can be wrong keeps its place in the file.
//!
//! Spans do not survive flattened, tagged or untagged serde types, so values of several shapes have visitors of their own.

use indexmap::IndexMap;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use toml::Spanned;

pub type Text = Spanned<String>;
pub type Table<T> = IndexMap<Text, T>;

/// Read before anything else, so that a file of another version says so.
#[derive(serde::Deserialize)]
pub struct Version {
    pub schema: Option<Spanned<i64>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskV1 {
    #[serde(rename = "schema")]
    pub _schema: Option<Spanned<i64>>,
    pub name: Option<Text>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub paper: Option<String>,
    pub bos: Option<bool>,
    pub metric: Option<Spanned<MetricV1>>,
    #[serde(default)]
    pub lists: Table<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub facts: Table<Spanned<Vec<Spanned<Table<Text>>>>>,
    #[serde(default)]
    pub slots: Table<Spanned<SlotV1>>,
    #[serde(default)]
    pub frames: Vec<Spanned<FrameV1>>,
    #[serde(default)]
    pub corruptions: Vec<Spanned<CorruptionV1>>,
    /// Sentences that only the growing of toy models uses.
    #[serde(default)]
    pub teach: Vec<Spanned<LessonV1>>,
    pub answer: Option<Spanned<AnswerV1>>,
    pub splits: Option<Spanned<SplitsV1>>,
    pub data: Option<Spanned<DataV1>>,
    #[serde(default)]
    pub notes: IndexMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricV1 {
    pub kind: Text,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotV1 {
    pub list: Option<Spanned<ListV1>>,
    pub facts: Option<Text>,
    pub range: Option<Spanned<Vec<Spanned<BoundV1>>>>,
    pub pad: Option<Spanned<i64>>,
    #[serde(default)]
    pub except: Vec<Spanned<i64>>,
    #[serde(default)]
    pub distinct_from: Vec<Text>,
}

/// A list by its name, or its words.
pub enum ListV1 {
    Named(String),
    Words(Vec<Text>),
}

/// An end of a range: a number, or a string such as `"{yy}+1"`.
#[derive(Clone)]
pub enum BoundV1 {
    Number(i64),
    Computed(String),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameV1 {
    pub name: Option<Text>,
    pub text: Text,
    pub right: Option<Spanned<AnswerSetV1>>,
    pub wrong: Option<Spanned<AnswerSetV1>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LessonV1 {
    pub name: Option<Text>,
    pub text: Text,
    pub right: Spanned<AnswerSetV1>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorruptionV1 {
    pub name: Text,
    pub replace: Spanned<Table<Text>>,
    pub frames: Option<Spanned<Vec<Text>>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerV1 {
    pub right: Option<Spanned<AnswerSetV1>>,
    pub wrong: Option<Spanned<AnswerSetV1>>,
    pub space: Option<bool>,
}

/// Answers: a list of templates, or a set given by a list, a fact table's column or a range.
pub enum AnswerSetV1 {
    Templates(Vec<Text>),
    Set(SetV1),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetV1 {
    pub list: Option<Spanned<ListV1>>,
    pub facts: Option<Text>,
    pub column: Option<Text>,
    pub range: Option<Spanned<Vec<Spanned<BoundV1>>>>,
    pub pad: Option<Spanned<i64>>,
    #[serde(default)]
    pub except: Vec<Spanned<i64>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitsV1 {
    pub by: Spanned<Vec<Text>>,
    pub every: Option<Spanned<i64>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataV1 {
    pub file: Text,
    pub format: Option<Text>,
    #[serde(default)]
    pub columns: ColumnsV1,
}

/// Which column or key of the data file holds what.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct ColumnsV1 {
    pub clean: Option<Text>,
    pub corrupt: Option<Text>,
    pub answer: Option<Text>,
    pub wrong: Option<Text>,
}

impl<'de> Deserialize<'de> for ListV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ListV1, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = ListV1;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a list, or a list of words")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<ListV1, E> {
                Ok(ListV1::Named(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<ListV1, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(ListV1::Words)
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}

impl<'de> Deserialize<'de> for BoundV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BoundV1, D::Error> {
        struct BoundVisitor;
        impl Visitor<'_> for BoundVisitor {
            type Value = BoundV1;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a whole number or a string such as \"{yy}+1\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<BoundV1, E> {
                Ok(BoundV1::Number(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<BoundV1, E> {
                Ok(BoundV1::Computed(text.to_owned()))
            }
        }
        deserializer.deserialize_any(BoundVisitor)
    }
}

impl<'de> Deserialize<'de> for AnswerSetV1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AnswerSetV1, D::Error> {
        struct AnswerSetVisitor;
        impl<'de> Visitor<'de> for AnswerSetVisitor {
            type Value = AnswerSetV1;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of answers such as [\"{io}\"], or { list = ... } or { range = ... }")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<AnswerSetV1, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(AnswerSetV1::Templates)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AnswerSetV1, A::Error> {
                SetV1::deserialize(MapAccessDeserializer::new(map)).map(AnswerSetV1::Set)
            }
        }
        deserializer.deserialize_any(AnswerSetVisitor)
    }
}
