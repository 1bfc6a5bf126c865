//! Patchscopes: a representation of one prompt read by another prompt. The output of block l at position i of the source takes
//! the place of the output of block l* at position i* of the target, and the target goes on from there.
//!
//! Paper: Ghandeharioun et al., arXiv:2401.06102. The value is put in once, where the target prompt is read; keys and values
//! carry it to what is generated. Cost: a forward of each prompt, and for every cell the blocks above l* at position i* and
//! those after it: all values that go to one place run as rows of one batch, over the keys and values of what stands before.

use super::generate::{Continuation, follow_each};
use super::row;
use super::vectors::Encoded;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::{NoTap, Tap};
use crate::model::{KeepPast, Model, Pass, Past, Start};
use tch::{Kind, Tensor};

/// What becomes of a value before it is put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    Identity,
    /// Scaled to the length of the value that it takes the place of.
    NormMatched,
}

/// The target prompt, run once without anything put in.
pub struct Target<'a> {
    model: &'a Model,
    tokens: usize,
    /// The output of each block, `[1, pos, d_model]`.
    blocks: Vec<Tensor>,
    past: Past,
    /// Log-probabilities after the prompt: `[vocab]`.
    pub next: Tensor,
}

/// What the target says with a value put in.
pub struct Reading {
    /// Log-probabilities after the prompt: `[vocab]`.
    pub next: Tensor,
    pub tokens: Vec<u32>,
}

/// The output of each block of a prompt, `[1, pos, d_model]`, and what comes next.
fn blocks(model: &Model, tokens: &[u32], past: &mut KeepPast) -> (Vec<Tensor>, Tensor) {
    let _no_grad = tch::no_grad_guard();
    let mut outputs = Outputs(Vec::new());
    let logits = model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut (&mut outputs, past));
    (outputs.0, logits.view([-1]).log_softmax(-1, Kind::Float))
}

/// What each block of a prompt leaves at a position: `[d_model]` each.
pub fn read(model: &Model, (tokens, _): &Encoded, position: usize) -> Vec<Tensor> {
    let (blocks, _) = blocks(model, tokens, &mut KeepPast::default());
    blocks.iter().map(|output| output.get(0).get(position as i64)).collect()
}

impl<'a> Target<'a> {
    pub fn new(model: &'a Model, (tokens, _): &Encoded) -> Target<'a> {
        let mut past = KeepPast::default();
        let (blocks, next) = blocks(model, tokens, &mut past);
        Target { model, tokens: tokens.len(), blocks, past: past.finish(), next }
    }

    /// With `value` `[d_model]` as the output of a block at a position. The caller keeps what follows within the model's
    /// context, and the position within the prompt.
    pub fn with(
        &self,
        layer: usize,
        position: usize,
        value: &Tensor,
        mapping: Mapping,
        continuation: &Continuation,
    ) -> Reading {
        let _no_grad = tch::no_grad_guard();
        let value = match mapping {
            Mapping::Identity => value.unsqueeze(0),
            Mapping::NormMatched => self.matched(layer, position, &value.unsqueeze(0)),
        };
        let mut rows = self.with_each(layer, position, &value, continuation);
        rows.pop().unwrap_or(Reading { next: self.next.shallow_clone(), tokens: Vec::new() })
    }

    /// Values `[row, d_model]` scaled to the length of what a block has at a position.
    pub fn matched(&self, layer: usize, position: usize, values: &Tensor) -> Tensor {
        let old = self.blocks[layer].get(0).get(position as i64); // [d_model]
        let lengths = values.square().sum_dim_intlist(-1, true, None::<Kind>).sqrt(); // [row, 1]
        values * (old.norm() / lengths.clamp_min(1e-12))
    }

    /// With each of `values` `[row, d_model]`, one at a time, in one batch.
    pub fn with_each(
        &self,
        layer: usize,
        position: usize,
        values: &Tensor,
        continuation: &Continuation,
    ) -> Vec<Reading> {
        let _no_grad = tch::no_grad_guard();
        let (model, rows) = (self.model, values.size()[0]);
        // Where earlier positions see later ones, they change with them.
        let first = if model.spec.attention.causal { position } else { 0 };
        let after = self.blocks[layer].narrow(1, first as i64, (self.tokens - first) as i64);
        let residual = after.repeat([rows, 1, 1]); // [row, pos, d_model]
        residual.select(1, (position - first) as i64).copy_(values);
        let before = (first > 0).then(|| self.past.first(first).repeat(rows));
        let mut kept = KeepPast::default();
        let layers = layer + 1..model.spec.layers;
        let above = model.some_blocks(layers.clone(), residual, &Pass::after(before.as_ref()), &mut kept);
        let said = |logits: Tensor| logits.select(1, 0).log_softmax(-1, Kind::Float); // [row, vocab]
        let next = said(model.read(&above, &Pass::LAST, &mut NoTap));
        let upper = match &before {
            Some(before) => before.of_layers(layers).followed_by(&kept.finish()),
            None => kept.finish(),
        };
        let mut past = self.past.of_layers(0..layer + 1).repeat(rows).above(upper);
        let found = follow_each(&next, continuation, |tokens| {
            let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
            let ids = Tensor::from_slice(&ids).unsqueeze(1).to_device(model.device); // [row, 1]
            let mut kept = KeepPast::default();
            let now = said(model.forward(Start::Tokens(&ids), &Pass::after(Some(&past)), &mut kept));
            past = past.followed_by(&kept.finish());
            now
        });
        (0..rows).zip(found).map(|(row, tokens)| Reading { next: next.get(row), tokens }).collect()
    }

    pub fn len(&self) -> usize {
        self.tokens
    }

    pub fn is_empty(&self) -> bool {
        self.tokens == 0
    }
}

/// Keeps the output of every block.
struct Outputs(Vec<Tensor>);

impl Tap for Outputs {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::BlockOut(Layer(_)))
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.0.push(value.shallow_clone());
        value
    }
}
