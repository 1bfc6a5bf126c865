//! The metric of each pair from the logits of its last position (definitions in [`crate::metric`]).

use super::batch::Batch;
use crate::metric::MetricKind;
use tch::{Device, Kind, Tensor};

/// The metric of every row: `[batch]`, differentiable where [`MetricKind::differentiable`] says so.
///
/// `reference` holds the clean model's log-probabilities `[batch, vocab]`; only [`MetricKind::Kl`] reads it.
pub fn per_pair(kind: MetricKind, logits: &Tensor, batch: &Batch, reference: Option<&Tensor>) -> Tensor {
    match kind {
        MetricKind::LogitDifference => mean_of(logits, &batch.right) - mean_of(logits, &batch.wrong),
        MetricKind::ProbabilityDifference => {
            let probabilities = logits.softmax(-1, None::<Kind>); // [batch, vocab]
            sum_of(&probabilities, &batch.right) - sum_of(&probabilities, &batch.wrong)
        }
        MetricKind::Kl => match reference {
            Some(reference) => -divergence(reference, &logits.log_softmax(-1, None::<Kind>)),
            None => logits.select(1, 0) * 0.0, // the clean run against itself
        },
        MetricKind::Accuracy => accuracy(logits, batch),
        MetricKind::LogProbability => sum_of(&logits.softmax(-1, None::<Kind>), &batch.right).log(),
        MetricKind::Rank => -above(logits, &best_of(logits, &batch.right)),
    }
}

/// KL(reference ‖ other) in nats, of log-probabilities `[batch, vocab]`: `[batch]`.
pub fn divergence(reference: &Tensor, other: &Tensor) -> Tensor {
    (reference.exp() * (reference - other)).sum_dim_intlist(-1, false, None::<Kind>)
}

fn accuracy(logits: &Tensor, batch: &Batch) -> Tensor {
    let right = best_of(logits, &batch.right); // [batch]
    let correct = if batch.wrong.iter().any(Vec::is_empty) {
        above(logits, &right).eq(0.0)
    } else {
        right.gt_tensor(&best_of(logits, &batch.wrong))
    };
    correct.to_kind(Kind::Float)
}

/// How many tokens have a larger value than `threshold` `[batch]`: `[batch]`.
fn above(logits: &Tensor, threshold: &Tensor) -> Tensor {
    logits.gt_tensor(&threshold.unsqueeze(1)).sum_dim_intlist(1, false, Kind::Float)
}

/// Ids padded to one width with the row's first id, and a mask `[batch, width]` that is 1 where an id is real.
fn padded(sets: &[Vec<i64>], device: Device) -> (Tensor, Tensor) {
    let width = sets.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut ids = Vec::with_capacity(sets.len() * width);
    let mut real = Vec::with_capacity(sets.len() * width);
    for set in sets {
        for column in 0..width {
            ids.push(set.get(column).or(set.first()).copied().unwrap_or(0));
            real.push(f32::from(u8::from(column < set.len())));
        }
    }
    let shape = [sets.len() as i64, width as i64];
    let [ids, real] = [Tensor::from_slice(&ids), Tensor::from_slice(&real)].map(|t| t.view(shape).to_device(device));
    (ids, real) // both [batch, width]
}

fn sum_of(values: &Tensor, sets: &[Vec<i64>]) -> Tensor {
    let (ids, real) = padded(sets, values.device());
    (values.gather(1, &ids, false) * real).sum_dim_intlist(1, false, None::<Kind>) // [batch]
}

fn mean_of(values: &Tensor, sets: &[Vec<i64>]) -> Tensor {
    let counts: Vec<f32> = sets.iter().map(|set| set.len().max(1) as f32).collect();
    sum_of(values, sets) / Tensor::from_slice(&counts).to_device(values.device()) // [batch]
}

fn best_of(values: &Tensor, sets: &[Vec<i64>]) -> Tensor {
    let (ids, _) = padded(sets, values.device()); // padding repeats a real id, so it cannot win alone
    values.gather(1, &ids, false).amax(1, false) // [batch]
}
