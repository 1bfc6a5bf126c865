//! Logit lens: what the model would say after each layer, if that layer were its last.
//!
//! lens(h) = softmax( cap( U · N(h) + b ) ): the final norm N, with its statistics of h itself, the unembedding U with its bias
//! and the cap on logits, as the model has them. The last layer's lens is the model's own output.
//!
//! Paper: nostalgebraist, "interpreting GPT: the logit lens" (2020); Belrose et al., arXiv:2303.08112, for what it can and
//! cannot say. Cost: one forward, and an unembedding of every layer at every position. Memory: the residual streams, and the
//! logits of a few positions at a time.

use super::row;
use super::tuned::TunedLens;
use crate::intervene::slice::site_name;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::{NoTap, Tap};
use crate::model::{Model, Pass, Start};
use tch::{Device, Kind, Tensor};

/// Logits decoded at once, at most, in numbers.
const AT_ONCE: usize = 1 << 24;

/// What is decoded.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Question {
    /// The residual stream between attention and MLP too.
    pub sublayers: bool,
    /// So many of the likeliest tokens are kept.
    pub top: usize,
    /// Sets of tokens whose probability together and best rank are kept.
    pub watched: Vec<Vec<u32>>,
}

/// A position after a layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Cell {
    pub likeliest: Vec<(u32, f64)>,
    /// In nats.
    pub entropy: f64,
    /// KL(model's output ‖ this), in nats.
    pub divergence: f64,
    /// Of each watched set: its probability, and how many tokens are likelier than its likeliest.
    pub watched: Vec<(f64, usize)>,
}

/// By place (from the embedding upwards), then by position.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// As edits name them: `L0.in`, `L0.mid`, `L0`, ..
    pub places: Vec<String>,
    pub cells: Vec<Vec<Cell>>,
}

/// Decodes a prompt. `progress` is told how much is done, from 0 to 1.
pub fn decode(model: &Model, tokens: &[u32], question: &Question, progress: &mut dyn FnMut(f64)) -> Decoded {
    decode_through(model, tokens, None, question, progress)
}

/// With a tuned lens's translators before the decoder, where there is one.
pub fn decode_through(
    model: &Model,
    tokens: &[u32],
    lens: Option<&TunedLens>,
    question: &Question,
    progress: &mut dyn FnMut(f64),
) -> Decoded {
    let _no_grad = tch::no_grad_guard();
    let mut streams = Streams { sites: sites(model, question.sublayers), seen: Vec::new() };
    let _ = model.blocks(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut streams);
    let last = streams.seen.last().map_or_else(Tensor::new, |(_, last)| last.shallow_clone()); // [1, pos, d_model]
    let chunk = (AT_ONCE / model.spec.vocab_out.max(1)).max(1);
    let places = streams.seen.iter().map(|(site, _)| site_name(*site)).collect();
    let mut cells: Vec<Vec<Cell>> = streams.seen.iter().map(|_| Vec::new()).collect();
    let all = tokens.len() * streams.seen.len();
    for first in (0..tokens.len()).step_by(chunk) {
        let count = chunk.min(tokens.len() - first);
        let said = |stream: &Tensor| {
            let part = stream.narrow(1, first as i64, count as i64); // [1, chunk, d_model]
            model.read(&part, &Pass::ALL, &mut NoTap).squeeze_dim(0).log_softmax(-1, Kind::Float) // [chunk, vocab]
        };
        let output = said(&last);
        for ((site, stream), row) in streams.seen.iter().zip(&mut cells) {
            let stream = lens.map_or_else(|| stream.shallow_clone(), |lens| lens.translate(*site, stream));
            row.extend(self::cells(&said(&stream), &output, question));
        }
        progress((first + count) as f64 * streams.seen.len() as f64 / all.max(1) as f64);
    }
    Decoded { places, cells }
}

fn sites(model: &Model, sublayers: bool) -> Vec<Site> {
    let spec = &model.spec;
    // With attention and MLP side by side there is nothing between them.
    let between = sublayers && spec.mlp.is_some() && !spec.parallel;
    let of_layer = |layer| {
        let mid = between.then_some(Site::Mid(Layer(layer)));
        mid.into_iter().chain([Site::BlockOut(Layer(layer))])
    };
    std::iter::once(Site::BlockIn(Layer(0))).chain((0..spec.layers).flat_map(of_layer)).collect()
}

/// From log-probabilities `[chunk, vocab]` of a place and of the model's output.
fn cells(said: &Tensor, output: &Tensor, question: &Question) -> Vec<Cell> {
    let numbers = |tensor: Tensor| {
        Vec::<f64>::try_from(tensor.to_kind(Kind::Double).to_device(Device::Cpu).view([-1])).unwrap_or_default()
    };
    let sum = |tensor: Tensor| numbers(tensor.sum_dim_intlist(-1, false, Kind::Double));
    let probabilities = said.exp(); // [chunk, vocab]
    let entropy = sum(-&probabilities * said);
    let divergence = sum(output.exp() * (output - said));
    let count = (question.top as i64).min(said.size()[1]);
    let (values, ids) = said.topk(count, -1, true, true); // [chunk, count]
    let (values, ids) = (numbers(values.exp()), numbers(ids));
    let watched: Vec<(Vec<f64>, Vec<f64>)> = question
        .watched
        .iter()
        .map(|set| {
            let ids: Vec<i64> = set.iter().map(|&id| i64::from(id)).collect();
            let of_set = said.index_select(1, &Tensor::from_slice(&ids).to_device(said.device())); // [chunk, set]
            let best = of_set.amax([-1], true); // [chunk, 1]
            (sum(of_set.exp()), sum(said.gt_tensor(&best).to_kind(Kind::Float)))
        })
        .collect();
    let count = count as usize;
    (0..entropy.len())
        .map(|row| Cell {
            likeliest: (row * count..(row + 1) * count).map(|index| (ids[index] as u32, values[index])).collect(),
            entropy: entropy[row],
            divergence: divergence[row],
            watched: watched.iter().map(|(share, rank)| (share[row], rank[row] as usize)).collect(),
        })
        .collect()
}

/// Keeps the residual stream at some places.
pub(super) struct Streams {
    pub sites: Vec<Site>,
    pub seen: Vec<(Site, Tensor)>, // each [batch, pos, d_model]
}

impl Tap for Streams {
    fn wants(&self, site: Site) -> bool {
        self.sites.contains(&site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        self.seen.push((site, value.shallow_clone()));
        value
    }
}
