//! Directions from two sets of prompts: the difference of the means of a site (mass-mean, CAA, refusal direction; Arditi et
//! al., arXiv:2406.11717; Rimsky et al., arXiv:2312.06681; Marks and Tegmark, arXiv:2310.06824).
//!
//! v = mean of x over the positive prompts − mean of x over the negative ones, in f64. How well it tells the sets apart is
//! measured on prompts that did not make it: the area under the ROC curve of x · v, beside that of a random direction.

use super::row;
use crate::compare::reference::auroc;
use crate::error::{FileError, Hint};
use crate::intervene::address::Address;
use crate::intervene::failure::RunError;
use crate::intervene::position::Prompt;
use crate::intervene::record::{Keep, Record};
use crate::model::{Model, Pass, Start};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

pub const SCHEMA: &str = "penjing.vector/1";

/// The key of the metadata, and the name of the tensor.
const KEY: &str = "penjing";
const TENSOR: &str = "vector";

/// What a vector is: everything but its numbers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct VectorV1 {
    pub schema: String,
    pub method: String,
    pub model: String,
    /// Tells weights of one architecture apart.
    pub weights: String,
    /// Where it was read, as edits write it; block outputs unless the site says otherwise.
    pub site: String,
    /// Prompts that made it: positive and negative.
    pub made_from: [usize; 2],
    /// Prompts that it was tested on.
    pub tested_on: [usize; 2],
    /// The area under the ROC curve on those, and that of a random direction; nothing without such prompts.
    pub auroc: Option<[f64; 2]>,
    /// Its length, and the mean length of what was read.
    pub norm: f64,
    pub usual_norm: f64,
    pub seed: u64,
}

/// Why there is no vector.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the {which} prompts are none")]
    NoPrompts { which: &'static str },
    #[error("`{site}` is {vectors} vectors, and one is needed")]
    Several { site: String, vectors: usize },
    #[error("the means are equal, so there is no direction")]
    Nothing,
    #[error("{} holds no vector: {why}", path.display())]
    NoVector { path: PathBuf, why: String },
    #[error("the vector in {} was made from {model}, not from this model", path.display())]
    OtherModel { path: PathBuf, model: String },
}

impl Hint for VectorError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            VectorError::File(error) => return error.hint(),
            VectorError::Run(error) => return error.hint(),
            VectorError::NoPrompts { .. } => "a file of prompts has one on each line".into(),
            VectorError::Several { .. } => "name one layer, and one head or position, such as L5:-1".into(),
            VectorError::Nothing => "take prompts that differ before the position that is read".into(),
            VectorError::NoVector { .. } => {
                "a vector is a safetensors file with one tensor of one axis, or a JSON list".into()
            }
            VectorError::OtherModel { .. } => "make it anew with `penjing vector make --model`".into(),
        })
    }
}

/// A direction with what it is.
pub struct Made {
    pub values: Tensor, // [width], f64
    pub record: VectorV1,
}

/// A prompt's tokens, and its places.
pub type Encoded = (Vec<u32>, Prompt);

