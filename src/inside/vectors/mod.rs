//! Directions: from two sets of prompts ([`make`], by the methods of [`directions`]), from prompts that show a relation
//! ([`function`], [`task`]); choosing one among layers and positions ([`select`]), testing what it does ([`effect`]), taking it
//! out of the weights ([`bake`]), and its files ([`file`], [`gguf`]).
//!
//! v = mean of x over the positive prompts − mean of x over the negative ones, in f64, or one of its kin (mass-mean, CAA,
//! refusal direction; Arditi et al., arXiv:2406.11717; Rimsky et al., arXiv:2312.06681; Marks and Tegmark, arXiv:2310.06824).
//! How well it tells the sets apart is measured on prompts that did not make it: the area under the ROC curve of x · v, beside
//! that of a random direction and of the difference of means.

pub mod bake;
pub mod directions;
pub mod effect;
pub mod file;
pub mod function;
pub mod gguf;
pub mod in_context;
pub mod select;
pub mod task;

pub use directions::Method;
pub use file::{for_model, from_file, to_bytes};

use super::column::ColumnError;
use super::prompt::PromptError;
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
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
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
    /// Where the method is another: the same area of the difference of means, and the cosine with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_difference: Option<Beside>,
    /// The heads that a function vector is made of, the strongest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<String>,
    /// Its length, and the mean length of what was read.
    pub norm: f64,
    pub usual_norm: f64,
    pub seed: u64,
}

/// The difference of means, which other methods stand beside.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Beside {
    pub auroc: Option<f64>,
    pub cosine: f64,
}

/// Why there is no vector.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Column(#[from] ColumnError),
    #[error(transparent)]
    Gguf(#[from] gguf::GgufError),
    #[error("the {which} prompts are none")]
    NoPrompts { which: &'static str },
    #[error("`{site}` is {vectors} vectors, and one is needed")]
    Several { site: String, vectors: usize },
    #[error("the means are equal, so there is no direction")]
    Nothing,
    #[error("the method needs prompts in pairs, and there are {positive} positive and {negative} negative ones")]
    Unpaired { positive: usize, negative: usize },
    #[error("{pairs} pairs are too few: {needed} are needed")]
    FewPairs { pairs: usize, needed: usize },
    #[error("with {shots} examples in a prompt their labels cannot change places")]
    FewShots { shots: usize },
    #[error("the model answers none of {asked} prompts with examples right")]
    NoneRight { asked: usize },
    #[error("` {answer}` after `{prompt}` does not begin with a token of its own")]
    Answer { answer: String, prompt: String },
    #[error("the {which} validation prompts are none")]
    NoValidation { which: &'static str },
    #[error("position {position} is not in a prompt of {tokens} tokens")]
    Position { position: i64, tokens: usize },
    #[error("all {candidates} candidates are discarded")]
    AllDiscarded { candidates: usize },
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
            VectorError::Prompt(error) => return error.hint(),
            VectorError::Column(error) => return error.hint(),
            VectorError::Gguf(error) => return error.hint(),
            VectorError::Unpaired { .. } => "give as many positive as negative prompts, pair by pair".into(),
            VectorError::FewPairs { .. } => "give more pairs, or show fewer with --shots".into(),
            VectorError::FewShots { .. } => "show two or more with --shots".into(),
            VectorError::NoneRight { .. } => {
                "take another --format or number of --shots, or a model that has learned the relation".into()
            }
            VectorError::Answer { .. } => "take words that the tokenizer does not join with what stands before".into(),
            VectorError::NoValidation { .. } => "give at least four prompts of each kind".into(),
            VectorError::Position { .. } => "name positions that all prompts have, such as --positions=-1".into(),
            VectorError::AllDiscarded { .. } => {
                "select.json says why; loosen --max-kl, --min-induce or --layers-below, or take prompts that differ more"
                    .into()
            }
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

/// The difference of means at an address; a quarter of each set, the last, is kept for the test.
///
/// # Errors
/// [`VectorError`].
pub fn make(
    model: &Model,
    id: &str,
    address: &Address,
    prompts: [&[Encoded]; 2],
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Made, VectorError> {
    make_by(Method::MeanDifference, model, id, address, prompts, seed, progress)
}

/// The vector that a method makes of `positive` and `negative` prompts at an address; a quarter of each, the last, is kept for
/// the test.
///
/// # Errors
/// [`VectorError`].
pub fn make_by(
    method: Method,
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
    let kept = |rows: &[Tensor]| rows.len() - rows.len() / 4;
    let (kept_positive, kept_negative) = (kept(&positive), kept(&negative));
    let making = [&positive[..kept_positive], &negative[..kept_negative]].map(|rows| Tensor::stack(rows, 0)); // [row, width]
    let difference = directions::mean_difference(&making)?;
    let values = directions::direction(method, &making)?; // [width]
    let tested = [&positive[kept_positive..], &negative[kept_negative..]];
    let both = tested.iter().all(|rows| !rows.is_empty());
    let along = |direction: &Tensor| {
        let of = |rows: &[Tensor]| rows.iter().map(|row| row.dot(direction).double_value(&[])).collect::<Vec<f64>>();
        auroc(&of(tested[0]), &of(tested[1]))
    };
    let lengths = positive.iter().chain(&negative).map(|row| row.norm().double_value(&[])).sum::<f64>();
    let beside = (method != Method::MeanDifference)
        .then(|| Beside { auroc: both.then(|| along(&difference)), cosine: cosine(&values, &difference) });
    let record = VectorV1 {
        schema: SCHEMA.into(),
        method: method.name().into(),
        model: id.to_owned(),
        weights: model.fingerprint(),
        site: address.to_string(),
        made_from: [kept_positive, kept_negative],
        tested_on: tested.map(<[Tensor]>::len),
        auroc: both.then(|| [along(&values), along(&random_like(&values, seed))]),
        mean_difference: beside,
        heads: Vec::new(),
        norm: values.norm().double_value(&[]),
        usual_norm: lengths / all,
        seed,
    };
    Ok(Made { values, record })
}

/// The cosine of two vectors.
pub fn cosine(a: &Tensor, b: &Tensor) -> f64 {
    (a.dot(b) / (a.norm() * b.norm())).double_value(&[])
}

/// A direction without meaning, as long as a vector: independent numbers from -1/2 to 1/2, scaled.
pub fn random_like(vector: &Tensor, seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let noise: Vec<f64> = (0..vector.numel()).map(|_| (random.next_u64() as f64 / u64::MAX as f64) - 0.5).collect();
    let noise = Tensor::from_slice(&noise);
    let length = vector.to_kind(Kind::Double).to_device(Device::Cpu).norm();
    &noise * (length / noise.norm())
}

/// What one prompt has at an address: `[width]`, f64.
///
/// # Errors
/// A place that the model or the prompt does not have, or that is several vectors.
pub fn read(model: &Model, address: &Address, (tokens, prompt): &Encoded) -> Result<Tensor, VectorError> {
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
