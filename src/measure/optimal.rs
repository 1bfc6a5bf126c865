//! Optimal ablation: for each source the vector that hurts least in its place.
//!
//! a*[u] = argmin over a of the mean over pairs of KL( clean model ‖ model in which u writes a at every position ), at the
//! last position of the clean prompts.
//!
//! Paper: Li and Janson, "Optimal ablation for interpretability", arXiv:2409.09951.
//! Every source has an optimum of its own, so all of them go down side by side: Adam from the mean, on batches of pairs in
//! turn, with steps in units of how much the source varies and that shrink to nothing at the end. Heads are fitted before
//! W_O, which is linear. Where the end is not better on all pairs than the mean, the mean stays.
//! Cost: each of the steps takes about `(heads + 1) · layers / 2` passes forward and back on the pairs of its batch, each
//! source's from its own layer upwards. Memory: the graph of one pass for all heads of a layer, on so many pairs at once.

use super::batch::{Batch, Prefix, Rows, group};
use super::constants::Constants;
use super::memory::{MemoryError, Sizes, halving};
use super::metric::divergence;
use super::sources::Activations;
use crate::ablation::Ablation;
use crate::dataset::TokenPair;
use crate::graph::{Dimensions, Level};
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use std::ops::ControlFlow;
use tch::{Kind, Tensor};

/// Steps of the descent.
const STEPS: usize = 120;

/// The first step, as a share of the source's standard deviation.
const RATE: f64 = 0.2;

/// How slowly Adam's moments decay.
const DECAYS: [f64; 2] = [0.9, 0.99];

/// Pairs of a step, at least, if there are so many.
const PAIRS: usize = 32;

/// A descent: at its start, in the middle, or at its end. It depends on nothing but the model, the pairs, and how many of
/// them run at once.
#[derive(Debug)]
pub struct Descent {
    sides: Vec<Side>,
    /// Steps that are done.
    step: usize,
    /// Whether its end was compared with the means.
    finished: bool,
}

impl Descent {
    /// At the means of the clean prompts of `pairs`.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn start(fit: &Fit) -> Result<Descent, MemoryError> {
        let Fit { model, dimensions, pairs, memory } = *fit;
        let means = Constants::of(Ablation::Mean, Level::Edge, model, dimensions, pairs, memory)?;
        let mut descent = Descent { sides: means.iter().flat_map(Side::all).collect(), step: 0, finished: false };
        let of_mean = fit.measure(&fit.batches()?, &descent.sides)?;
        let tokens: usize = pairs.iter().map(TokenPair::len).sum();
        for (side, of_mean) in descent.sides.iter_mut().zip(of_mean) {
            let numbers = tokens * side.now.size()[1] as usize;
            side.deviation = (of_mean.squares / numbers as f64).sqrt(); // [source, 1]
            side.loss_of_mean = of_mean.losses; // [source]
        }
        Ok(descent)
    }

    /// Goes on until it is finished or `watch`, which sees it after every step and at the end, stops it.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn advance(
        &mut self,
        fit: &Fit,
        watch: &mut dyn FnMut(&Descent) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, MemoryError> {
        let batches = fit.batches()?;
        let parts = parts(&batches);
        while self.step < STEPS {
            let found = fit.measure(parts[self.step % parts.len()], &self.sides)?;
            for (side, found) in self.sides.iter_mut().zip(found) {
                side.step(&found.gradient, self.step);
            }
            self.step += 1;
            if watch(self).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !self.finished {
            let of_end = fit.measure(&batches, &self.sides)?;
            for (side, end) in self.sides.iter_mut().zip(of_end) {
                let better = end.losses.lt_tensor(&side.loss_of_mean).unsqueeze(1); // [source, 1]
                side.now = side.now.where_self(&better, &side.mean); // [source, size]
            }
            self.finished = true;
        }
        Ok(watch(self))
    }

    /// With nothing in it, for what was written down of a descent for this model.
    pub(super) fn blank(model: &Model, step: usize, finished: bool) -> Descent {
        Descent { sides: Side::all(&Constants::zero(Level::Edge, model)), step, finished }
    }

    /// All that it consists of, by name.
    pub(super) fn tensors(&self) -> Vec<(String, &Tensor)> {
        self.sides
            .iter()
            .flat_map(|side| Side::NAMES.map(|name| side.named(name)).into_iter().zip(side.tensors()))
            .collect()
    }

    pub(super) fn tensors_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let of_side = |side| {
            let side: &mut Side = side;
            let names = Side::NAMES.map(|name| side.named(name));
            names.into_iter().zip(side.tensors_mut())
        };
        self.sides.iter_mut().flat_map(of_side).collect()
    }

    pub(super) fn steps_done(&self) -> usize {
        self.step
    }

    /// How much is done, from 0 to 1.
    pub fn share(&self) -> f64 {
        self.step as f64 / STEPS as f64
    }

    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The constants that were found, of a finished descent.
    pub fn constants(&self) -> Option<Constants> {
        self.finished.then(|| {
            let of = |site: fn(&Side) -> bool| self.sides.iter().filter(move |side| site(side));
            Constants {
                ablation: Ablation::Optimal,
                embedding: of(|side| side.site == Site::TokenEmbedding)
                    .map(|side| side.now.shallow_clone())
                    .next()
                    .unwrap_or_default(),
                z: of(|side| matches!(side.site, Site::Z(_))).map(|side| side.now.unsqueeze(0)).collect(),
                mlp: of(|side| matches!(side.site, Site::MlpOut(_))).map(|side| side.now.shallow_clone()).collect(),
                projections: Vec::new(),
                neurons: Vec::new(),
            }
        })
    }
}

