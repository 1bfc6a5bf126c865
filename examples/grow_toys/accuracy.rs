//! How often the best right answer is preferred to every wrong one, and to every other answer of the task.

use crate::network::Network;
use crate::sentences::Sentence;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Shares of sentences.
#[derive(Clone, Copy)]
pub struct Accuracy {
    /// The best right answer has a larger logit than the best wrong one.
    pub over_wrong: f64,
    /// It has a larger logit than every answer to any of the sentences that is not right here.
    pub over_all: f64,
}

pub fn accuracy(network: &Network, sentences: &[Sentence]) -> Accuracy {
    let _no_gradients = tch::no_grad_guard();
    let answers: BTreeSet<i64> = sentences.iter().flat_map(|sentence| &sentence.right).copied().collect();
    let mut by_length: BTreeMap<usize, Vec<&Sentence>> = BTreeMap::new();
    for sentence in sentences {
        by_length.entry(sentence.prompt.len()).or_default().push(sentence);
    }
    let (mut over_wrong, mut over_all) = (0, 0);
    for (length, group) in &by_length {
        let flat: Vec<i64> = group.iter().flat_map(|sentence| sentence.prompt.iter().copied()).collect();
        let tokens = Tensor::from_slice(&flat).view([group.len() as i64, *length as i64]); // [batch, pos]
        let last = network.forward(&tokens).select(1, *length as i64 - 1); // [batch, width]
        let logits = network.unembed(&last).to_kind(Kind::Float); // [batch, vocab]
        for (row, sentence) in group.iter().enumerate() {
            let row = Vec::<f32>::try_from(logits.get(row as i64)).unwrap_or_default(); // [vocab]
            let best =
                |ids: &mut dyn Iterator<Item = &i64>| ids.map(|id| row[*id as usize]).fold(f32::NEG_INFINITY, f32::max);
            let right = best(&mut sentence.right.iter());
            over_wrong += usize::from(right > best(&mut sentence.wrong.iter()));
            over_all += usize::from(right > best(&mut answers.iter().filter(|id| !sentence.right.contains(id))));
        }
    }
    let share = |count: usize| count as f64 / sentences.len().max(1) as f64;
    Accuracy { over_wrong: share(over_wrong), over_all: share(over_all) }
}
