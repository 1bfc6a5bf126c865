//! Activation patching at one kind of site: what happens to the metric when the value of a site in one run takes the place of
//! that in another, layer by layer and position by position, or head by head.
//!
//! Denoising: the corrupt run with the clean value, effect (m(patched) − m(corrupt)) / (m(clean) − m(corrupt)), 1 where it
//! restores all. Noising: the clean run with the corrupt value, (m(clean) − m(patched)) / (m(clean) − m(corrupt)), 1 where it
//! destroys all. m is the mean over pairs.
//!
//! Papers: Vig et al., arXiv:2004.12265; Meng et al., arXiv:2202.05262; how to choose: Heimersheim and Nanda, arXiv:2404.15255.
//! Cost: a run for each cell, from its own layer upwards and after the common start of the prompts. Memory: the residual
//! stream and the site of every layer, for one batch.

use crate::dataset::TokenPair;
use crate::graph::Dimensions;
use crate::measure::batch::{Batch, Prefix, group};
use crate::measure::memory::{MemoryError, Sizes, halving};
use crate::measure::metric;
use crate::metric::MetricKind;
use crate::model::site::Site;
use crate::model::spec::{Branch, Layer, Spec};
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Past, Start};
use crate::spans::Spans;
use ndarray::Array2;
use std::cell::Cell;
use tch::{Kind, Tensor};

/// A kind of site, in every layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The residual stream before, in and after a block.
    In,
    Mid,
    Out,
    /// What the attention and the MLP add.
    Attention,
    Mlp,
    /// Of each head: its output before W_O, queries, keys, values, pattern.
    Z,
    Branch(Branch),
    Pattern,
}

impl Target {
    pub const ALL: [(&'static str, Target); 10] = [
        ("in", Target::In),
        ("mid", Target::Mid),
        ("out", Target::Out),
        ("attn", Target::Attention),
        ("mlp", Target::Mlp),
        ("z", Target::Z),
        ("q", Target::Branch(Branch::Query)),
        ("k", Target::Branch(Branch::Key)),
        ("v", Target::Branch(Branch::Value)),
        ("pattern", Target::Pattern),
    ];

    /// Where it is in a layer.
    pub fn site(self, layer: Layer) -> Site {
        match self {
            Target::In => Site::BlockIn(layer),
            Target::Mid => Site::Mid(layer),
            Target::Out => Site::BlockOut(layer),
            Target::Attention => Site::AttentionOut(layer),
            Target::Mlp => Site::MlpOut(layer),
            Target::Z => Site::Z(layer),
            Target::Branch(branch) => Site::Projection(layer, branch),
            Target::Pattern => Site::Pattern(layer),
        }
    }

    /// How many heads it is told apart by; none for whole sites, which are told apart by position.
    pub fn heads(self, spec: &Spec) -> Option<usize> {
        match self {
            Target::Z | Target::Pattern => Some(spec.heads),
            Target::Branch(branch) => Some(spec.branch_heads(branch)),
            Target::In | Target::Mid | Target::Out | Target::Attention | Target::Mlp => None,
        }
    }

    /// Whether models of a kind have it.
    pub fn exists(self, spec: &Spec) -> bool {
        match self {
            Target::Mlp => spec.mlp.is_some(),
            Target::Mid => spec.mlp.is_some() && !spec.parallel,
            _ => true,
        }
    }
}

/// Which run is patched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// The corrupt run, with clean values.
    Denoise,
    /// The clean run, with corrupt values.
    Noise,
}

/// What is patched.
#[derive(Clone, Copy)]
pub struct Patching<'a> {
    pub model: &'a Model,
    pub pairs: &'a [TokenPair],
    pub metric: MetricKind,
    pub target: Target,
    pub direction: Direction,
    /// Rows of whole sites.
    pub spans: &'a Spans,
    /// The most that the run may use, weights included, in bytes.
    pub memory: usize,
}

/// Effects: of a whole site `[position, layer]`, of heads `[layer, head]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Effects {
    pub values: Array2<f64>,
    /// Means over the pairs.
    pub clean: f64,
    pub corrupt: f64,
}

/// One batch's runs.
struct Runs {
    past: Option<Past>,
    /// Of the run that is patched, before each block: `[batch, pos, d_model]`.
    before: Vec<Tensor>,
    /// Of the other run, at the site of each layer.
    donors: Vec<Tensor>,
    clean: f64,
    corrupt: f64,
}

