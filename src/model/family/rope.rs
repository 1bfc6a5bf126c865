//! Rotary frequencies, as the checkpoints were trained with.
//!
//! Angles are computed in f32 where the families do, so that logits agree to the last digits at long range.

use super::fields::{Fields, positive};
use crate::model::load::ModelError;
use crate::model::spec::{Pairing, Rotary};
use serde_json::{Map, Value};
use std::f64::consts::TAU;

/// A rotation of `dims` of a head's dimensions with base `theta` and no scaling.
pub(super) fn plain(dims: usize, theta: f64, pairing: Pairing) -> Rotary {
    let frequencies = (0..dims / 2).map(|i| theta.powf(-2.0 * i as f64 / dims as f64) as f32).collect();
    Rotary { frequencies, magnitude: 1.0, pairing }
}

/// How many of `d_head` dimensions turn, from `partial_rotary_factor` or a family's own key for it.
pub(super) fn dimensions(
    fields: &Fields,
    keys: &[&'static str],
    d_head: usize,
    otherwise: f64,
) -> Result<usize, ModelError> {
    let inner = Table::of(fields, FULL)?;
    let key = keys.iter().find(|key| fields.optional(key).is_some());
    let inside = inner.as_ref().map_or(Ok(None), |table| table.optional("partial_rotary_factor"))?;
    let (key, share) = match (key, inside) {
        (Some(key), _) => (Some(key), fields.number(key)?),
        (None, Some(share)) => (Some(&"rope_parameters"), share),
        (None, None) => (None, otherwise),
    };
    let dims = (d_head as f64 * share) as usize;
    match key {
        Some(key) if share > 1.0 || !(2..=8192).contains(&dims) || dims % 2 == 1 => {
            Err(fields.wrong(key, format!("rotates {dims} of {d_head} dimensions: an even number of them is needed")))
        }
        None if !(2..=8192).contains(&dims) || dims % 2 == 1 => {
            Err(fields.wrong("head_dim", format!("= {d_head} dimensions cannot turn in pairs")))
        }
        _ => Ok(dims),
    }
}

/// The kind of layer whose rotation counts where each kind has its own.
const FULL: &str = "full_attention";

/// The base of the rotation of sliding layers, where transformers 5 wrote one for each kind of layer.
pub(super) fn sliding_theta(fields: &Fields) -> Result<Option<f64>, ModelError> {
    Table::of(fields, "sliding_attention")?.map_or(Ok(None), |table| table.optional("rope_theta"))
}

/// A rotation whose scaling `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5) describes, and the
/// longest prompt that it serves.
pub(super) fn scaled(
    fields: &Fields,
    dims: usize,
    default_theta: f64,
    context: usize,
) -> Result<(Rotary, usize), ModelError> {
    let Some(parameters) = Table::of(fields, FULL)? else {
        return Ok((plain(dims, fields.number_or("rope_theta", default_theta)?, Pairing::Halves), context));
    };
    let key = parameters.key;
    let theta = match parameters.optional("rope_theta")? {
        Some(theta) => theta,
        None => fields.number_or("rope_theta", default_theta)?,
    };
    let mut rotary = plain(dims, theta, Pairing::Halves);
    match parameters.kind()? {
        "default" | "dynamic" => {} // dynamic scaling starts beyond the context
        "linear" => {
            let factor = parameters.number("factor")? as f32;
            rotary.frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
        }
        "llama3" => {
            let [factor, low, high] = [
                parameters.number("factor")?,
                parameters.number("low_freq_factor")?,
                parameters.number("high_freq_factor")?,
            ];
            let original = parameters.number("original_max_position_embeddings")?;
            for frequency in &mut rotary.frequencies {
                *frequency = llama3(f64::from(*frequency), factor, low, high, original) as f32;
            }
        }
        "longrope" | "su" => return longrope(&parameters, rotary, context),
        other => {
            let why = format!("asks for `{other}`, and default, linear, llama3 and longrope are supported");
            return Err(fields.wrong(key, why));
        }
    }
    Ok((rotary, context))
}

/// Long waves are stretched, short ones kept, those between blended (Llama 3.1).
fn llama3(frequency: f64, factor: f64, low: f64, high: f64, original: f64) -> f64 {
    let wavelength = TAU / frequency;
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / factor
    } else {
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// Phi-3's: a divisor for each frequency. There is a second list for prompts beyond the original context; since a prompt
/// would then change its own prefix, prompts end there.
fn longrope(parameters: &Table, mut rotary: Rotary, context: usize) -> Result<(Rotary, usize), ModelError> {
    let fields = parameters.fields;
    let original = match fields.optional_size("original_max_position_embeddings")? {
        Some(original) => original,
        None => parameters.optional("original_max_position_embeddings")?.map_or(context, |size| size as usize),
    };
    let divisors: Option<Vec<f64>> = parameters
        .parameters
        .get("short_factor")
        .and_then(Value::as_array)
        .and_then(|list| list.iter().map(positive).collect());
    let Some(divisors) = divisors.filter(|divisors| divisors.len() == rotary.frequencies.len()) else {
        let why = format!("needs `short_factor`, {} positive numbers", rotary.frequencies.len());
        return Err(fields.wrong(parameters.key, why));
    };
    for (frequency, divisor) in rotary.frequencies.iter_mut().zip(divisors) {
        *frequency /= divisor as f32;
    }
    let factor = match parameters.optional("factor")? {
        Some(factor) => factor,
        None => context as f64 / original as f64,
    };
    rotary.magnitude = match parameters.optional("attention_factor")? {
        Some(magnitude) => magnitude,
        None if factor <= 1.0 => 1.0,
        None => (1.0 + factor.ln() / (original as f64).ln()).sqrt(),
    };
    Ok((rotary, context.min(original)))
}

/// The table of a scaling.
struct Table<'a> {
    fields: &'a Fields<'a>,
    key: &'static str,
    parameters: &'a Map<String, Value>,
}

impl<'a> Table<'a> {
    /// The table of a config, if it has one: where there is one for each kind of layer, that of `kind`.
    fn of(fields: &'a Fields<'a>, kind: &str) -> Result<Option<Table<'a>>, ModelError> {
        let Some(key) = ["rope_scaling", "rope_parameters"].into_iter().find(|key| fields.optional(key).is_some())
        else {
            return Ok(None);
        };
        let table = |value: Option<&'a Value>| match value.and_then(Value::as_object) {
            Some(parameters) => Ok(Table { fields, key, parameters }),
            None => Err(fields.wrong(key, "is not a table")),
        };
        let whole = table(fields.optional(key))?;
        match whole.parameters.get(kind) {
            Some(value) => table(Some(value)).map(Some),
            None if whole.parameters.values().any(Value::is_object) => {
                Err(fields.wrong(key, format!("has nothing for layers with {kind}")))
            }
            None => Ok(Some(whole)),
        }
    }

    fn kind(&self) -> Result<&str, ModelError> {
        let kind = self.parameters.get("rope_type").or_else(|| self.parameters.get("type"));
        match kind {
            None => Ok("default"),
            Some(kind) => kind.as_str().ok_or_else(|| self.fields.wrong(self.key, "names no type")),
        }
    }

    fn optional(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.parameters.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match positive(value) {
                Some(number) => Ok(Some(number)),
                None => Err(self.fields.wrong(self.key, format!("has a `{name}` that is not a positive number"))),
            },
        }
    }

    fn number(&self, name: &str) -> Result<f64, ModelError> {
        self.optional(name)?.ok_or_else(|| self.fields.wrong(self.key, format!("needs a `{name}`")))
    }
}
