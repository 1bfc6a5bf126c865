//! Every neuron of a model over a text, in one pass: moments, how often it is active, where it is strongest and weakest, and
//! a sample of its values.
//!
//! A neuron is the value after the non-linearity (in gated MLPs after multiplication with the gate). The features of dictionaries
//! are observed in the same way; what is called a neuron below is then a feature, and a layer a dictionary. Examples are one a
//! window, so that one sentence does not fill the list. The sample is of positions drawn evenly from the whole text, the same
//! for all neurons: quantiles, examples of middling strength and correlations come from it, since the strongest examples
//! alone make a neuron look purer than it is (Bolukbasi et al., arXiv:2104.07143).
//!
//! Cost: one forward of the text. Memory: its tokens, and for each neuron `top` examples twice and `sample` numbers.

use super::corpus::Corpus;
use super::resample::quantile;
use super::{row, said};
use crate::features::Placed;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
use crate::model::{Model, Pass, Start};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// Tokens of one forward, at most.
const AT_ONCE: usize = 4096;

/// What is looked at: the neurons of every layer, or the features of dictionaries.
#[derive(Clone, Copy)]
pub enum Watched<'a> {
    Neurons,
    Features(&'a [Placed]),
}

impl Watched<'_> {
    /// How many sites: layers or dictionaries. Wherever a number names a layer below, it names one of these.
    pub fn sites(self, model: &Model) -> usize {
        match self {
            Watched::Neurons => model.spec.layers,
            Watched::Features(placed) => placed.len(),
        }
    }

    fn place(self, site: Site) -> Option<usize> {
        match (self, site) {
            (Watched::Neurons, Site::MlpPost(Layer(layer))) => Some(layer),
            (Watched::Neurons, _) => None,
            (Watched::Features(placed), _) => placed.iter().position(|placed| placed.site == site),
        }
    }

    /// The values `[batch, pos, unit]` of a site's units.
    fn units(self, place: usize, value: &Tensor) -> Tensor {
        match self {
            Watched::Neurons => value.shallow_clone(),
            Watched::Features(placed) => placed[place].dictionary.encode(value),
        }
    }

    /// Units as edits write them: `L1.N17`, `L1.sae(g).F42`.
    pub fn name(self, place: usize, unit: usize) -> String {
        match self {
            Watched::Neurons => format!("L{place}.N{unit}"),
            Watched::Features(placed) => format!("{}.F{unit}", placed[place].name),
        }
    }
}

/// What was seen of all units.
pub struct Observed {
    /// How many tokens were counted.
    pub count: usize,
    /// The tokens that the samples are of.
    pub sampled: Vec<usize>,
    layers: Vec<Running>,
}

/// A value, and at which token of the corpus.
pub type Example = (f64, usize);

/// One neuron.
#[derive(Clone, PartialEq, Debug)]
pub struct Neuron {
    pub mean: f64,
    pub deviation: f64,
    /// The share of tokens at which it is above 0.
    pub active: f64,
    /// Strongest and weakest first, one example a window.
    pub strongest: Vec<Example>,
    pub weakest: Vec<Example>,
    /// Sorted upwards.
    pub sample: Vec<Example>,
}

impl Neuron {
    /// Between the two nearest of the sample; `share` is between 0 and 1.
    pub fn quantile(&self, share: f64) -> f64 {
        let values: Vec<f64> = self.sample.iter().map(|(value, _)| *value).collect();
        quantile(&values, share)
    }

    /// How many kinds of token the strongest examples are: the exponential of the entropy of the tokens, 1 if all are the same.
    pub fn kinds(&self, corpus: &Corpus) -> f64 {
        let mut counts: BTreeMap<u32, f64> = BTreeMap::new();
        for (_, token) in &self.strongest {
            *counts.entry(corpus.tokens[*token]).or_default() += 1.0 / self.strongest.len() as f64;
        }
        counts.values().map(|share| -share * share.ln()).sum::<f64>().exp()
    }
}

/// Of one layer, on the model's device.
#[derive(Default)]
struct Running {
    sum: Option<Tensor>,            // [d_mlp], f64
    squares: Option<Tensor>,        // [d_mlp], f64
    active: Option<Tensor>,         // [d_mlp], i64
    strongest: Option<[Tensor; 2]>, // values and tokens, [top, d_mlp]
    weakest: Option<[Tensor; 2]>,   // the same
    sample: Vec<Tensor>,            // [sampled, d_mlp] together
}

