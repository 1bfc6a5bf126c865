//! Whether heads copy: for the token at some place, if a head attended to that place alone, would it write that token most, or
//! least? (Wang et al., arXiv:2211.00593, the copying score of name movers.)

use crate::measure::sources::heads_from_z;
use crate::model::Model;
use crate::model::spec::Layer;
use tch::{Device, Kind, Tensor};

/// How many tokens count as those that are written most, or least.
const FIRST: i64 = 5;

/// For each head of a layer the share of `values` `[1, 1, head, d_head]`, with their tokens, that it writes among the first,
/// and among the last.
pub(super) fn shares(model: &Model, layer: usize, values: &[(Tensor, u32)]) -> [Vec<f64>; 2] {
    let mut counts = [vec![0.0; model.spec.heads], vec![0.0; model.spec.heads]];
    for (value, token) in values {
        let written = heads_from_z(model, Layer(layer), value).squeeze_dim(1); // [head, d_model]
        let logits = model.weights.unembedding.apply(&model.weights.final_norm.apply(&written)); // [head, vocab]
        let own = logits.narrow(1, i64::from(*token), 1); // [head, 1]
        for (counts, others) in counts.iter_mut().zip([logits.gt_tensor(&own), logits.lt_tensor(&own)]) {
            let few = others.sum_dim_intlist(1, false, Kind::Int64).lt(FIRST).to_kind(Kind::Double); // [head]
            let few = Vec::<f64>::try_from(few.to_device(Device::Cpu)).unwrap_or_default();
            counts.iter_mut().zip(few).for_each(|(count, one)| *count += one);
        }
    }
    counts.map(|counts| counts.into_iter().map(|count| count / values.len().max(1) as f64).collect())
}
