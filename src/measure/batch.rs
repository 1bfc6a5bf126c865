//! Batches of prompt pairs of one length, with the positions that clean and corrupt share computed once.
//!
//! Pairs of different length never meet in a batch, so nothing is padded and a pair's numbers do not depend on its
//! neighbours. Up to their first difference both prompts have the same keys and values, every difference of activations
//! is zero, and one prefix pass serves the clean run, the corrupt run and every step in between.

use crate::dataset::TokenPair;
use crate::model::{KeepPast, Model, Pass, Past, Start};
use crate::spans::Spans;
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

    /// The positions of one group, among all that the batch computes: of its tokens in a row, `[batch · pos]`, and of its
    /// rows, `[batch]`, those whose last position is one.
    pub fn tokens_of(&self, spans: &Spans, span: usize) -> [Vec<i64>; 2] {
        let (mut tokens, mut rows) = (Vec::new(), Vec::new());
        let pos = self.clean.size()[1] as usize;
        for (row, &pair) in self.indices.iter().enumerate() {
            let all = spans.of_pair(pair);
            // What comes before is the shared prefix.
            for (place, _) in all[all.len() - pos..].iter().enumerate().filter(|(_, of)| **of == span) {
                tokens.push((row * pos + place) as i64);
                if place + 1 == pos {
                    rows.push(row as i64);
                }
            }
        }
        [tokens, rows]
    }

    /// The batch cut in two.
    pub fn halves(&self) -> [Batch; 2] {
        let middle = self.len().div_ceil(2);
        [0..middle, middle..self.len()].map(|rows| {
            let part = |tensor: &Tensor| tensor.narrow(0, rows.start as i64, rows.len() as i64);
            Batch {
                indices: self.indices[rows.clone()].to_vec(),
                prefix: self.prefix.as_ref().map(part),
                clean: part(&self.clean),
                corrupt: part(&self.corrupt),
                right: self.right[rows.clone()].to_vec(),
                wrong: self.wrong[rows.clone()].to_vec(),
            }
        })
    }

    /// The keys and values of the shared prefix.
    pub fn past(&self, model: &Model) -> Option<Past> {
        let prefix = self.prefix.as_ref()?;
        let _no_grad = tch::no_grad_guard();
        let mut keep = KeepPast::default();
        let _ = model.blocks(Start::Tokens(prefix), &Pass::LAST, &mut keep);
        Some(keep.finish())
    }
}

/// Whether the common start of clean and corrupt prompts is computed once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefix {
    Shared,
    /// Every pass computes every position: for models whose positions see later ones, and to test the sharing.
    Recomputed,
}

/// Which pairs make a batch, and how much of their start is shared: what a batch can be made from again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Where each row stands in the data set.
    pub indices: Vec<usize>,
    /// Tokens at the start of every prompt that clean and corrupt have in common and that are run once.
    pub shared: usize,
}

impl Rows {
    /// Both halves, or nothing of a single pair. They share what the whole shared.
    pub fn halves(&self) -> Option<[Rows; 2]> {
        let (first, second) = self.indices.split_at(self.indices.len().div_ceil(2));
        let part = |indices: &[usize]| Rows { indices: indices.to_vec(), shared: self.shared };
        (!second.is_empty()).then(|| [part(first), part(second)])
    }

    /// Their tokens on a device.
    pub fn batch(&self, pairs: &[TokenPair], device: Device) -> Batch {
        let Rows { indices, shared } = self;
        let rows = |tokens: &dyn Fn(usize) -> Vec<i64>| {
            let flat: Vec<i64> = indices.iter().flat_map(|&index| tokens(index)).collect();
            Tensor::from_slice(&flat).view([indices.len() as i64, -1]).to_device(device) // [batch, pos]
        };
        let ids = |tokens: &[u32]| tokens.iter().map(|&id| i64::from(id)).collect::<Vec<i64>>();
        Batch {
            indices: indices.clone(),
            prefix: (*shared > 0).then(|| rows(&|index| ids(&pairs[index].clean[..*shared]))),
            clean: rows(&|index| ids(&pairs[index].clean[*shared..])),
            corrupt: rows(&|index| ids(&pairs[index].corrupt[*shared..])),
            right: indices.iter().map(|&index| ids(&pairs[index].right)).collect(),
            wrong: indices.iter().map(|&index| ids(&pairs[index].wrong)).collect(),
        }
    }
}

/// Groups pairs by length and, within a length, by the position of their first difference. Where positions see later ones
/// (bidirectional attention) nothing is shared, whatever `prefix` says.
pub fn group(model: &Model, pairs: &[TokenPair], largest: usize, prefix: Prefix) -> Vec<Rows> {
    let shares = model.spec.attention.causal && prefix == Prefix::Shared;
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|&index| (pairs[index].clean.len(), pairs[index].first_difference, index));
    let shared = |indices: &[usize]| indices.iter().map(|&index| pairs[index].first_difference).min().unwrap_or(0);
    order
        .chunk_by(|&a, &b| pairs[a].clean.len() == pairs[b].clean.len())
        .flat_map(|same_length| same_length.chunks(largest.max(1)))
        .map(|indices| Rows { indices: indices.to_vec(), shared: if shares { shared(indices) } else { 0 } })
        .collect()
}

/// The pairs in batches of at most `largest`, as [`group`] groups them.
pub fn batches(model: &Model, pairs: &[TokenPair], largest: usize, prefix: Prefix) -> Vec<Batch> {
    group(model, pairs, largest, prefix).iter().map(|rows| rows.batch(pairs, model.device)).collect()
}
