//! The keys of a `config.json`, each checked as it is read.

use crate::model::load::ModelError;
use crate::model::spec::{Activation, AttentionLayer};
use serde_json::Value;
use std::path::Path;

pub(super) struct Fields<'a> {
    pub config: &'a Value,
    pub path: &'a Path,
}

impl<'a> Fields<'a> {
    pub fn wrong(&self, key: &'static str, why: impl Into<String>) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key, why: why.into() }
    }

    /// The value of a key; `null` counts as missing.
    pub fn optional(&self, key: &str) -> Option<&'a Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn get(&self, key: &'static str) -> Result<&'a Value, ModelError> {
        self.optional(key).ok_or_else(|| self.wrong(key, "is missing"))
    }

    pub fn text(&self, key: &'static str) -> Result<&'a str, ModelError> {
        self.get(key)?.as_str().ok_or_else(|| self.wrong(key, "is not a string"))
    }

    /// A size that some model could have: a file that asks for more is damaged, and must not be believed before memory is
    /// allocated for it.
    pub fn size(&self, key: &'static str) -> Result<usize, ModelError> {
        let most = match key {
            "n_layer" | "n_layers" | "num_layers" | "num_hidden_layers" => 1024,
            "head_dim" | "d_head" | "rotary_dim" => 8192,
            _ => 1 << 24,
        };
        match self.get(key)?.as_u64() {
            Some(size) if (1..=most).contains(&size) => Ok(size as usize),
            _ => Err(self.wrong(key, format!("is not a whole number from 1 to {most}"))),
        }
    }

    pub fn size_or(&self, key: &'static str, otherwise: usize) -> Result<usize, ModelError> {
        if self.optional(key).is_none() { Ok(otherwise) } else { self.size(key) }
    }

    pub fn optional_size(&self, key: &'static str) -> Result<Option<usize>, ModelError> {
        self.optional(key).map(|_| self.size(key)).transpose()
    }

    pub fn number(&self, key: &'static str) -> Result<f64, ModelError> {
        positive(self.get(key)?).ok_or_else(|| self.wrong(key, "is not a positive number"))
    }

    pub fn number_or(&self, key: &'static str, otherwise: f64) -> Result<f64, ModelError> {
        if self.optional(key).is_none() { Ok(otherwise) } else { self.number(key) }
    }

    pub fn optional_number(&self, key: &'static str) -> Result<Option<f64>, ModelError> {
        self.optional(key).map(|_| self.number(key)).transpose()
    }

    pub fn flag_or(&self, key: &'static str, otherwise: bool) -> Result<bool, ModelError> {
        match self.optional(key) {
            None => Ok(otherwise),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong(key, "is neither true nor false")),
        }
    }

    pub fn must_be(&self, key: &'static str, wanted: bool) -> Result<(), ModelError> {
        match self.flag_or(key, wanted)? {
            value if value == wanted => Ok(()),
            value => Err(self.wrong(key, format!("is {value}, and only {wanted} is supported"))),
        }
    }

    /// `numerator / denominator`, which must be whole.
    pub fn divided(
        &self,
        numerator: (&'static str, usize),
        denominator: (&'static str, usize),
    ) -> Result<usize, ModelError> {
        let ((of, numerator), (key, denominator)) = (numerator, denominator);
        match numerator.checked_rem(denominator) {
            Some(0) => Ok(numerator / denominator),
            _ => Err(self.wrong(key, format!("= {denominator} does not divide {of} = {numerator}"))),
        }
    }

    pub fn activation(&self, key: &'static str, otherwise: &str) -> Result<Activation, ModelError> {
        let name = if self.optional(key).is_none() { otherwise } else { self.text(key)? };
        Ok(match name {
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            other => {
                return Err(self.wrong(key, format!("is `{other}`, and gelu, gelu_new, relu and silu are supported")));
            }
        })
    }

    /// A list with one entry a layer.
    pub fn by_layer(&self, key: &'static str, layers: usize) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.optional(key) else { return Ok(None) };
        let names: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        match names {
            Some(names) if names.len() == layers => Ok(Some(names)),
            _ => Err(self.wrong(key, format!("does not name the kind of each of the {layers} layers"))),
        }
    }

    /// The window of each layer: of those that `layer_types` calls sliding or, without that list, of those that `slides`
    /// says; none where `sliding_window` is not set.
    pub fn windows(&self, layers: usize, slides: impl Fn(usize) -> bool) -> Result<Vec<AttentionLayer>, ModelError> {
        let window = self.optional_size("sliding_window")?;
        let kinds = self.by_layer("layer_types", layers)?;
        (0..layers)
            .map(|layer| {
                let sliding = match kinds.as_ref().map(|kinds| kinds[layer]) {
                    None => slides(layer),
                    Some("full_attention") => false,
                    Some("sliding_attention") => true,
                    Some(other) => {
                        let why = format!("names `{other}`, and full_attention and sliding_attention are supported");
                        return Err(self.wrong("layer_types", why));
                    }
                };
                Ok(AttentionLayer { window: window.filter(|_| sliding), rotary: None })
            })
            .collect()
    }
}

/// A finite number above zero.
pub(super) fn positive(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
}
