//! The last position of a prompt computed anew, alone: what comes next when something is changed there, in many variants at
//! once. Keys and values of all positions before it are computed once; a change at layer l leaves everything to the left of
//! the position and below the layer as it was.
//!
//! The variants run as positions of one pass that do not see each other (`Pass::variants`), so that they share the kept keys
//! and values without copies. A variant costs one token in the blocks from l on, attention over the kept keys included, in place
//! of a forward of the prompt. Not for changes at other positions, which later positions see, nor for attention that looks
//! both ways, where the positions before see the last one.

use super::row;
use crate::error::Hint;
use crate::model::site::Site;
use crate::model::spec::Layer;
use crate::model::tap::{NoTap, Tap};
use crate::model::{KeepPast, Model, Pass, Past, Start};
use std::ops::Range;
use tch::{Kind, Tensor};

/// Variants of heads that run together, as far as whole layers allow: attention scores grow with their square.
const ROWS: usize = 256;

/// A model whose last position cannot be computed alone.
#[derive(Debug, thiserror::Error)]
pub enum ColumnError {
    #[error("the attention of this model looks both ways: no position stays as it was when the last one changes")]
    BothWays,
}

impl Hint for ColumnError {
    fn hint(&self) -> Option<String> {
        Some("take a model with causal attention".into())
    }
}

/// A prompt, run once.
pub struct Column<'a> {
    model: &'a Model,
    /// Of all positions but the last.
    past: Past,
    /// What enters each block, and what leaves the last one, at the last position: `[d_model]` each.
    pub residual: Vec<Tensor>,
    /// What the heads of each layer have there: `[head, d_head]` each.
    pub z: Vec<Tensor>,
    /// Log-probabilities after the prompt: `[vocab]`.
    pub next: Tensor,
}

impl<'a> Column<'a> {
    /// Runs a prompt of at least one token.
    ///
    /// # Errors
    /// [`ColumnError`].
    pub fn new(model: &'a Model, tokens: &[u32]) -> Result<Column<'a>, ColumnError> {
        if !model.spec.attention.causal {
            return Err(ColumnError::BothWays);
        }
        let _no_grad = tch::no_grad_guard();
        let (mut kept, mut last) = (KeepPast::default(), LastPosition::default());
        let logits = model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut (&mut kept, &mut last));
        let past = kept.finish().before(tokens.len() as i64 - 1);
        Ok(Column { model, past, residual: last.residual, z: last.z, next: said(&logits).get(0) })
    }

    /// Log-probabilities `[variant, vocab]` with the blocks from `layer` on computed anew for so many variants. The tap sees
    /// every site as `[1, variant, ..]`, and tells the variants apart by writing.
    pub fn variants(&self, layer: usize, count: usize, tap: &mut impl Tap) -> Tensor {
        let entering = self.residual[layer].view([1, 1, -1]).repeat([1, count as i64, 1]); // [1, variant, d_model]
        self.from(layer, entering, tap)
    }

    /// Log-probabilities `[variant, vocab]` with the output of block `layer` set to each of `values` `[variant, d_model]`.
    pub fn outputs(&self, layer: usize, values: &Tensor) -> Tensor {
        self.from(layer + 1, values.to_kind(self.model.kind()).unsqueeze(0), &mut NoTap)
    }

    /// Log-probabilities `[layer, head, vocab]` with one head of the model at a time set to its row of the layer's `z`
    /// `[head, d_head]`. Heads of later layers join those of earlier ones on the way up, so that a block runs once for many.
    pub fn heads(&self, z: &[Tensor]) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let (layers, heads) = (self.model.spec.layers, self.model.spec.heads);
        let mut found = Vec::new();
        for first in (0..layers).step_by((ROWS / heads).max(1)) {
            let end = (first + (ROWS / heads).max(1)).min(layers);
            let mut rows: Vec<Tensor> = Vec::new();
            for (layer, z) in z.iter().enumerate().take(end).skip(first) {
                rows.push(self.residual[layer].view([1, 1, -1]).repeat([1, heads as i64, 1])); // [1, head, d_model]
                let joined = Tensor::cat(&rows, 1); // [1, variant, d_model]
                let mut tap = SetHeads::new(layer, z.to_kind(self.model.kind()), joined.size()[1]);
                rows = vec![self.blocks(layer..layer + 1, joined, &mut tap)];
            }
            let leaving = self.blocks(end..layers, Tensor::cat(&rows, 1), &mut NoTap);
            found.push(said(&self.model.read(&leaving, &Pass::ALL, &mut NoTap)));
        }
        Tensor::cat(&found, 0).view([layers as i64, heads as i64, -1])
    }

    fn from(&self, layer: usize, entering: Tensor, tap: &mut impl Tap) -> Tensor {
        let _no_grad = tch::no_grad_guard();
        let leaving = self.blocks(layer..self.model.spec.layers, entering, tap); // [1, variant, d_model]
        said(&self.model.read(&leaving, &Pass::ALL, tap))
    }

    fn blocks(&self, layers: Range<usize>, entering: Tensor, tap: &mut impl Tap) -> Tensor {
        let pass = Pass { variants: true, ..Pass::after(Some(&self.past)) };
        self.model.some_blocks(layers, entering, &pass, tap)
    }
}

impl Past {
    /// Its first positions.
    fn before(self, positions: i64) -> Past {
        let first = |all: Vec<Tensor>| all.iter().map(|one| one.narrow(1, 0, positions)).collect();
        Past { keys: first(self.keys), values: first(self.values) }
    }
}

/// Logits `[1, variant, vocab]` as log-probabilities `[variant, vocab]`.
fn said(logits: &Tensor) -> Tensor {
    logits.squeeze_dim(0).log_softmax(-1, None::<Kind>)
}

/// Keeps the last position of the residual stream and of the heads.
#[derive(Default)]
struct LastPosition {
    residual: Vec<Tensor>,
    z: Vec<Tensor>,
}

impl Tap for LastPosition {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::BlockIn(_) | Site::Z(_) | Site::FinalIn)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let kept = if let Site::Z(_) = site { &mut self.z } else { &mut self.residual };
        kept.push(value.get(0).get(-1).copy());
        value
    }
}

/// Gives head h its value in variant h of the last ones.
struct SetHeads {
    site: Site,
    own: Tensor, // [1, variant, head, 1]
    z: Tensor,   // [1, head, d_head]
}

impl SetHeads {
    fn new(layer: usize, z: Tensor, variants: i64) -> SetHeads {
        let heads = z.size()[0];
        let kind = (Kind::Bool, z.device());
        let own = Tensor::cat(&[Tensor::zeros([variants - heads, heads], kind), Tensor::eye(heads, kind)], 0);
        SetHeads { site: Site::Z(Layer(layer)), own: own.view([1, variants, heads, 1]), z: z.unsqueeze(0) }
    }
}

impl Tap for SetHeads {
    fn wants(&self, site: Site) -> bool {
        site == self.site
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.z.where_self(&self.own, &value)
    }
}