/// What the constants are optimal for, and the memory to find them in.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    pub model: &'a Model,
    pub dimensions: Dimensions,
    pub pairs: &'a [TokenPair],
    /// The most that the run may use, weights included, in bytes.
    pub memory: usize,
}

impl Fit<'_> {
    /// How many pairs run at once.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn pairs_at_once(&self) -> Result<usize, MemoryError> {
        Sizes::new(self.model, self.dimensions, self.pairs, Prefix::Recomputed).pairs_of_optimal(self.memory)
    }

    fn batches(&self) -> Result<Vec<Rows>, MemoryError> {
        Ok(group(self.model, self.pairs, self.pairs_at_once()?, Prefix::Recomputed))
    }

    /// Sums over the pairs of `batches` for every source.
    fn measure(&self, batches: &[Rows], sides: &[Side]) -> Result<Vec<Measured>, MemoryError> {
        let &Fit { model, pairs, .. } = self;
        let mut sums = Vec::new();
        let work = |rows: &Rows| {
            let batch = rows.batch(pairs, model.device);
            let clean = Activations::record(model, &batch.clean, None);
            sides.iter().map(|side| side.measure(model, &batch, &clean)).collect()
        };
        halving(batches.to_vec(), model.device, Rows::halves, work, |_, measured| add(&mut sums, measured))?;
        Ok(sums)
    }
}

/// Batches in parts of about [`PAIRS`] pairs.
fn parts(batches: &[Rows]) -> Vec<&[Rows]> {
    let pairs: usize = batches.iter().map(|rows| rows.indices.len()).sum();
    let parts = (pairs / PAIRS).max(1);
    let (mut taken, mut rest, mut found) = (0, batches, Vec::new());
    for part in 1..=parts {
        let mut count = 0;
        while count < rest.len() && (taken < part * pairs / parts || part == parts) {
            taken += rest[count].indices.len();
            count += 1;
        }
        let (these, others) = rest.split_at(count);
        rest = others;
        if !these.is_empty() {
            found.push(these);
        }
    }
    found
}

/// Sources whose constants are fitted side by side: the heads of a layer, an MLP, or the input.
#[derive(Debug)]
struct Side {
    site: Site,
    now: Tensor,          // [source, size]
    moments: [Tensor; 2], // [source, size]
    mean: Tensor,         // [source, size]
    /// How much each source varies about its mean.
    deviation: Tensor, // [source, 1]
    loss_of_mean: Tensor, // [source]
}

/// Sums over pairs, for each source of a [`Side`].
struct Measured {
    losses: Tensor,   // [source]
    gradient: Tensor, // [source, size], of the losses
    squares: Tensor,  // [source, 1], of what each writes less its constant, over positions too
}

fn add(sums: &mut Vec<Measured>, measured: Vec<Measured>) {
    if sums.is_empty() {
        *sums = measured;
        return;
    }
    for (sum, one) in sums.iter_mut().zip(measured) {
        sum.losses += one.losses;
        sum.gradient += one.gradient;
        sum.squares += one.squares;
    }
}

impl Side {
    /// What the tensors of a side are called, in the order of [`Side::tensors`].
    const NAMES: [&str; 6] = ["constant", "mean", "first_moment", "second_moment", "deviation", "loss_of_mean"];

    fn named(&self, tensor: &str) -> String {
        match self.site {
            Site::Z(layer) => format!("a{}.{tensor}", layer.0),
            Site::MlpOut(layer) => format!("m{}.{tensor}", layer.0),
            _ => format!("input.{tensor}"),
        }
    }

