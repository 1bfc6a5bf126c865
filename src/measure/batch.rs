//! Batches of prompt pairs of one length, with the positions that clean and corrupt share computed once.
//!
//! Pairs of different length never meet in a batch, so nothing is padded and a pair's numbers do not depend on its
//! neighbours. Up to their first difference both prompts have the same keys and values, every difference of activations
//! is zero, and one prefix pass serves the clean run, the corrupt run and every step in between.

use crate::dataset::TokenPair;
use crate::model::{KeepPast, Model, Past, Start};
use tch::{Device, Tensor};

/// Some pairs of one length as tensors.
pub struct Batch {
    /// Where each row stands in the data set.
    pub indices: Vec<usize>,
    /// What clean and corrupt have in common at the start: `[batch, prefix]`, or nothing.
    pub prefix: Option<Tensor>,
    pub clean: Tensor,   // [batch, suffix]
    pub corrupt: Tensor, // [batch, suffix]
    pub right: Vec<Vec<i64>>,
    pub wrong: Vec<Vec<i64>>,
}

impl Batch {
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The keys and values of the shared prefix.
    pub fn past(&self, model: &Model) -> Option<Past> {
        let prefix = self.prefix.as_ref()?;
        let _no_grad = tch::no_grad_guard();
        let mut keep = KeepPast::default();
        let _ = model.blocks(Start::Tokens(prefix), None, &mut keep);
        Some(keep.finish())
    }
}

/// Whether the common start of clean and corrupt prompts is computed once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    Shared,
    /// Every pass computes every position: for runs whose prefix differs too, and to test the sharing.
    Recomputed,
}

/// Groups pairs by length and, within a length, by the position of their first difference.
pub fn batches(pairs: &[TokenPair], largest: usize, prefix: Prefix) -> Vec<Batch> {
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|&index| (pairs[index].clean.len(), pairs[index].first_difference, index));
    order
        .chunk_by(|&a, &b| pairs[a].clean.len() == pairs[b].clean.len())
        .flat_map(|same_length| same_length.chunks(largest.max(1)))
        .map(|indices| batch(pairs, indices, prefix))
        .collect()
}

fn batch(pairs: &[TokenPair], indices: &[usize], prefix: Prefix) -> Batch {
    let shared = match prefix {
        Prefix::Shared => indices.iter().map(|&index| pairs[index].first_difference).min().unwrap_or(0),
        Prefix::Recomputed => 0,
    };
    let rows = |tokens: &dyn Fn(usize) -> Vec<i64>| {
        let flat: Vec<i64> = indices.iter().flat_map(|&index| tokens(index)).collect();
        Tensor::from_slice(&flat).view([indices.len() as i64, -1]).to_device(Device::Cpu) // [batch, pos]
    };
    let ids = |tokens: &[u32]| tokens.iter().map(|&id| i64::from(id)).collect::<Vec<i64>>();
    Batch {
        indices: indices.to_vec(),
        prefix: (shared > 0).then(|| rows(&|index| ids(&pairs[index].clean[..shared]))),
        clean: rows(&|index| ids(&pairs[index].clean[shared..])),
        corrupt: rows(&|index| ids(&pairs[index].corrupt[shared..])),
        right: indices.iter().map(|&index| ids(&pairs[index].right)).collect(),
        wrong: indices.iter().map(|&index| ids(&pairs[index].wrong)).collect(),
    }
}

/// How many pairs to run at once, so that the differences of all sources stay under `limit` bytes.
pub fn batch_size(model: &Model, pairs: &[TokenPair], limit: usize) -> usize {
    let sources = 1 + model.spec.layers * (model.spec.heads + 1);
    let positions = pairs.iter().map(|pair| pair.clean.len() - pair.first_difference).max().unwrap_or(1);
    (limit / (sources * positions * model.spec.d_model * size_of::<f32>()).max(1)).clamp(1, 64)
}

/// The default for [`batch_size`]'s limit: 256 MiB.
pub const DIFFERENCE_BYTES: usize = 256 << 20;
