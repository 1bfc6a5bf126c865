//! Patchscopes: a representation of one prompt read by another prompt. The output of block l at position i of the source takes
//! the place of the output of block l* at position i* of the target, and the target goes on from there.
//!
//! Paper: Ghandeharioun et al., arXiv:2401.06102. The value is put in once, where the target prompt is read; keys and values
//! carry it to what is generated. Cost: a forward of each prompt, and for every cell the blocks above l*.

use super::generate::{Continuation, follow};
use super::row;
use super::vectors::Encoded;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::Tap;
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
        let (model, position) = (self.model, position as i64);
        let old = self.blocks[layer].get(0).get(position); // [d_model]
        let value = match mapping {
            Mapping::Identity => value.shallow_clone(),
            Mapping::NormMatched => value * (old.norm() / value.norm().clamp_min(1e-12)),
        };
        let residual = self.blocks[layer].copy(); // [1, pos, d_model]
        residual.get(0).get(position).copy_(&value);
        let mut kept = KeepPast::default();
        let above = model.some_blocks(layer + 1..model.spec.layers, residual, &Pass::LAST, &mut kept);
        let said = |logits: Tensor| logits.view([-1]).log_softmax(-1, Kind::Float);
        let next = said(model.read(&above, &Pass::LAST, &mut crate::model::tap::NoTap));
        let mut past = self.past.up_to(layer + 1).above(kept.finish());
        let found = follow(&next, continuation, |token, _| {
            let mut kept = KeepPast::default();
            let now = said(model.forward(Start::Tokens(&row(model, &[token])), &Pass::after(Some(&past)), &mut kept));
            past = past.followed_by(&kept.finish());
            now
        });
        Reading { next, tokens: found }
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
