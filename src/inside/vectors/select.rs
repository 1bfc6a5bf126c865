//! Which of many differences of means: every position and layer, judged by what removing and adding it does (Arditi et al.,
//! arXiv:2406.11717, appendix C).
//!
//! s = log(P + ε) − log(1 − P + ε) of the watched tokens' probability P after a prompt, ε = 10⁻⁸. For a candidate r:
//! - bypass: mean s on positive prompts with r removed everywhere;
//! - induce: mean s on negative prompts with r added where it was read, at all positions;
//! - KL: mean KL(unedited ‖ r removed) of the next token on negative prompts.
//!
//! Discarded: what is not finite, late layers, a high KL, an induce below 0. Of the rest the lowest bypass is chosen. The paper
//! counts layers by what enters a block; here a candidate of its layer l is the output of block l − 1, and `L0.in` for l = 0.
//! The last quarter of each set is kept from the means for these scores. Cost: for every candidate a forward of each such prompt
//! twice (positive: once, negative: twice).

use super::bake::removed_everywhere;
use super::{Encoded, VectorError};
use crate::inside::doses::{share_of, token_ids};
use crate::inside::generate::{divergence, next};
use crate::inside::resample::mean;
use crate::inside::row;
use crate::intervene::parse;
use crate::intervene::plan::Plan;
use crate::intervene::record::{Keep, Record};
use crate::intervene::run::Supplies;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::{Model, Pass, Start};
use tch::{Device, Kind, Tensor};

/// ε in the score.
const EPSILON: f64 = 1e-8;
const NAME: &str = "r";

/// Which candidates are discarded.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rules {
    /// Candidates must enter a block below this share of all layers, rounded down.
    pub layers_below: f64,
    pub max_kl: f64,
    pub min_induce: f64,
    /// Leave out positive prompts with s below 0 and negative ones with s above, before anything else.
    pub filter: bool,
}

/// A direction and its scores.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Counted from the end of the prompt, -1 the last.
    pub position: i64,
    /// The block that it enters.
    pub enters: usize,
    pub norm: f64,
    pub bypass: f64,
    pub induce: f64,
    pub kl: f64,
    pub discarded: Option<&'static str>,
}

impl Candidate {
    /// Where it is read and added: `L3`, or `L0.in` for what enters the first block.
    pub fn site(&self) -> String {
        site(self.enters)
    }
}

fn site(enters: usize) -> String {
    if enters == 0 { "L0.in".into() } else { format!("L{}", enters - 1) }
}

pub struct Scan {
    pub candidates: Vec<Candidate>,
    /// The vectors of the candidates, `[d_model]` each, f64.
    pub vectors: Vec<Tensor>,
    /// The mean length of what is read where each is read.
    pub usual_norms: Vec<f64>,
    pub chosen: Option<usize>,
    /// Prompts that made the means and that gave the scores, positive and negative.
    pub made_from: [usize; 2],
    pub scored_on: [usize; 2],
    /// Mean s on the positive and negative prompts as they are.
    pub unedited: [f64; 2],
}

/// s of a probability.
pub fn score(probability: f64) -> f64 {
    (probability + EPSILON).ln() - (1.0 - probability + EPSILON).ln()
}

