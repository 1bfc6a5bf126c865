//! How well a Patchscope reads what a source predicts, over many sources.
//!
//! Precision@1: how often the likeliest token of the patched target is that of the source at the position that was read;
//! surprisal: -log p of the source's own output of the patched target's likeliest token, in nats (Ghandeharioun et al.,
//! arXiv:2401.06102). Cost: a forward a source, and for each pair of layers a row a source of the target from the layer and
//! position on that it is put into. Not to be read without its last layer: put into itself there, it is 1 by construction if
//! the target is read where the value is put in.

use super::generate::{Continuation, Sampling};
use super::patchscope::Target;
use super::row;
use super::vectors::Encoded;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::{Model, Pass, Start};
use tch::{Kind, Tensor};

/// Rows of one batch, at most.
const AT_ONCE: i64 = 128;

/// Sources, each read at one position.
pub struct Sources {
    /// By layer, the outputs of the block: `[source, d_model]`.
    pub values: Vec<Tensor>,
    /// What each says there by itself, log-probabilities: `[source, vocab]`.
    pub said: Tensor,
}

/// Reads sources, each at a position of its own.
pub fn sources(model: &Model, of: &[(Encoded, usize)], progress: &mut dyn FnMut(f64)) -> Sources {
    let _no_grad = tch::no_grad_guard();
    let sites: Vec<Site> = (0..model.spec.layers).map(|layer| Site::BlockOut(Layer(layer))).collect();
    let mut values: Vec<Vec<Tensor>> = sites.iter().map(|_| Vec::new()).collect();
    let mut said = Vec::new();
    for (index, ((tokens, _), position)) in of.iter().enumerate() {
        progress(index as f64 / of.len() as f64);
        let mut streams = super::lens::Streams { sites: sites.clone(), seen: Vec::new() };
        let last = model.blocks(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut streams); // [1, pos, d_model]
        let at = |stream: &Tensor| stream.get(0).get(*position as i64); // [d_model]
        for (layer, (_, stream)) in values.iter_mut().zip(&streams.seen) {
            layer.push(at(stream));
        }
        said.push(super::tuned::decode(model, &at(&last).unsqueeze(0)).get(0));
    }
    Sources { values: values.iter().map(|layer| Tensor::stack(layer, 0)).collect(), said: Tensor::stack(&said, 0) }
}

/// Of each source: whether the patched target's likeliest token is the source's own, and that token's surprisal.
pub fn scores(target: &Target, (layer, position): (usize, usize), values: &Tensor, said: &Tensor) -> Vec<(bool, f64)> {
    let _no_grad = tch::no_grad_guard();
    let nothing_more =
        Continuation { count: 0, sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 }, stop: Vec::new() };
    let own = said.argmax(-1, false); // [source]
    let mut found = Vec::new();
    for first in (0..values.size()[0]).step_by(AT_ONCE as usize) {
        let part = values.narrow(0, first, AT_ONCE.min(values.size()[0] - first));
        for (index, reading) in (first..).zip(target.with_each(layer, position, &part, &nothing_more)) {
            let token = reading.next.argmax(-1, false).int64_value(&[]);
            let surprisal = -said.to_kind(Kind::Double).double_value(&[index, token]);
            found.push((token == own.int64_value(&[index]), surprisal));
        }
    }
    found
}
