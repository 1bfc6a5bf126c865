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
use crate::graph::Dimensions;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use tch::{Kind, Tensor};

/// Steps of the descent.
const STEPS: usize = 120;

/// The first step, as a share of the source's standard deviation.
const RATE: f64 = 0.2;

/// How slowly Adam's moments decay.
const DECAYS: [f64; 2] = [0.9, 0.99];

/// Pairs of a step, at least, if there are so many.
const PAIRS: usize = 32;

/// The optimal constants for the clean prompts of `pairs`, from their means `start`, of a single row each.
///
/// # Errors
/// [`MemoryError`] when not even one pair fits.
pub(super) fn fit(
    model: &Model,
    dimensions: Dimensions,
    pairs: &[TokenPair],
    start: Constants,
    memory: usize,
    progress: &mut dyn FnMut(f64),
) -> Result<Constants, MemoryError> {
    let sizes = Sizes::new(model, dimensions, pairs, Prefix::Recomputed);
    let batches = group(model, pairs, sizes.pairs_of_optimal(memory)?, Prefix::Recomputed);
    let parts = parts(&batches);
    let mut sources = Side::all(&start);
    let measure = |rows: &[Rows], sources: &[Side], done: &mut dyn FnMut(Vec<Measured>)| {
        let work = |rows: &Rows| {
            let batch = rows.batch(pairs, model.device);
            let clean = Activations::record(model, &batch.clean, None);
            sources.iter().map(|side| side.measure(model, &batch, &clean)).collect()
        };
        halving(rows.to_vec(), model.device, Rows::halves, work, |_, measured| done(measured))
    };
    // The mean's losses, and how much each source varies.
    let mut of_mean = Vec::new();
    measure(&batches, &sources, &mut |measured| add(&mut of_mean, measured))?;
    let tokens: usize = pairs.iter().map(TokenPair::len).sum();
    for step in 0..STEPS {
        progress(step as f64 / STEPS as f64);
        let mut found = Vec::new();
        measure(parts[step % parts.len()], &sources, &mut |measured| add(&mut found, measured))?;
        for ((side, found), of_mean) in sources.iter_mut().zip(found).zip(&of_mean) {
            let deviation = (&of_mean.squares / (tokens * side.now.size()[1] as usize) as f64).sqrt(); // [source, 1]
            side.step(&found.gradient, &deviation, step);
        }
    }
    let mut of_end = Vec::new();
    measure(&batches, &sources, &mut |measured| add(&mut of_end, measured))?;
    let mut best = Constants { ablation: Ablation::Optimal, ..start };
    for ((side, end), mean) in sources.into_iter().zip(of_end).zip(of_mean) {
        let better = end.losses.lt_tensor(&mean.losses).unsqueeze(1); // [source, 1]
        side.put(&mut best, &better);
    }
    progress(1.0);
    Ok(best)
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
struct Side {
    site: Site,
    now: Tensor,          // [source, size]
    moments: [Tensor; 2], // [source, size]
    mean: Tensor,         // [source, size]
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
    fn all(start: &Constants) -> Vec<Side> {
        let input = (Site::TokenEmbedding, start.embedding.shallow_clone());
        let heads = start.z.iter().enumerate().map(|(layer, z)| (Site::Z(Layer(layer)), z.squeeze_dim(0)));
        let mlps = start.mlp.iter().enumerate().map(|(layer, mlp)| (Site::MlpOut(Layer(layer)), mlp.shallow_clone()));
        let side = |(site, mean): (Site, Tensor)| {
            let moments = [mean.zeros_like(), mean.zeros_like()];
            Side { site, now: mean.copy(), moments, mean }
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

    /// Adam (Kingma and Ba, arXiv:1412.6980), with steps in units of `deviation` `[source, 1]`.
    fn step(&mut self, gradient: &Tensor, deviation: &Tensor, step: usize) {
        let _no_grad = tch::no_grad_guard();
        let [first, second] = &mut self.moments;
        *first = &*first * DECAYS[0] + gradient * (1.0 - DECAYS[0]);
        *second = &*second * DECAYS[1] + gradient * gradient * (1.0 - DECAYS[1]);
        let [first, second] = [(&*first, DECAYS[0]), (&*second, DECAYS[1])].map(|(moment, decay)| {
            moment / (1.0 - decay.powi(i32::try_from(step).unwrap_or(i32::MAX).saturating_add(1)))
        });
        let rate = deviation * (RATE * (1.0 - step as f64 / STEPS as f64)); // [source, 1]
        self.now = &self.now - first / (second.sqrt() + 1e-20) * rate;
    }

    /// Puts what was found in the place of the means where it is `better`, `[source, 1]`.
    fn put(self, constants: &mut Constants, better: &Tensor) {
        let best = self.now.where_self(better, &self.mean); // [source, size]
        match self.site {
            Site::Z(layer) => constants.z[layer.0] = best.unsqueeze(0),
            Site::MlpOut(layer) => constants.mlp[layer.0] = best,
            _ => constants.embedding = best,
        }
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
