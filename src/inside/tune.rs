//! Trains a tuned lens, and measures it on text that did not train it.
//!
//! Loss of layer l: the mean over tokens of KL(model's output ‖ lens_l). All layers in each step, but backwards one by one,
//! and of each some tokens at a time, so that memory holds one layer's logits of those. SGD with Nesterov momentum 0.9 at
//! rate 1 − 0.9 (or Adam with amsgrad at 1e-3), weight decay 1e-3, the rate falling linearly to 0, gradients of all
//! layers together clipped to length 1 (Belrose et al., arXiv:2303.08112). Cost of a step: a forward of its tokens, and for
//! each layer three products of d_model × vocabulary a token. Not to be used on text unlike that which it will read.

use super::corpus::Corpus;
use super::lens::Streams;
use super::tuned::{Translator, TunedLens, decode, divergence, sites};
use crate::model::{Model, Pass, Start};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use tch::nn::{self, OptimizerConfig};
use tch::{Kind, Tensor};

/// Logits decoded at once, at most, in numbers.
const AT_ONCE: usize = 1 << 23;

/// Tokens of one forward, at most.
const TOKENS_AT_ONCE: usize = 4096;

/// One window of so many is not trained on but measured.
const HELD_OUT: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Optimiser {
    Sgd,
    Adam,
}

/// How a lens is trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Options {
    pub steps: usize,
    pub tokens_a_step: usize,
    pub optimiser: Optimiser,
    /// Multiplies the optimiser's own rate.
    pub rate: f64,
    pub weight_decay: f64,
    pub seed: u64,
}

/// The windows that train and those that are measured: every fourth of those shuffled.
pub fn split(corpus: &Corpus, seed: u64) -> [Vec<Range<usize>>; 2] {
    let mut order: Vec<Range<usize>> = corpus.windows.iter().filter(|one| one.len() > corpus.lead).cloned().collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let held = order.len() / HELD_OUT;
    let rest = order.split_off(held);
    [rest, order]
}

/// The streams of some tokens at each of [`sites`], and what the model says after them in the end.
struct Seen {
    streams: Vec<Tensor>, // [tokens, d_model]
    last: Tensor,         // [tokens, d_model]
    /// The token that follows each; -1 at the end of a window.
    labels: Vec<i64>,
}

fn see(model: &Model, corpus: &Corpus, windows: &[Range<usize>]) -> Seen {
    let _no_grad = tch::no_grad_guard();
    let (width, lead) = (model.spec.d_model as i64, corpus.lead as i64);
    let mut order: Vec<&Range<usize>> = windows.iter().collect();
    order.sort_by_key(|window| window.len());
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    let mut labels = Vec::new();
    // Windows of one length run together, so that none is padded.
    for of_length in order.chunk_by(|a, b| a.len() == b.len()) {
        let length = of_length.first().map_or(1, |window| window.len());
        for batch in of_length.chunks((TOKENS_AT_ONCE / length).max(1)) {
            let ids: Vec<i64> =
                batch.iter().flat_map(|window| &corpus.tokens[(*window).clone()]).map(|&id| i64::from(id)).collect();
            for window in ids.chunks(length) {
                labels.extend(window[corpus.lead..].iter().skip(1).copied().chain([-1]));
            }
            let tokens = Tensor::from_slice(&ids).view([batch.len() as i64, length as i64]).to_device(model.device);
            let mut streams = Streams { sites: sites(&model.spec), seen: Vec::new() };
            let last = model.blocks(Start::Tokens(&tokens), &Pass::ALL, &mut streams); // [batch, pos, d_model]
            let flat = |stream: &Tensor| stream.narrow(1, lead, length as i64 - lead).reshape([-1, width]);
            parts.push(streams.seen.iter().map(|(_, stream)| stream).chain([&last]).map(flat).collect());
        }
    }
    let mut streams: Vec<Tensor> = (0..=sites(&model.spec).len())
        .map(|place| Tensor::cat(&parts.iter().map(|part| &part[place]).collect::<Vec<_>>(), 0))
        .collect();
    let last = streams.pop().unwrap_or_default();
    Seen { streams, last, labels }
}

/// The mean over tokens of KL(output ‖ lens): a scalar with its graph, of a stream `[tokens, d_model]` and log-probabilities
/// `[tokens, vocab]`.
pub fn loss(model: &Model, translator: &Translator, stream: &Tensor, output: &Tensor) -> Tensor {
    divergence(output, &decode(model, &translator.apply(stream))).mean(None::<Kind>)
}

fn chunks(model: &Model, tokens: usize) -> impl Iterator<Item = (i64, i64)> {
    let size = (AT_ONCE / model.spec.vocab_out.max(1)).max(1);
    (0..tokens).step_by(size).map(move |first| (first as i64, size.min(tokens - first) as i64))
}

