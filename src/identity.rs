//! What the numbers of a run depend on, as named values, so that two runs can be told apart by name.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Names such as `method.options.steps` with their values.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(BTreeMap<String, String>);

impl Identity {
    /// The values of a table, by their names in it.
    ///
    /// # Errors
    /// When JSON cannot hold it.
    pub fn of(table: &impl Serialize) -> serde_json::Result<Identity> {
        let nothing = Identity::default();
        Ok(match serde_json::to_value(table)? {
            Value::Object(parts) => parts.iter().fold(nothing, |all, (name, value)| all.with(name, value)),
            other => nothing.with("value", &other),
        })
    }

    /// With a value; those inside an object or a list each under a name of its own.
    pub fn with(self, name: &str, value: &Value) -> Identity {
        let inside = |part: &str| format!("{name}.{part}");
        match value {
            Value::Object(parts) => parts.iter().fold(self, |all, (part, value)| all.with(&inside(part), value)),
            Value::Array(parts) => {
                parts.iter().enumerate().fold(self, |all, (index, value)| all.with(&inside(&index.to_string()), value))
            }
            Value::String(text) => self.insert(name, text.clone()),
            other => self.insert(name, other.to_string()),
        }
    }

    fn insert(mut self, name: &str, value: String) -> Identity {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// In words, what differs between `here` and `there`: `method.options.steps is 5 there and 7 here`.
    pub fn differences(here: &Identity, there: &Identity) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = here.0.keys().chain(there.0.keys()).collect();
        let value = |of: &Identity, name: &String| of.0.get(name).cloned().unwrap_or_else(|| "nothing".into());
        let differs = |name: &&String| here.0.get(*name) != there.0.get(*name);
        let in_words = |name: &String| format!("{name} is {} there and {} here", value(there, name), value(here, name));
        names.into_iter().filter(differs).map(in_words).collect()
    }
}