/// Scores every position and layer.
///
/// # Errors
/// [`VectorError`]: too few prompts, or a position that some prompt does not have.
pub fn scan(
    model: &Model,
    [positive, negative]: [&[Encoded]; 2],
    positions: &[i64],
    watched: &[u32],
    rules: &Rules,
    progress: &mut dyn FnMut(f64),
) -> Result<Scan, VectorError> {
    let ids = token_ids(model, watched);
    let said = |prompt: &Encoded, plan: &Plan, supplies: &Supplies| -> Result<(f64, Tensor), VectorError> {
        let next = next(model, prompt, plan, supplies)?;
        Ok((score(share_of(&next, &ids)), next))
    };
    let filtered = |prompts: &[Encoded], wanted: f64| -> Result<Vec<Encoded>, VectorError> {
        let mut kept = Vec::new();
        for prompt in prompts {
            if !rules.filter || said(prompt, &Plan::default(), &Supplies::default())?.0 * wanted > 0.0 {
                kept.push(prompt.clone());
            }
        }
        Ok(kept)
    };
    let (positive, negative) = (filtered(positive, 1.0)?, filtered(negative, -1.0)?);
    for (which, prompts) in [("positive", &positive), ("negative", &negative)] {
        if prompts.len() < 4 {
            return Err(VectorError::NoValidation { which });
        }
    }
    let (positive, positive_test) = positive.split_at(positive.len() - positive.len() / 4);
    let (negative, negative_test) = negative.split_at(negative.len() - negative.len() / 4);
    let [(mean_positive, lengths_positive), (mean_negative, lengths_negative)] =
        [means(model, positive, positions)?, means(model, negative, positions)?];
    let differences = mean_positive - mean_negative; // [position, layer, d_model]
    let (ones, others) = (positive.len() as f64, negative.len() as f64);
    let lengths = (lengths_positive * ones + lengths_negative * others) / (ones + others); // [position, layer]
    let nothing = (Plan::default(), Supplies::default());
    let plain = |prompts: &[Encoded]| -> Result<Vec<(f64, Tensor)>, VectorError> {
        prompts.iter().map(|prompt| said(prompt, &nothing.0, &nothing.1)).collect()
    };
    let unedited = [plain(positive_test)?, plain(negative_test)?];
    let removed = removed_everywhere(&model.spec, NAME);
    let last_layer = (rules.layers_below * model.spec.layers as f64).floor() as usize;
    let (mut candidates, mut vectors) = (Vec::new(), Vec::new());
    for (row, &position) in positions.iter().enumerate() {
        for enters in 0..model.spec.layers {
            progress(candidates.len() as f64 / (positions.len() * model.spec.layers) as f64);
            let vector = differences.get(row as i64).get(enters as i64);
            let norm = vector.norm().double_value(&[]);
            let mut one = Candidate {
                position,
                enters,
                norm,
                bypass: f64::NAN,
                induce: f64::NAN,
                kl: f64::NAN,
                discarded: Some("no difference"),
            };
            if norm > 0.0 && norm.is_finite() {
                let mut supplies = Supplies::default();
                supplies.vectors.insert(NAME.into(), vector.shallow_clone());
                let edit = format!("{} = add 1*{NAME}", site(enters));
                let added = Plan { edits: parse::edit(&edit).into_iter().collect() };
                let scores = |prompts: &[Encoded], plan: &Plan| -> Result<Vec<(f64, Tensor)>, VectorError> {
                    prompts.iter().map(|prompt| said(prompt, plan, &supplies)).collect()
                };
                let of = |scored: &[(f64, Tensor)]| mean(&scored.iter().map(|(score, _)| *score).collect::<Vec<f64>>());
                one.bypass = of(&scores(positive_test, &removed)?);
                one.induce = of(&scores(negative_test, &added)?);
                let prices = scores(negative_test, &removed)?;
                let prices = prices.iter().zip(&unedited[1]).map(|((_, after), (_, before))| divergence(before, after));
                one.kl = mean(&prices.collect::<Vec<f64>>());
                one.discarded = discarded(&one, last_layer, rules);
            }
            candidates.push(one);
            vectors.push(vector.to_device(Device::Cpu));
        }
    }
    let left = (0..candidates.len()).filter(|&index| candidates[index].discarded.is_none());
    let chosen = left.min_by(|&a, &b| candidates[a].bypass.total_cmp(&candidates[b].bypass));
    let of = |scored: &[(f64, Tensor)]| mean(&scored.iter().map(|(score, _)| *score).collect::<Vec<f64>>());
    Ok(Scan {
        candidates,
        vectors,
        usual_norms: Vec::<f64>::try_from(lengths.flatten(0, 1).to_device(Device::Cpu)).unwrap_or_default(),
        chosen,
        made_from: [positive.len(), negative.len()],
        scored_on: [positive_test.len(), negative_test.len()],
        unedited: [of(&unedited[0]), of(&unedited[1])],
    })
}

fn discarded(one: &Candidate, last_layer: usize, rules: &Rules) -> Option<&'static str> {
    match one {
        _ if [one.bypass, one.induce, one.kl].iter().any(|number| !number.is_finite()) => Some("not finite"),
        _ if one.enters >= last_layer => Some("late layer"),
        _ if one.kl > rules.max_kl => Some("high KL"),
        _ if one.induce < rules.min_induce => Some("does not induce"),
        _ => None,
    }
}

/// What enters every block at the positions, on average over prompts, and how long it is: `[position, layer, d_model]` and
/// `[position, layer]`, f64.
fn means(model: &Model, prompts: &[Encoded], positions: &[i64]) -> Result<(Tensor, Tensor), VectorError> {
    let layers = model.spec.layers;
    let sizes = [positions.len(), layers, model.spec.d_model].map(|size| size as i64);
    let mut sum = Tensor::zeros(sizes, (Kind::Double, model.device));
    let mut lengths = Tensor::zeros(&sizes[..2], (Kind::Double, model.device));
    for (tokens, _) in prompts {
        if let Some(&position) = positions.iter().find(|&&at| at >= 0 || -at > tokens.len() as i64) {
            return Err(VectorError::Position { position, tokens: tokens.len() });
        }
        let mut record = Record::new((0..layers).map(|layer| Site::BlockIn(Layer(layer)))).keeping(Keep::Values);
        let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut record));
        let recording = record.finish()?;
        let entering: Vec<Tensor> = recording.values.values().map(|value| value.get(0)).collect();
        let entering = Tensor::stack(&entering, 1); // [pos, layer, d_model]
        let places: Vec<i64> = positions.iter().map(|at| at + tokens.len() as i64).collect();
        let read = entering.index_select(0, &Tensor::from_slice(&places).to_device(model.device)).to_kind(Kind::Double);
        lengths += read.square().sum_dim_intlist(2, false, Kind::Double).sqrt();
        sum += read;
    }
    let count = prompts.len().max(1) as f64;
    Ok((sum / count, lengths / count))
}
