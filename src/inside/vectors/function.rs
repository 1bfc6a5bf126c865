//! Function vectors: what the heads that carry a relation write at the end of a prompt with examples, as one direction (Todd
//! et al., arXiv:2310.15213).
//!
//! ā = mean of a head's z at the last position over prompts that are answered right. Indirect effect of a head: what setting
//! its z there to ā adds to the probability of the right answer where the labels of the examples are corrupt
//! (changed places, as in the paper, or copies of their words: examples of another relation). The
//! vector is Σ ā · W_O over the heads of largest mean effect, without the output bias, which is no head's. It is added to the
//! output of a block at the last position of a prompt without examples; the block is chosen on pairs of its own.
//!
//! Cost: a forward of each prompt and, for the effects, one token through half of the blocks for every head
//! ([`Column`]). In models that norm what the attention adds (Gemma 2 and 3, OLMo 2) the sum is what enters that norm: its length
//! says nothing, and a layer sweep should try several doses.

use super::in_context::{Asked, Labels, Lesson, Pair, Split, is_right, right, right_by_layer};
use super::{VectorError, random_like};
use crate::inside::backpatch::Share;
use crate::inside::column::Column;
use crate::model::Model;
use ndarray::Array2;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// How many prompts, and heads.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Prompts answered right that the means are taken over.
    pub prompts: usize,
    /// Prompts with corrupt labels that the effects are measured on.
    pub effects: usize,
    /// Heads that the vector is made of.
    pub heads: usize,
    pub seed: u64,
}

/// A head and its mean effect.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeadEffect {
    pub layer: usize,
    pub head: usize,
    pub effect: f64,
}

/// A vector of a relation, and what it does to pairs that did not make it.
pub struct Found {
    pub values: Tensor, // [d_model], f64
    /// Of a function vector: the heads, the strongest first, and the mean effect of every head `[layer, head]`.
    pub heads: Vec<HeadEffect>,
    pub effects: Array2<f64>,
    pub made_from: usize,
    /// The mean length of the changed block's output at the last position, before it is changed.
    pub usual_norm: f64,
    /// The block whose output is changed, chosen on pairs of its own, and how many of those it gets right at each.
    pub layer: usize,
    pub by_layer: Vec<Share>,
    /// On the pairs of the test: prompts without examples, with examples, and with examples under corrupt labels.
    pub zero_shot: Share,
    pub in_context: Share,
    pub corrupt: Share,
    /// Prompts without examples with the vector, and with random ones of its length.
    pub with: Share,
    pub with_random: Share,
    /// Prompts with corrupt labels with the vector.
    pub corrupt_with: Share,
}

/// Random directions that the vector stands beside.
const RANDOM: u64 = 5;

/// The function vector of a list of pairs.
///
/// # Errors
/// [`VectorError`]: among others where the model answers none of the prompts right.
pub fn make(
    lesson: &Lesson,
    pairs: &[Pair],
    settings: &Settings,
    progress: &mut dyn FnMut(f64),
) -> Result<Found, VectorError> {
    if lesson.shots < 2 && lesson.corrupt == Labels::Shuffled {
        return Err(VectorError::FewShots { shots: lesson.shots });
    }
    let model = lesson.model;
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let split = Split::new(pairs, lesson.shots, &mut random)?;
    let wanted = settings.prompts.max(settings.effects);
    let examples = lesson.answered_right(&split.make, wanted, &mut random, &mut |share| progress(0.4 * share))?;
    let (mut clean, mut corrupt): (Vec<Asked>, Vec<Asked>) =
        examples.into_iter().map(|examples| (examples.clean, examples.corrupt)).unzip();
    clean.truncate(settings.prompts);
    corrupt.truncate(settings.effects);
    let means = means(model, &clean)?;
    let effects = effects(model, &corrupt, &means, &mut |share| progress(0.4 + 0.5 * share))?;
    let heads = strongest(&effects, settings.heads);
    let values = vector(model, &means, &heads);
    tested(lesson, &split, &values, Use::Add, settings.seed, &mut random).map(|found| Found {
        heads,
        effects,
        made_from: clean.len(),
        ..found
    })
}

/// What the heads of each layer have on average at the last position: `[head, d_head]` each, f64.
///
/// # Errors
/// A model that looks both ways.
pub fn means(model: &Model, prompts: &[Asked]) -> Result<Vec<Tensor>, VectorError> {
    let zero = || Tensor::zeros([model.spec.heads as i64, model.spec.d_head as i64], (Kind::Double, model.device));
    let mut sums: Vec<Tensor> = (0..model.spec.layers).map(|_| zero()).collect();
    for asked in prompts {
        let column = Column::new(model, &asked.encoded.0)?;
        for (sum, z) in sums.iter_mut().zip(&column.z) {
            *sum += z.to_kind(Kind::Double);
        }
    }
    Ok(sums.into_iter().map(|sum| sum / prompts.len().max(1) as f64).collect())
}

