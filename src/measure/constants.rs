//! What ablated sources write.
//!
//! Under `counterfactual` that is what they write on the corrupt prompt. Under every other ablation it is a constant of the
//! source: nothing, a mean, or the vector that harms least (`optimal.rs`). Either way the ablated run is an ordinary pass in
//! which every source writes its replacement, so that what the destinations read in it is exact for all families, norms
//! after the attention included.
//!
//! The mean ablation of the EAP-IG package divides a sum over last positions by the length and then averages over sources;
//! here each source has its own mean over all tokens, as its documentation says.

use super::batch::{Batch, Prefix, batches};
use super::memory::{MemoryError, Sizes, halving};
use super::optimal;
use super::sources::{Activations, Recorder};
use crate::ablation::Ablation;
use crate::dataset::TokenPair;
use crate::graph::Dimensions;
use crate::model::site::Site;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use tch::{Kind, Tensor};

/// A constant for every source, of the kind of the model's activations.
///
/// Each has a row for the positions from the first on, and a last row for all positions beyond: a single one where positions
/// are not told apart.
#[derive(Debug)]
pub struct Constants {
    pub ablation: Ablation,
    pub embedding: Tensor, // [row, d_model]
    pub z: Vec<Tensor>,    // a layer: [row, head, d_head]
    pub mlp: Vec<Tensor>,  // a layer: [row, d_model]
}

impl Constants {
    /// Those of an ablation, from the clean prompts of `pairs`; none for [`Ablation::Counterfactual`]. `progress` is told how
    /// much is done, from 0 to 1.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn of(
        ablation: Ablation,
        model: &Model,
        dimensions: Dimensions,
        pairs: &[TokenPair],
        memory: usize,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Option<Constants>, MemoryError> {
        let means = || Means::of(model, dimensions, pairs);
        Ok(match ablation {
            Ablation::Counterfactual => None,
            Ablation::Zero => Some(Constants::zero(model)),
            Ablation::Mean => Some(means()?.over_positions()),
            Ablation::MeanPositional => Some(means()?.by_position()),
            Ablation::Optimal => {
                let start = means()?.over_positions();
                Some(optimal::fit(model, dimensions, pairs, start, memory, progress)?)
            }
        })
    }

    fn zero(model: &Model) -> Constants {
        let (spec, options) = (&model.spec, (model.kind(), model.device));
        let (d_model, heads, d_head) = (spec.d_model as i64, spec.heads as i64, spec.d_head as i64);
        let layers = |count: usize, shape: &[i64]| (0..count).map(|_| Tensor::zeros(shape, options)).collect();
        Constants {
            ablation: Ablation::Zero,
            embedding: Tensor::zeros([1, d_model], options),
            z: layers(spec.layers, &[1, heads, d_head]),
            mlp: layers(if spec.mlp.is_some() { spec.layers } else { 0 }, &[1, d_model]),
        }
    }

    /// The constants of one source at the first positions, like `value` `[batch, pos, ..]`.
    fn like(constants: &Tensor, value: &Tensor) -> Tensor {
        let last = constants.size()[0] - 1;
        let rows: Vec<i64> = (0..value.size()[1]).map(|position| position.min(last)).collect();
        constants.index_select(0, &Tensor::from_slice(&rows).to_device(value.device())).expand_as(value)
    }
}

/// What the sources write on a batch, and what the destinations read, when all sources are ablated. Constants take the place
/// of whole prompts, so with them there is no past.
pub fn ablated(model: &Model, batch: &Batch, past: Option<&Past>, constants: Option<&Constants>) -> Activations {
    let _no_grad = tch::no_grad_guard();
    let Some(constants) = constants else { return Activations::record(model, &batch.corrupt, past) };
    let mut recorder = Recorder::new(model);
    let mut tap = (Overwrite(constants), &mut recorder);
    let _ = model.forward(Start::Tokens(&batch.clean), &Pass::after(past), &mut tap);
    recorder.finish()
}

/// The ablated token embedding alone: `[batch, pos, d_model]`.
pub fn ablated_embedding(model: &Model, batch: &Batch, constants: Option<&Constants>) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    match constants {
        None => model.embed_tokens(&batch.corrupt),
        Some(constants) => Constants::like(&constants.embedding, &model.embed_tokens(&batch.clean)),
    }
}

