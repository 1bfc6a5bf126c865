//! What a dosed number is by itself: its quantiles over a text, and where on the axis of doses they lie.
//!
//! The number is a neuron's or a feature's value, or for `add a*v` and `project a*v` the coordinate x · v / ‖v‖. A dose a makes it a (`set a`),
//! a · x (`scale a`, `project a*v`) or x + a‖v‖ (`add a*v`), where x is its mean over the prompts at the edited positions. A dose that
//! makes it larger or smaller than it ever is in the text is off the distribution: what the model does there says little of
//! what it does. Cost: one forward of the text. Not to be used where the edit writes several layers or heads: they have no one
//! axis.

use super::resample::quantile;
use super::row;
use super::vectors::Encoded;
use crate::dictionary::Dictionary;
use crate::intervene::address::{Address, Part, Place, Position};
use crate::intervene::failure::RunError;
use crate::intervene::plan::{Edit, Value, Verb};
use crate::intervene::record::{Keep, Record};
use crate::intervene::run::Supplies;
use crate::intervene::slice::SiteSlice;
use crate::model::site::Site;
use crate::model::{Model, Pass, Start};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// The shares whose quantiles are marked; 1 is the largest value.
pub const SHARES: [f64; 6] = [0.01, 0.1, 0.5, 0.9, 0.99, 1.0];

/// How a dose becomes a value.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Axis {
    Set,
    Times,
    /// The length of what is added.
    Plus(f64),
}

/// A number's distribution over a text.
#[derive(Clone, PartialEq, Debug)]
pub struct Natural {
    axis: Axis,
    /// Its mean over the prompts at the edited positions.
    pub mean: f64,
    /// How many tokens it was seen at.
    pub tokens: usize,
    pub range: [f64; 2],
    /// Of [`SHARES`].
    pub quantiles: [f64; 6],
}

impl Natural {
    /// What a dose makes of the number.
    pub fn value(&self, dose: f64) -> f64 {
        match self.axis {
            Axis::Set => dose,
            Axis::Times => dose * self.mean,
            Axis::Plus(length) => self.mean + dose * length,
        }
    }

    /// The dose that makes it this; nothing where none does.
    pub fn dose(&self, value: f64) -> Option<f64> {
        let dose = match self.axis {
            Axis::Set => value,
            Axis::Times => value / self.mean,
            Axis::Plus(length) => (value - self.mean) / length,
        };
        Some(dose).filter(|dose| dose.is_finite())
    }

    pub fn off(&self, dose: f64) -> bool {
        let (value, [low, high]) = (self.value(dose), self.range);
        // What rounding makes of the ends is not beyond them.
        let slack = 1e-6 * (high - low);
        value < low - slack || value > high + slack
    }
}

/// The number that an edit doses, over `texts`; `prompts` are those that it is dosed on. Nothing where it doses several numbers.
///
/// # Errors
/// [`RunError`]: a position that a prompt does not have.
pub fn natural(
    model: &Model,
    edit: &Edit,
    supplies: &Supplies,
    [prompts, texts]: [&[Encoded]; 2],
) -> Result<Option<Natural>, RunError> {
    let writes = edit.writes(&model.spec)?;
    let [write] = &writes[..] else { return Ok(None) };
    let of_units = matches!(write.target.site, Site::MlpPre(_) | Site::MlpPost(_)) || write.target.dictionary.is_some();
    let one_unit = of_units && write.target.units.as_ref().is_some_and(|units| units.len() == 1);
    let (axis, direction) = match &edit.verb {
        Verb::Set(Value::Number(_)) if one_unit => (Axis::Set, None),
        Verb::Scale(_) if one_unit => (Axis::Times, None),
        Verb::Add(_, name) | Verb::Project(_, name)
            if write.target.vectors() == 1 && write.target.dictionary.is_none() =>
        {
            let Some(vector) = supplies.vectors.get(name) else { return Ok(None) };
            let vector = vector.to_device(Device::Cpu).to_kind(Kind::Double); // [width]
            let length = vector.norm().double_value(&[]);
            let axis = if matches!(edit.verb, Verb::Add(..)) { Axis::Plus(length) } else { Axis::Times };
            (axis, Some(vector / length))
        }
        _ => return Ok(None),
    };
    // Of a feature the whole is read, and encoded.
    let place = match edit.target.place.clone() {
        Place::Layers(layers, Part::Feature(whole, ..)) => Place::Layers(layers, Part::Whole(whole)),
        other => other,
    };
    let at = |position: Position| Address { place: place.clone(), position: Some(position) };
    let reading = Reading { direction, dictionary: supplies.dictionary(&write.target) };
    let all = |texts: &[Encoded], address: &Address| -> Result<Vec<f64>, RunError> {
        let mut found = Vec::new();
        for text in texts {
            found.extend(numbers(model, &write.target, address, text, &reading)?);
        }
        Ok(found)
    };
    let edited = all(prompts, &at(edit.target.position.clone().unwrap_or(Position::All)))?;
    let mut values = all(texts, &at(Position::All))?;
    values.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (values.first(), values.last()) else { return Ok(None) };
    Ok(Some(Natural {
        axis,
        mean: edited.iter().sum::<f64>() / edited.len().max(1) as f64,
        tokens: values.len(),
        range: [low, high],
        quantiles: SHARES.map(|share| quantile(&values, share)),
    }))
}

/// How a value becomes a number.
struct Reading {
    direction: Option<Tensor>, // [width], of length 1
    dictionary: Option<Rc<Dictionary>>,
}

/// The number at some positions of a text.
fn numbers(
    model: &Model,
    slice: &SiteSlice,
    address: &Address,
    (tokens, prompt): &Encoded,
    reading: &Reading,
) -> Result<Vec<f64>, RunError> {
    let _no_grad = tch::no_grad_guard();
    let mut record = Record::new([slice.site]).keeping(Keep::Values);
    let _ = model.forward(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut record);
    let (probed, _) = record.finish()?.probe(address, &model.spec, std::slice::from_ref(prompt))?;
    let values = probed.into_iter().map(|probed| {
        let values = match &reading.dictionary {
            None => probed.values,
            Some(dictionary) => {
                let units: Vec<i64> = slice.units.iter().flatten().map(|&unit| unit as i64).collect();
                let units = Tensor::from_slice(&units).to_device(probed.values.device());
                dictionary.encode(&probed.values).index_select(-1, &units)
            }
        };
        let values = values.to_device(Device::Cpu).to_kind(Kind::Double); // [cell, 1, width]
        let along = reading.direction.as_ref().map_or_else(|| values.shallow_clone(), |along| values.matmul(along));
        Vec::<f64>::try_from(along.contiguous().view([-1])).unwrap_or_default()
    });
    Ok(values.flatten().collect())
}