impl Patching<'_> {
    /// Rows and columns of the effects.
    pub fn shape(&self) -> (usize, usize) {
        let layers = self.model.spec.layers;
        self.target.heads(&self.model.spec).map_or((self.spans.names.len(), layers), |heads| (layers, heads))
    }

    /// Runs every cell. `progress` is told how much is done, from 0 to 1.
    ///
    /// # Errors
    /// [`MemoryError`] when not even one pair fits.
    pub fn effects(&self, dimensions: Dimensions, progress: &mut dyn FnMut(f64)) -> Result<Effects, MemoryError> {
        let _no_grad = tch::no_grad_guard();
        let Patching { model, pairs, .. } = *self;
        let sizes = Sizes::new(model, dimensions, pairs, Prefix::Shared);
        let at_once = sizes.pairs_recorded(pairs.len(), self.memory, model.device)?;
        let (mut sums, mut clean, mut corrupt) = (Array2::zeros(self.shape()), 0.0, 0.0);
        let (done, all) = (Cell::new(0), (sums.len() * pairs.len()) as f64);
        halving(
            group(model, pairs, at_once, Prefix::Shared),
            model.device,
            |rows| rows.halves(),
            |rows| {
                let batch = rows.batch(pairs, model.device);
                let runs = self.runs(&batch);
                let before = done.get();
                let mut follow = |cells: usize| progress((before + batch.len() * cells) as f64 / all);
                (self.cells(&batch, &runs, &mut follow), runs.clean, runs.corrupt, batch.len())
            },
            |_, (cells, of_clean, of_corrupt, count)| {
                sums += &cells;
                clean += of_clean;
                corrupt += of_corrupt;
                done.set(done.get() + count * cells.len());
            },
        )?;
        let count = pairs.len() as f64;
        let values = match self.direction {
            Direction::Denoise => sums.mapv(|sum| (sum - corrupt) / (clean - corrupt)),
            Direction::Noise => sums.mapv(|sum| (clean - sum) / (clean - corrupt)),
        };
        Ok(Effects { values, clean: clean / count, corrupt: corrupt / count })
    }

    fn runs(&self, batch: &Batch) -> Runs {
        let model = self.model;
        let past = batch.past(model);
        let run = |tokens: &Tensor| {
            let mut seen = Seen { target: self.target, before: Vec::new(), at: Vec::new() };
            let logits = model.forward(Start::Tokens(tokens), &Pass::after(past.as_ref()), &mut seen);
            (seen, self.sum(&logits, batch))
        };
        let (of_clean, clean) = run(&batch.clean);
        let (of_corrupt, corrupt) = run(&batch.corrupt);
        let (base, donor) = match self.direction {
            Direction::Denoise => (of_corrupt, of_clean),
            Direction::Noise => (of_clean, of_corrupt),
        };
        Runs { past, before: base.before, donors: donor.at, clean, corrupt }
    }

    /// The metric of logits `[batch, 1, vocab]`, summed over the batch.
    fn sum(&self, logits: &Tensor, batch: &Batch) -> f64 {
        metric::per_pair(self.metric, &logits.squeeze_dim(1), batch, None).sum(Kind::Double).double_value(&[])
    }

    /// The metric of every patched run, summed over the batch.
    fn cells(&self, batch: &Batch, runs: &Runs, progress: &mut dyn FnMut(usize)) -> Array2<f64> {
        let mut cells = Array2::zeros(self.shape());
        let by_heads = self.target.heads(&self.model.spec).is_some();
        let masks: Vec<Tensor> = if by_heads { Vec::new() } else { self.masks(batch) };
        for (done, ((row, column), cell)) in cells.indexed_iter_mut().enumerate() {
            progress(done);
            let layer = if by_heads { row } else { column };
            let what = if by_heads { Which::Head(column as i64) } else { Which::At(&masks[row]) };
            let site = self.target.site(Layer(layer));
            let mut patch = Patch { site, donor: &runs.donors[layer], what, axis: self.head_axis() };
            let start = Start::Residual { layer: Layer(layer), value: runs.before[layer].shallow_clone() };
            let logits = self.model.forward(start, &Pass::after(runs.past.as_ref()), &mut patch); // [batch, 1, vocab]
            *cell = self.sum(&logits, batch);
        }
        cells
    }

    fn head_axis(&self) -> i64 {
        if self.target == Target::Pattern { 1 } else { 2 }
    }

    /// True at the positions of each group, `[batch, pos, 1]`.
    fn masks(&self, batch: &Batch) -> Vec<Tensor> {
        let (rows, device) = (batch.clean.size()[0], self.model.device);
        let mask = |span: usize| {
            let [tokens, _] = batch.tokens_of(self.spans, span);
            let zeros = Tensor::zeros([batch.clean.numel() as i64], (Kind::Float, device));
            let tokens = Tensor::from_slice(&tokens).to_device(device);
            zeros.index_fill(0, &tokens, 1.0).view([rows, -1, 1]).to_kind(Kind::Bool)
        };
        (0..self.spans.names.len()).map(mask).collect()
    }
}

/// Keeps what is before each block, and what is at a site of it.
struct Seen {
    target: Target,
    before: Vec<Tensor>,
    at: Vec<Tensor>,
}

impl Tap for Seen {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::BlockIn(_)) || site.layer().is_some_and(|layer| site == self.target.site(layer))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        if matches!(site, Site::BlockIn(_)) {
            self.before.push(value.shallow_clone());
        }
        if site.layer().is_some_and(|layer| site == self.target.site(layer)) {
            self.at.push(value.shallow_clone());
        }
        value
    }
}

/// Puts the donor's value in its place.
struct Patch<'a> {
    site: Site,
    donor: &'a Tensor,
    what: Which<'a>,
    /// Where heads stand.
    axis: i64,
}

/// Which part of a site.
enum Which<'a> {
    Head(i64),
    At(&'a Tensor), // [batch, pos, 1]
}

impl Tap for Patch<'_> {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        match self.what {
            Which::At(mask) => self.donor.where_self(mask, &value),
            Which::Head(head) => {
                let index = Tensor::from_slice(&[head]).to_device(value.device());
                value.index_copy(self.axis, &index, &self.donor.narrow(self.axis, head, 1))
            }
        }
    }
}