/// How the common start of prompts is run: constants change it, so it is not common to the clean and the ablated run.
pub fn prefix_under(constants: Option<&Constants>, prefix: Prefix) -> Prefix {
    if constants.is_some() { Prefix::Recomputed } else { prefix }
}

/// Lets every source write its constant.
struct Overwrite<'a>(&'a Constants);

impl Tap for Overwrite<'_> {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::TokenEmbedding | Site::Z(_) | Site::MlpOut(_))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::TokenEmbedding => Constants::like(&self.0.embedding, &value),
            Site::Z(layer) => Constants::like(&self.0.z[layer.0], &value),
            Site::MlpOut(layer) => Constants::like(&self.0.mlp[layer.0], &value),
            _ => value,
        }
    }
}

/// Sums of what sources write on clean prompts, in f64.
struct Means {
    kind: Kind,
    /// How many prompts have each position.
    counts: Tensor, // [pos]
    embedding: Tensor, // [pos, d_model]
    z: Vec<Tensor>,    // a layer: [pos, head, d_head]
    mlp: Vec<Tensor>,  // a layer: [pos, d_model]
}

impl Means {
    fn of(model: &Model, dimensions: Dimensions, pairs: &[TokenPair]) -> Result<Means, MemoryError> {
        let longest = pairs.iter().map(TokenPair::len).max().unwrap_or(0) as i64;
        let at_once = Sizes::new(model, dimensions, pairs, Prefix::Recomputed).most_pairs(model.device);
        let zeros = |shape: &[i64]| {
            let shape: Vec<i64> = std::iter::once(longest).chain(shape.iter().copied()).collect();
            Tensor::zeros(shape, (Kind::Double, model.device))
        };
        let spec = &model.spec;
        let (d_model, heads, d_head) = (spec.d_model as i64, spec.heads as i64, spec.d_head as i64);
        let mlps = if spec.mlp.is_some() { spec.layers } else { 0 };
        let mut sums = Means {
            kind: model.kind(),
            counts: zeros(&[]),
            embedding: zeros(&[d_model]),
            z: (0..spec.layers).map(|_| zeros(&[heads, d_head])).collect(),
            mlp: (0..mlps).map(|_| zeros(&[d_model])).collect(),
        };
        halving(
            batches(model, pairs, at_once, Prefix::Recomputed),
            model.device,
            |batch| (batch.len() > 1).then(|| batch.halves()),
            |batch| Activations::record(model, &batch.clean, None),
            |_, clean| sums.add(&clean),
        )?;
        Ok(sums)
    }

    fn add(&mut self, clean: &Activations) {
        let add = |sum: &Tensor, value: &Tensor| {
            let _ = sum.narrow(0, 0, value.size()[1]).g_add_(&value.sum_dim_intlist(0, false, Kind::Double));
        };
        let ones = clean.embedding.select(2, 0).ones_like(); // [batch, pos]
        add(&self.counts, &ones);
        add(&self.embedding, &clean.embedding);
        for (sum, value) in self.z.iter().zip(&clean.z).chain(self.mlp.iter().zip(&clean.mlp)) {
            add(sum, value);
        }
    }

    fn over_positions(&self) -> Constants {
        let tokens = self.counts.sum(Kind::Double); // []
        self.each(Ablation::Mean, |sum| sum.sum_dim_intlist(0, true, Kind::Double) / &tokens)
    }

    fn by_position(&self) -> Constants {
        let over_positions = |sum: &Tensor| sum.sum_dim_intlist(0, true, Kind::Double) / self.counts.sum(Kind::Double);
        self.each(Ablation::MeanPositional, |sum| {
            let mut shape = vec![1; sum.dim()];
            shape[0] = -1;
            // Every position up to the longest prompt's last is one of a prompt.
            Tensor::cat(&[sum / self.counts.view(shape.as_slice()), over_positions(sum)], 0)
        })
    }

    /// The constants `[row, ..]` from the sums `[pos, ..]` of every source.
    fn each(&self, ablation: Ablation, constant: impl Fn(&Tensor) -> Tensor) -> Constants {
        let constant = |sum: &Tensor| constant(sum).to_kind(self.kind);
        Constants {
            ablation,
            embedding: constant(&self.embedding),
            z: self.z.iter().map(constant).collect(),
            mlp: self.mlp.iter().map(constant).collect(),
        }
    }
}