    fn tensors(&self) -> [&Tensor; 6] {
        let Side { now, mean, moments: [first, second], deviation, loss_of_mean, .. } = self;
        [now, mean, first, second, deviation, loss_of_mean]
    }

    fn tensors_mut(&mut self) -> [&mut Tensor; 6] {
        let Side { now, mean, moments: [first, second], deviation, loss_of_mean, .. } = self;
        [now, mean, first, second, deviation, loss_of_mean]
    }

    fn all(start: &Constants) -> Vec<Side> {
        let input = (Site::TokenEmbedding, start.embedding.shallow_clone());
        let heads = start.z.iter().enumerate().map(|(layer, z)| (Site::Z(Layer(layer)), z.squeeze_dim(0)));
        let mlps = start.mlp.iter().enumerate().map(|(layer, mlp)| (Site::MlpOut(Layer(layer)), mlp.shallow_clone()));
        let side = |(site, mean): (Site, Tensor)| {
            let of_sources = mean.sum_dim_intlist(1, true, None::<Kind>).zeros_like(); // [source, 1]
            Side {
                site,
                now: mean.copy(),
                moments: [mean.zeros_like(), mean.zeros_like()],
                mean,
                loss_of_mean: of_sources.squeeze_dim(1),
                deviation: of_sources,
            }
        };
        std::iter::once(input).chain(heads).chain(mlps).map(side).collect()
    }

    /// What the model loses on a batch when one of the sources writes its constant, for each of them, and the gradient of
    /// that. `clean`: what it does on the batch.
    fn measure(&self, model: &Model, batch: &Batch, clean: &Activations) -> Measured {
        let (sources, rows) = (self.now.size()[0], batch.len() as i64);
        let constants = self.now.detach().set_requires_grad(true); // [source, size]
        let mut tap = OneEach { site: self.site, constants: &constants, squares: Tensor::new() };
        let start = match self.site {
            Site::Z(layer) | Site::MlpOut(layer) => {
                Start::Residual { layer, value: clean.before_attention[layer.0].repeat([sources, 1, 1]) }
            }
            _ => Start::Tokens(&batch.clean),
        };
        let logits = model.forward(start, &Pass::LAST, &mut tap).squeeze_dim(1); // [source · batch, vocab]
        let reference = clean.logits.log_softmax(-1, None::<Kind>).repeat([sources, 1]); // [source · batch, vocab]
        let losses = divergence(&reference, &logits.log_softmax(-1, None::<Kind>)).view([sources, rows]); // [source, batch]
        let losses = losses.sum_dim_intlist(1, false, None::<Kind>); // [source]
        let gradient = Tensor::run_backward(&[losses.sum(None::<Kind>)], &[&constants], false, false).remove(0);
        let gradient = if gradient.defined() { gradient } else { constants.zeros_like() }; // [source, size]
        Measured { losses: losses.detach(), gradient, squares: tap.squares }
    }

    /// Adam (Kingma and Ba, arXiv:1412.6980), with steps in units of the deviation.
    fn step(&mut self, gradient: &Tensor, step: usize) {
        let _no_grad = tch::no_grad_guard();
        let [first, second] = &mut self.moments;
        *first = &*first * DECAYS[0] + gradient * (1.0 - DECAYS[0]);
        *second = &*second * DECAYS[1] + gradient * gradient * (1.0 - DECAYS[1]);
        let [first, second] = [(&*first, DECAYS[0]), (&*second, DECAYS[1])].map(|(moment, decay)| {
            moment / (1.0 - decay.powi(i32::try_from(step).unwrap_or(i32::MAX).saturating_add(1)))
        });
        let rate = &self.deviation * (RATE * (1.0 - step as f64 / STEPS as f64)); // [source, 1]
        self.now = &self.now - first / (second.sqrt() + 1e-20) * rate;
    }
}

/// Lets in each copy of the batch one source write its constant.
struct OneEach<'a> {
    site: Site,
    constants: &'a Tensor, // [source, size]
    squares: Tensor,       // [source, 1]
}

impl Tap for OneEach<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        let (sources, size) = (self.constants.size()[0], self.constants.size()[1]);
        // Sources of one site stand side by side along the axis that follows the positions.
        let apart = value.view([sources, -1, value.size()[1], sources, size]); // [source, batch, pos, source, size]
        let chosen = Tensor::eye(sources, (value.kind(), value.device())).view([sources, 1, 1, sources, 1]);
        let change = (self.constants.view([1, 1, 1, sources, size]) - &apart) * chosen; // [source, batch, pos, source, size]
        self.squares =
            change.detach().square().sum_dim_intlist([1, 2, 3, 4].as_slice(), false, None::<Kind>).unsqueeze(1);
        (apart + change).view_as(&value)
    }
}