/// Observes all neurons or features. The model has what is watched; `top` examples on each side, `sample` positions, drawn by `seed`. `progress` is
/// told how much is done, from 0 to 1.
pub fn observe(
    model: &Model,
    watched: Watched,
    corpus: &Corpus,
    (top, sample, seed): (usize, usize, u64),
    progress: &mut dyn FnMut(f64),
) -> Observed {
    let _no_grad = tch::no_grad_guard();
    let counted: Vec<usize> = corpus.counted().collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let drawn = rand::seq::index::sample(&mut random, counted.len(), sample.min(counted.len()));
    let mut wanted: Vec<usize> = drawn.iter().map(|index| counted[index]).collect();
    wanted.sort_unstable();
    let mut order: Vec<&Range<usize>> = corpus.windows.iter().filter(|window| window.len() > corpus.lead).collect();
    order.sort_by_key(|window| window.len());
    let mut watch = Watch {
        watched,
        layers: (0..watched.sites(model)).map(|_| Running::default()).collect(),
        top: i64::try_from(top).unwrap_or(i64::MAX),
        lead: corpus.lead as i64,
        starts: Tensor::new(),
        picks: Tensor::new(),
    };
    let (mut sampled, mut done) = (Vec::new(), 0);
    // Windows of one length run together, so that none is padded.
    for of_length in order.chunk_by(|a, b| a.len() == b.len()) {
        let length = of_length.first().map_or(1, |window| window.len());
        for batch in of_length.chunks((AT_ONCE / length).max(1)) {
            let ids: Vec<i64> =
                batch.iter().flat_map(|window| &corpus.tokens[(*window).clone()]).map(|&id| i64::from(id)).collect();
            let ids = Tensor::from_slice(&ids).view([batch.len() as i64, length as i64]).to_device(model.device);
            let starts: Vec<i64> = batch.iter().map(|window| window.start as i64).collect();
            watch.starts = Tensor::from_slice(&starts).view([-1, 1]).to_device(model.device); // [batch, 1]
            let mut picks: Vec<i64> = Vec::new();
            for (row, window) in batch.iter().enumerate() {
                let within = wanted.partition_point(|&token| token < window.start)
                    ..wanted.partition_point(|&token| token < window.end);
                for &token in &wanted[within] {
                    let position = token - window.start - corpus.lead;
                    picks.push((row * (length - corpus.lead) + position) as i64);
                    sampled.push(token);
                }
            }
            watch.picks = Tensor::from_slice(&picks).to_device(model.device);
            let _ = model.blocks(Start::Tokens(&ids), &Pass::ALL, &mut watch);
            done += batch.len();
            progress(done as f64 / order.len() as f64);
        }
    }
    let layers = watch.layers.into_iter().map(|mut layer| {
        layer.sample = vec![Tensor::cat(&layer.sample, 0).to_device(Device::Cpu)];
        layer
    });
    Observed { count: counted.len(), sampled, layers: layers.collect() }
}

/// Takes the units of every site as they pass.
struct Watch<'a> {
    watched: Watched<'a>,
    layers: Vec<Running>,
    top: i64,
    lead: i64,
    starts: Tensor, // [batch, 1]
    picks: Tensor,  // rows of [batch · counted, d_mlp]
}

impl Tap for Watch<'_> {
    fn wants(&self, site: Site) -> bool {
        self.watched.place(site).is_some()
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let Some(layer) = self.watched.place(site) else { return value };
        let length = value.size()[1] - self.lead;
        let seen = self.watched.units(layer, &value.narrow(1, self.lead, length)); // [batch, counted, unit]
        let running = &mut self.layers[layer];
        let add = |total: &mut Option<Tensor>, part: Tensor| {
            *total = Some(total.take().map_or_else(|| part.shallow_clone(), |total| total + &part));
        };
        add(&mut running.sum, seen.sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double));
        add(&mut running.squares, seen.square().sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Double));
        add(&mut running.active, seen.gt(0.0).sum_dim_intlist([0i64, 1].as_slice(), false, Kind::Int64));
        let starts = &self.starts + self.lead; // [batch, 1]
        for (kept, (values, places), largest) in [
            (&mut running.strongest, seen.max_dim(1, false), true),
            (&mut running.weakest, seen.min_dim(1, false), false),
        ] {
            // values, places: [batch, d_mlp]
            let mut both = [values, places + &starts];
            if let Some([values, tokens]) = kept.take() {
                both = [Tensor::cat(&[&values, &both[0]], 0), Tensor::cat(&[&tokens, &both[1]], 0)];
            }
            let (values, order) = both[0].topk(self.top.min(both[0].size()[0]), 0, largest, true);
            *kept = Some([values, both[1].gather(0, &order, false)]);
        }
        let flat = seen.reshape([-1, seen.size()[2]]); // [batch · counted, d_mlp]
        running.sample.push(flat.index_select(0, &self.picks));
        value
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_kind(Kind::Double).to_device(Device::Cpu).contiguous();
    Vec::try_from(tensor.view([-1])).unwrap_or_default()
}

impl Observed {
    /// All units of a site.
    pub fn layer(&self, layer: usize) -> Vec<Neuron> {
        let width = self.layers[layer].sum.as_ref().map_or(0, Tensor::numel);
        self.neurons(layer, 0..width)
    }

    /// One unit.
    pub fn neuron(&self, layer: usize, index: usize) -> Option<Neuron> {
        self.neurons(layer, index..index + 1).pop()
    }