/// Trains a lens on windows of a corpus. `progress` is told how much is done.
///
/// # Errors
/// libtorch's, where it refuses an optimiser.
pub fn train(
    model: &Model,
    corpus: &Corpus,
    windows: &[Range<usize>],
    options: &Options,
    progress: &mut dyn FnMut(f64),
) -> Result<TunedLens, tch::TchError> {
    let zero = TunedLens::zero(model);
    let store = nn::VarStore::new(model.device);
    let root = store.root();
    let mut lens = TunedLens { translators: Vec::new() };
    for (index, Translator { weight, bias }) in zero.translators.into_iter().enumerate() {
        let [weight, bias] = [("weight", weight), ("bias", bias)]
            .map(|(part, tensor)| root.add(&format!("{index}-{part}"), tensor, true));
        lens.translators.push(Translator { weight, bias });
    }
    let (mut optimiser, rate) = match options.optimiser {
        Optimiser::Sgd => {
            let rate = options.rate * (1.0 - 0.9);
            (nn::sgd(0.9, 0.0, options.weight_decay, true).build(&store, rate)?, rate)
        }
        Optimiser::Adam => {
            let rate = options.rate * 1e-3;
            (nn::adam(0.9, 0.999, options.weight_decay).amsgrad(true).build(&store, rate)?, rate)
        }
    };
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut queue: Vec<Range<usize>> = Vec::new();
    for step in 0..options.steps {
        progress(step as f64 / options.steps as f64);
        let (mut batch, mut tokens) = (Vec::new(), 0);
        while tokens < options.tokens_a_step && !windows.is_empty() {
            if queue.is_empty() {
                queue = windows.to_vec();
                queue.shuffle(&mut random);
            }
            let Some(window) = queue.pop() else { break };
            tokens += window.len() - corpus.lead;
            batch.push(window);
        }
        let seen = see(model, corpus, &batch);
        optimiser.zero_grad();
        for (first, count) in chunks(model, seen.labels.len()) {
            let output = tch::no_grad(|| decode(model, &seen.last.narrow(0, first, count))); // [chunk, vocab]
            for (translator, stream) in lens.translators.iter().zip(&seen.streams) {
                let share = count as f64 / seen.labels.len() as f64;
                (loss(model, translator, &stream.narrow(0, first, count), &output) * share).backward();
            }
        }
        optimiser.clip_grad_norm(1.0);
        optimiser.set_lr(rate * (1.0 - step as f64 / options.steps as f64));
        optimiser.step();
    }
    for translator in &mut lens.translators {
        translator.weight = translator.weight.detach();
        translator.bias = translator.bias.detach();
    }
    Ok(lens)
}

/// What a lens says of tokens, at one place.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Measured {
    /// Mean of -log p(next token), and of KL(model's output ‖ lens), in nats.
    pub cross_entropy: f64,
    pub divergence: f64,
}

/// Each of [`sites`], then the model's own output, with a lens.
pub fn measure(model: &Model, corpus: &Corpus, windows: &[Range<usize>], lens: &TunedLens) -> Vec<Measured> {
    let _no_grad = tch::no_grad_guard();
    let mut sums: Vec<Measured> = vec![Measured::default(); sites(&model.spec).len() + 1];
    let (mut tokens, mut labelled) = (0, 0);
    for window in windows.chunks(16) {
        let seen = see(model, corpus, window);
        for (first, count) in chunks(model, seen.labels.len()) {
            let part = |stream: &Tensor| stream.narrow(0, first, count);
            let output = decode(model, &part(&seen.last)); // [chunk, vocab]
            let labels = &seen.labels[first as usize..(first + count) as usize];
            let (rows, ids): (Vec<i64>, Vec<i64>) = (0i64..).zip(labels).filter(|(_, id)| **id >= 0).unzip();
            tokens += labels.len();
            labelled += rows.len();
            let [rows, ids] = [rows, ids].map(|list| Some(Tensor::from_slice(&list).to_device(model.device)));
            for (place, sum) in sums.iter_mut().enumerate() {
                let said = match (lens.translators.get(place), seen.streams.get(place)) {
                    (Some(translator), Some(stream)) => decode(model, &translator.apply(&part(stream))),
                    _ => output.shallow_clone(),
                };
                let of_labels = said.index(&[rows.as_ref(), ids.as_ref()]); // [labelled]
                sum.cross_entropy -= of_labels.sum(Kind::Double).double_value(&[]);
                sum.divergence += divergence(&output, &said).sum(Kind::Double).double_value(&[]);
            }
        }
    }
    for sum in &mut sums {
        sum.cross_entropy /= f64::from(labelled.max(1) as u32);
        sum.divergence /= f64::from(tokens.max(1) as u32);
    }
    sums
}