/// The vector that tells `positive` from `negative` prompts at an address; a quarter of each, the last, is kept for the test.
///
/// # Errors
/// [`VectorError`].
pub fn make(
    model: &Model,
    id: &str,
    address: &Address,
    [positive, negative]: [&[Encoded]; 2],
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Made, VectorError> {
    let all = (positive.len() + negative.len()) as f64;
    let mut done = 0;
    let mut read_all = |prompts: &[Encoded], which| -> Result<Vec<Tensor>, VectorError> {
        if prompts.is_empty() {
            return Err(VectorError::NoPrompts { which });
        }
        prompts
            .iter()
            .map(|prompt| {
                progress(f64::from(done) / all);
                done += 1;
                read(model, address, prompt)
            })
            .collect()
    };
    let (positive, negative) = (read_all(positive, "positive")?, read_all(negative, "negative")?);
    let split = |rows: &[Tensor]| {
        let test = rows.len() / 4;
        rows.len() - test
    };
    let (kept_positive, kept_negative) = (split(&positive), split(&negative));
    let mean = |rows: &[Tensor]| Tensor::stack(rows, 0).mean_dim(0, false, Kind::Double); // [width]
    let values = mean(&positive[..kept_positive]) - mean(&negative[..kept_negative]);
    let norm = values.norm().double_value(&[]);
    if !norm.is_finite() || norm <= 0.0 {
        return Err(VectorError::Nothing);
    }
    let tested = [&positive[kept_positive..], &negative[kept_negative..]];
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let noise: Vec<f64> = (0..values.numel()).map(|_| (random.next_u64() as f64 / u64::MAX as f64) - 0.5).collect();
    let noise = Tensor::from_slice(&noise);
    let both = tested.iter().all(|rows| !rows.is_empty());
    let along = |direction: &Tensor| {
        let of = |rows: &[Tensor]| rows.iter().map(|row| row.dot(direction).double_value(&[])).collect::<Vec<f64>>();
        auroc(&of(tested[0]), &of(tested[1]))
    };
    let lengths = positive.iter().chain(&negative).map(|row| row.norm().double_value(&[])).sum::<f64>();
    let record = VectorV1 {
        schema: SCHEMA.into(),
        method: "difference-of-means".into(),
        model: id.to_owned(),
        weights: model.fingerprint(),
        site: address.to_string(),
        made_from: [kept_positive, kept_negative],
        tested_on: tested.map(<[Tensor]>::len),
        auroc: both.then(|| [along(&values), along(&noise)]),
        norm,
        usual_norm: lengths / all,
        seed,
    };
    Ok(Made { values, record })
}

/// What one prompt has at an address: `[width]`, f64.
fn read(model: &Model, address: &Address, (tokens, prompt): &Encoded) -> Result<Tensor, VectorError> {
    let missing = |missing| {
        let edit = format!("read {address}");
        RunError::Plan(crate::intervene::check::PlanError::Missing { edit, missing })
    };
    let slices = address.place.slices(&model.spec).map_err(missing)?;
    let mut record = Record::new(slices.iter().map(|slice| slice.site)).keeping(Keep::Values);
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut record));
    let (probed, _) = record.finish()?.probe(address, &model.spec, std::slice::from_ref(prompt))?;
    let vectors: i64 = probed.iter().map(|probed| probed.values.size()[0] * probed.values.size()[1]).sum();
    match &probed[..] {
        [one] if vectors == 1 => Ok(one.values.view([-1]).to_kind(Kind::Double).to_device(Device::Cpu)),
        _ => Err(VectorError::Several { site: address.to_string(), vectors: vectors as usize }),
    }
}

/// The vector as a safetensors file.
///
/// # Errors
/// None in practice: the record holds nothing that JSON has not.
pub fn to_bytes(made: &Made) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let numbers = Vec::<f64>::try_from(made.values.to_kind(Kind::Double)).unwrap_or_default();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, vec![numbers.len()], &bytes)?;
    let record = serde_json::to_string(&made.record).unwrap_or_default();
    safetensors::serialize([(TENSOR, view)], Some(HashMap::from([(KEY.to_owned(), record)])))
}

/// A vector from a file: our own with its record, any safetensors file with one tensor of one axis, or a JSON list.
///
/// # Errors
/// [`VectorError`].
pub fn from_file(path: &Path) -> Result<(Tensor, Option<VectorV1>), VectorError> {
    let no_vector = |why: String| VectorError::NoVector { path: path.to_owned(), why };
    let bytes = std::fs::read(path).map_err(FileError::reading(path))?;
    if path.extension().is_some_and(|ending| ending == "json") {
        let numbers: Vec<f64> = serde_json::from_slice(&bytes).map_err(|error| no_vector(error.to_string()))?;
        return Ok((Tensor::from_slice(&numbers), None));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| no_vector(error.to_string()))?;
    let all = tensors.tensors();
    let [(_, view)] = &all[..] else { return Err(no_vector(format!("it has {} tensors", all.len()))) };
    let kind = crate::model::safetensors::kind_of(view.dtype());
    let (&[width], Some(kind)) = (view.shape(), kind) else {
        return Err(no_vector(format!("its tensor has the sizes {:?} and the type {:?}", view.shape(), view.dtype())));
    };
    let values =
        Tensor::f_from_data_size(view.data(), &[width as i64], kind).map_err(|error| no_vector(error.to_string()))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| no_vector(error.to_string()))?;
    let record = header.metadata().as_ref().and_then(|entries| serde_json::from_str(entries.get(KEY)?).ok());
    Ok((values.to_kind(Kind::Double), record))
}

/// A vector for this model.
///
/// # Errors
/// [`VectorError`]: also where the file says that it is of another model.
pub fn for_model(path: &Path, model: &Model) -> Result<Tensor, VectorError> {
    let (values, record) = from_file(path)?;
    match record {
        Some(record) if record.weights != model.fingerprint() => {
            Err(VectorError::OtherModel { path: path.to_owned(), model: record.model })
        }
        _ => Ok(values),
    }
}
