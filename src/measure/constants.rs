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
use super::optimal::{Descent, Fit};
use super::sources::{Activations, Recorder};
use crate::ablation::Ablation;
use crate::dataset::TokenPair;
use crate::graph::{Dimensions, Level};
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use std::ops::ControlFlow;
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
    /// As [`Activations::projections`] and [`Activations::neurons`], where the level needs them.
    pub projections: Vec<Tensor>, // [row, head or kv_head, d_head]
    pub neurons: Vec<Tensor>, // [row, d_mlp]
}

impl Constants {
    /// Those of an ablation for the parts of a level, from the clean prompts of `pairs`; none for
    /// [`Ablation::Counterfactual`]. To find those of [`Ablation::Optimal`] takes long: [`Descent`] can be stopped on the way.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn of(
        ablation: Ablation,
        level: Level,
        model: &Model,
        dimensions: Dimensions,
        pairs: &[TokenPair],
        memory: usize,
    ) -> Result<Option<Constants>, MemoryError> {
        let means = || Means::of(level, model, dimensions, pairs, memory);
        Ok(match ablation {
            Ablation::Counterfactual => None,
            Ablation::Zero => Some(Constants::zero(level, model)),
            Ablation::Mean => Some(means()?.over_positions()),
            Ablation::MeanPositional => Some(means()?.by_position()),
            Ablation::Optimal => {
                let fit = Fit { model, dimensions, pairs, memory };
                let mut descent = Descent::start(&fit)?;
                let _ = descent.advance(&fit, &mut |_| ControlFlow::Continue(()))?;
                descent.constants()
            }
        })
    }

    pub(super) fn zero(level: Level, model: &Model) -> Constants {
        let (spec, options) = (&model.spec, (model.kind(), model.device));
        let zeros = |site: Site| {
            let shape: Vec<i64> =
                std::iter::once(1).chain(site.shape(spec).into_iter().map(|size| size as i64)).collect();
            Tensor::zeros(shape, options)
        };
        let of_layers = |sites: &[fn(Layer) -> Site]| {
            (0..spec.layers).flat_map(|layer| sites.iter().map(move |site| site(Layer(layer)))).map(zeros).collect()
        };

        Constants {
            ablation: Ablation::Zero,
            embedding: zeros(Site::TokenEmbedding),
            z: of_layers(&[Site::Z]),
            mlp: of_layers(if spec.mlp.is_some() { &[Site::MlpOut] } else { &[] }),
            projections: of_layers(if level == Level::Node { &PROJECTIONS } else { &[] }),
            neurons: of_layers(if level == Level::Neuron && spec.mlp.is_some() { &[Site::MlpPost] } else { &[] }),
        }
    }

    /// The constants of one source at the first positions, like `value` `[batch, pos, ..]`.
    fn like(constants: &Tensor, value: &Tensor) -> Tensor {
        let last = constants.size()[0] - 1;
        let rows: Vec<i64> = (0..value.size()[1]).map(|position| position.min(last)).collect();
        constants.index_select(0, &Tensor::from_slice(&rows).to_device(value.device())).expand_as(value)
    }
}

/// Queries, keys and values of a layer.
const PROJECTIONS: [fn(Layer) -> Site; 3] = [
    |layer| Site::Projection(layer, Branch::Query),
    |layer| Site::Projection(layer, Branch::Key),
    |layer| Site::Projection(layer, Branch::Value),
];

/// What the sources write on a batch, and what the destinations read, when all sources are ablated; also what else of the
/// model a level scores. Constants take the place of whole prompts, so with them there is no past.
pub fn ablated(
    level: Level,
    model: &Model,
    batch: &Batch,
    past: Option<&Past>,
    constants: Option<&Constants>,
) -> Activations {
    let _no_grad = tch::no_grad_guard();
    let Some(constants) = constants else { return Activations::record_for(level, model, &batch.corrupt, past) };
    let mut recorder = Recorder::new(model, level);
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
        match site {
            Site::TokenEmbedding | Site::Z(_) | Site::MlpOut(_) => true,
            Site::Projection(..) => !self.0.projections.is_empty(),
            Site::MlpPost(_) => !self.0.neurons.is_empty(),
            _ => false,
        }
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::TokenEmbedding => Constants::like(&self.0.embedding, &value),
            Site::Z(layer) => Constants::like(&self.0.z[layer.0], &value),
            Site::MlpOut(layer) => Constants::like(&self.0.mlp[layer.0], &value),
            Site::Projection(layer, branch) => {
                Constants::like(&self.0.projections[3 * layer.0 + branch.index()], &value)
            }
            Site::MlpPost(layer) => Constants::like(&self.0.neurons[layer.0], &value),
            _ => value,
        }
    }
}

/// Sums of what the parts of the model carry on clean prompts, in f64.
struct Means {
    kind: Kind,
    /// How many prompts have each position.
    counts: Tensor, // [pos]
    sums: Parts, // [pos, ..] each
}

/// Tensors by the part of the model that they are of: the embedding, z, MLPs, projections, neurons, a layer after another.
type Parts = [Vec<Tensor>; 5];

/// What a run recorded, each `[batch, pos, ..]`.
fn parts(of: &Activations) -> Parts {
    let all = |tensors: &[Tensor]| tensors.iter().map(Tensor::shallow_clone).collect();
    [vec![of.embedding.shallow_clone()], all(&of.z), all(&of.mlp), all(&of.projections), all(&of.neurons)]
}

impl Means {
    fn of(
        level: Level,
        model: &Model,
        dimensions: Dimensions,
        pairs: &[TokenPair],
        memory: usize,
    ) -> Result<Means, MemoryError> {
        let longest = pairs.iter().map(TokenPair::len).max().unwrap_or(0) as i64;
        let sizes = Sizes { level, ..Sizes::new(model, dimensions, pairs, Prefix::Recomputed) };
        let at_once = sizes.pairs_recorded(pairs.len(), memory, model.device)?;
        let counts = Tensor::zeros([longest], (Kind::Double, model.device)); // [pos]
        let mut means = Means { kind: model.kind(), counts, sums: Parts::default() };
        halving(
            batches(model, pairs, at_once, Prefix::Recomputed),
            model.device,
            |batch| (batch.len() > 1).then(|| batch.halves()),
            |batch| Activations::record_for(level, model, &batch.clean, None),
            |_, clean| means.add(&parts(&clean)),
        )?;
        Ok(means)
    }

    fn add(&mut self, clean: &Parts) {
        let longest = self.counts.size()[0];
        let add = |sum: &Tensor, value: &Tensor| {
            let _ = sum.narrow(0, 0, value.size()[1]).g_add_(&value.sum_dim_intlist(0, false, Kind::Double));
        };
        for (sums, values) in self.sums.iter_mut().zip(clean) {
            if sums.is_empty() {
                let zeros = |value: &Tensor| {
                    let shape: Vec<i64> = std::iter::once(longest).chain(value.size()[2..].iter().copied()).collect();
                    Tensor::zeros(shape, (Kind::Double, value.device()))
                };
                *sums = values.iter().map(zeros).collect();
            }
            for (sum, value) in sums.iter().zip(values) {
                add(sum, value);
            }
        }
        add(&self.counts, &clean[0][0].select(2, 0).ones_like());
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
        let constants =
            self.sums.each_ref().map(|sums| sums.iter().map(|sum| constant(sum).to_kind(self.kind)).collect());
        let [mut embedding, z, mlp, projections, neurons]: Parts = constants;
        let embedding = embedding.pop().unwrap_or_default();
        Constants { ablation, embedding, z, mlp, projections, neurons }
    }
}