/// What each head, set to its mean, adds to the probability of the right answer, over the prompts: `[layer, head]`.
///
/// # Errors
/// A model that looks both ways.
pub fn effects(
    model: &Model,
    prompts: &[Asked],
    means: &[Tensor],
    progress: &mut dyn FnMut(f64),
) -> Result<Array2<f64>, VectorError> {
    let mut sums = Array2::zeros((model.spec.layers, model.spec.heads));
    for (index, asked) in prompts.iter().enumerate() {
        progress(index as f64 / prompts.len() as f64);
        let column = Column::new(model, &asked.encoded.0)?;
        let answer = i64::from(asked.answer);
        let before = column.next.get(answer).exp().double_value(&[]);
        let after = column.heads(means).select(2, answer).exp().to_kind(Kind::Double); // [layer, head]
        let after = Vec::<f64>::try_from(after.flatten(0, 1).to_device(Device::Cpu)).unwrap_or_default();
        for (sum, after) in sums.iter_mut().zip(after) {
            *sum += (after - before) / prompts.len() as f64;
        }
    }
    Ok(sums)
}

/// The heads of the largest effects, the first of equal ones first.
pub fn strongest(effects: &Array2<f64>, count: usize) -> Vec<HeadEffect> {
    let mut all: Vec<HeadEffect> =
        effects.indexed_iter().map(|((layer, head), &effect)| HeadEffect { layer, head, effect }).collect();
    all.sort_by(|a, b| b.effect.total_cmp(&a.effect));
    all.truncate(count);
    all
}

/// What the heads write when each has its mean: `[d_model]`, f64.
pub fn vector(model: &Model, means: &[Tensor], heads: &[HeadEffect]) -> Tensor {
    let mut sum = Tensor::zeros([model.spec.d_model as i64], (Kind::Double, model.device));
    for &HeadEffect { layer, head, .. } in heads {
        let weight = model.weights.blocks[layer].head_output_weight(&model.spec).get(head as i64); // [d_head, d_model]
        sum += means[layer].get(head as i64).matmul(&weight.to_kind(Kind::Double));
    }
    sum.to_device(Device::Cpu)
}

/// What a vector does to the output of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    Add,
    Replace,
}

impl Use {
    /// The output `[d_model]` of a block with a vector.
    pub fn apply(self, column: &Column, layer: usize, vector: &Tensor) -> Tensor {
        let output = &column.residual[layer + 1];
        let vector = vector.to_kind(output.kind()).to_device(output.device());
        if self == Use::Add { output + vector } else { vector }
    }
}

/// Chooses the layer and tests there. `values`: one vector `[d_model]`, or one for each layer `[layer, d_model]`.
pub(super) fn tested(
    lesson: &Lesson,
    split: &Split,
    values: &Tensor,
    how: Use,
    seed: u64,
    random: &mut ChaCha8Rng,
) -> Result<Found, VectorError> {
    let model = lesson.model;
    let at = |layer: usize| if values.dim() == 1 { values.shallow_clone() } else { values.get(layer as i64) };
    let changed = |column: &Column, layer: usize| how.apply(column, layer, &at(layer));
    let by_layer = right_by_layer(model, &lesson.without_examples(&split.choose)?, &changed)?;
    // Of equal layers the first.
    let layer = (0..by_layer.len()).rev().max_by_key(|&layer| by_layer[layer].count).unwrap_or(0);
    let zero_shot = lesson.without_examples(&split.test)?;
    let (mut clean, mut corrupt) = (Vec::new(), Vec::new());
    for query in &split.test {
        let examples = lesson.with_examples(query, &split.make, random)?;
        clean.push(examples.clean);
        corrupt.push(examples.corrupt);
    }
    let with = |prompts: &[Asked], vector: &Tensor| -> Result<Vec<bool>, VectorError> {
        let one = |asked: &Asked| {
            let column = Column::new(model, &asked.encoded.0)?;
            let next = column.outputs(layer, &how.apply(&column, layer, vector).unsqueeze(0)); // [1, vocab]
            Ok(is_right(&next.get(0), asked.answer))
        };
        prompts.iter().map(one).collect()
    };
    let values = at(layer);
    let mut lengths = 0.0;
    for asked in &zero_shot {
        lengths += Column::new(model, &asked.encoded.0)?.residual[layer + 1].norm().double_value(&[]);
    }
    let mut by_chance = Vec::new();
    for number in 0..RANDOM {
        by_chance.extend(with(&zero_shot, &random_like(&values, seed.wrapping_add(number)))?);
    }
    Ok(Found {
        heads: Vec::new(),
        effects: Array2::zeros((0, 0)),
        made_from: 0,
        usual_norm: lengths / zero_shot.len().max(1) as f64,
        layer,
        by_layer,
        zero_shot: right(model, &zero_shot)?,
        in_context: right(model, &clean)?,
        corrupt: right(model, &corrupt)?,
        with: Share::of(with(&zero_shot, &values)?.into_iter()),
        with_random: Share::of(by_chance.into_iter()),
        corrupt_with: Share::of(with(&corrupt, &values)?.into_iter()),
        values,
    })
}
