//! `config.json` of a Hugging Face folder to a [`Spec`].

use super::load::ModelError;
use super::spec::{Activation, Spec};
use crate::error::nearest;
use serde_json::Value;
use std::path::Path;

/// The families whose forward pass penjing has, by Hugging Face's `model_type`.
pub const FAMILIES: [&str; 1] = ["gpt2"];

/// Reads the sizes and choices of a model.
///
/// # Errors
/// Unknown families, missing or senseless sizes, and options that would change the mathematics but are not supported.
pub fn read_spec(json: &[u8], path: &Path) -> Result<Spec, ModelError> {
    let config: Value =
        serde_json::from_slice(json).map_err(|source| ModelError::Json { path: path.to_owned(), source })?;
    let fields = Fields { config: &config, path };
    let family = fields.text("model_type")?;
    if !FAMILIES.contains(&family) {
        let near = nearest(family, FAMILIES).unwrap_or(FAMILIES[0]);
        return Err(ModelError::Family { family: family.to_owned(), near });
    }
    fields.must_be("scale_attn_weights", true)?;
    fields.must_be("scale_attn_by_inverse_layer_idx", false)?;
    fields.must_be("add_cross_attention", false)?;
    let d_model = fields.size("n_embd")?;
    let heads = fields.size("n_head")?;
    if d_model % heads != 0 {
        return Err(fields.wrong("n_head", format!("{heads} heads do not divide n_embd = {d_model}")));
    }
    let activation = match config.get("activation_function").map_or(Some("gelu_new"), Value::as_str) {
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Activation::GeluTanh,
        Some("gelu") => Activation::Gelu,
        Some("relu") => Activation::Relu,
        other => return Err(fields.wrong("activation_function", format!("{other:?} is not supported"))),
    };
    Ok(Spec {
        family: family.to_owned(),
        layers: fields.size("n_layer")?,
        heads,
        d_model,
        d_head: d_model / heads,
        d_mlp: match config.get("n_inner") {
            None | Some(Value::Null) => 4 * d_model,
            Some(_) => fields.size("n_inner")?,
        },
        vocab: fields.size("vocab_size")?,
        context: fields.size("n_positions")?,
        activation,
        norm_epsilon: config.get("layer_norm_epsilon").and_then(Value::as_f64).unwrap_or(1e-5),
    })
}

struct Fields<'a> {
    config: &'a Value,
    path: &'a Path,
}

impl<'a> Fields<'a> {
    fn wrong(&self, key: &'static str, why: String) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key, why }
    }

    fn get(&self, key: &'static str) -> Result<&'a Value, ModelError> {
        self.config.get(key).ok_or_else(|| self.wrong(key, "is missing".into()))
    }

    fn text(&self, key: &'static str) -> Result<&'a str, ModelError> {
        self.get(key)?.as_str().ok_or_else(|| self.wrong(key, "is not a string".into()))
    }

    fn size(&self, key: &'static str) -> Result<usize, ModelError> {
        match self.get(key)?.as_u64() {
            Some(size) if (1..=1 << 24).contains(&size) => Ok(size as usize),
            _ => Err(self.wrong(key, "is not a positive whole number of a believable size".into())),
        }
    }

    fn must_be(&self, key: &'static str, wanted: bool) -> Result<(), ModelError> {
        match self.config.get(key) {
            None | Some(Value::Null) => Ok(()),
            Some(Value::Bool(value)) if *value == wanted => Ok(()),
            Some(other) => Err(self.wrong(key, format!("is {other}, and only {wanted} is supported"))),
        }
    }
}