    fn neurons(&self, layer: usize, which: Range<usize>) -> Vec<Neuron> {
        let Running { sum, squares, active, strongest, weakest, sample } = &self.layers[layer];
        let part = |tensor: &Tensor| numbers(&tensor.narrow(-1, which.start as i64, which.len() as i64));
        let of = |tensor: &Option<Tensor>| tensor.as_ref().map(part).unwrap_or_default();
        let (sum, squares, active) = (of(sum), of(squares), of(active));
        let both = |kept: &Option<[Tensor; 2]>| -> [Vec<f64>; 2] {
            kept.as_ref().map_or_else(Default::default, |both| both.each_ref().map(part))
        };
        let (strongest, weakest) = (both(strongest), both(weakest));
        let sample = sample.first().map(part).unwrap_or_default();
        let (count, width) = (self.count as f64, which.len());
        let examples = |[values, tokens]: &[Vec<f64>; 2], neuron: usize| -> Vec<Example> {
            let column = (neuron..values.len()).step_by(width);
            column.map(|index| (values[index], tokens[index] as usize)).collect()
        };
        (0..sum.len())
            .map(|neuron| {
                let mean = sum[neuron] / count;
                let column = (neuron..sample.len()).step_by(width).map(|index| sample[index]);
                let mut sample: Vec<Example> = column.zip(self.sampled.iter().copied()).collect();
                sample.sort_by(|(a, _), (b, _)| a.total_cmp(b));
                Neuron {
                    mean,
                    deviation: (squares[neuron] / count - mean * mean).max(0.0).sqrt(),
                    active: active[neuron] / count,
                    strongest: examples(&strongest, neuron),
                    weakest: examples(&weakest, neuron),
                    sample,
                }
            })
            .collect()
    }

    /// The `count` neurons whose sampled values go most with those of one, up or down: layer, neuron and Pearson's correlation.
    pub fn neighbours(&self, layer: usize, neuron: usize, count: usize) -> Vec<(usize, usize, f64)> {
        let normed = |layer: &Running| -> Option<Tensor> {
            let sample = layer.sample.first()?.to_kind(Kind::Double); // [sampled, d_mlp]
            let centred = &sample - sample.mean_dim(0, true, Kind::Double);
            Some(&centred / centred.square().sum_dim_intlist(0, true, Kind::Double).sqrt().clamp_min(1e-300))
        };
        let Some(own) = normed(&self.layers[layer]).map(|all| all.select(1, neuron as i64)) else { return Vec::new() };
        let mut all: Vec<(usize, usize, f64)> = Vec::new();
        for (index, running) in self.layers.iter().enumerate() {
            let Some(normed) = normed(running) else { continue };
            let correlations = numbers(&normed.transpose(0, 1).matmul(&own));
            all.extend(correlations.into_iter().enumerate().map(|(other, value)| (index, other, value)));
        }
        all.retain(|(at, other, _)| (*at, *other) != (layer, neuron));
        all.sort_by(|(.., a), (.., b)| b.abs().total_cmp(&a.abs()));
        all.truncate(count);
        all
    }
}

/// What a neuron writes, through the norms that follow and the unembedding: for every token the change of its logit, `[vocab_out]`,
/// where the residual stream goes from minus the neuron's output direction to plus, halved. Only the order means something: what
/// follows the neuron in later layers, and the scale of the stream that it writes to, are left out. Nothing without MLPs.
pub fn written(model: &Model, watched: Watched, layer: usize, neuron: usize) -> Option<Tensor> {
    let _no_grad = tch::no_grad_guard();
    if let Watched::Features(placed) = watched {
        let row = placed.get(layer)?.dictionary.direction(neuron).to_kind(model.kind()).to_device(model.device); // [d_model]
        return Some(said(model, &Tensor::stack(&[&row, &-&row], 0)));
    }
    let mlp = model.weights.blocks.get(layer)?.mlp.as_ref()?;
    let row = mlp.output.weight.get(neuron as i64).to_kind(model.kind()); // [d_model]
    Some(said(model, &mlp.after.apply(&Tensor::stack(&[&row, &-&row], 0))))
}

/// The values of one unit over a window: `[window]`.
pub fn values(model: &Model, watched: Watched, tokens: &[u32], layer: usize, neuron: usize) -> Vec<f64> {
    let _no_grad = tch::no_grad_guard();
    let mut one = One { watched, layer, neuron: neuron as i64, seen: Vec::new() };
    let _ = model.blocks(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut one);
    one.seen
}

struct One<'a> {
    watched: Watched<'a>,
    layer: usize,
    neuron: i64,
    seen: Vec<f64>,
}

impl Tap for One<'_> {
    fn wants(&self, site: Site) -> bool {
        self.watched.place(site) == Some(self.layer)
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.seen = numbers(&self.watched.units(self.layer, &value).get(0).select(1, self.neuron));
        value
    }
}
