//! One attention layer: three inputs, a pattern, and what each head writes.

use super::forward::{Past, see};
use super::site::Site;
use super::spec::{Branch, Layer, Spec};
use super::tap::Tap;
use super::weights::Block;
use tch::{Kind, Tensor};

/// What the attention of `layer` adds to the residual stream `[batch, pos, d_model]`.
pub(super) fn attention(
    block: &Block,
    spec: &Spec,
    layer: Layer,
    residual: &Tensor,
    past: Option<&Past>,
    tap: &mut impl Tap,
) -> Tensor {
    let [query, mut key, mut value] = projections(block, spec, layer, residual, tap); // each [batch, pos, head, d_head]
    if let Some(past) = past {
        key = Tensor::cat(&[&past.keys[layer.0], &key], 1); // [batch, past + pos, head, d_head]
        value = Tensor::cat(&[&past.values[layer.0], &value], 1);
    }
    let z = mix(spec, layer, &query, &key, &value, tap); // [batch, pos, head, d_head]
    let z = see(tap, Site::Z(layer), z);
    let (batch, pos) = (z.size()[0], z.size()[1]);
    let site = Site::HeadOut(layer);
    let out = if tap.wants(site) {
        let per_head = head_outputs(&z, &block.head_output_weight(spec)); // [batch, pos, head, d_model]
        tap.at(site, per_head).sum_dim_intlist(2, false, None::<Kind>) + &block.attention_out.bias
    } else {
        block.attention_out.apply(&z.reshape([batch, pos, (spec.heads * spec.d_head) as i64]))
    };
    see(tap, Site::AttentionOut(layer), out)
}

/// `z[head] · W_O[head]` for every head: `[batch, pos, head, d_model]`.
pub(crate) fn head_outputs(z: &Tensor, weight: &Tensor) -> Tensor {
    let (batch, pos, heads) = (z.size()[0], z.size()[1], z.size()[2]);
    z.flatten(0, 1) // [batch · pos, head, d_head]
        .transpose(0, 1) // [head, batch · pos, d_head]
        .bmm(weight) // [head, batch · pos, d_model]
        .transpose(0, 1)
        .reshape([batch, pos, heads, -1])
}

fn projections(block: &Block, spec: &Spec, layer: Layer, residual: &Tensor, tap: &mut impl Tap) -> [Tensor; 3] {
    let (heads, d_head) = (spec.heads as i64, spec.d_head as i64);
    let (batch, pos) = (residual.size()[0], residual.size()[1]);
    let split = Branch::ALL.iter().any(|&branch| tap.wants(Site::AttentionIn(layer, branch)));
    let projected = if split {
        Branch::ALL.map(|branch| {
            // A view of its own: its gradient is that of this branch, not of the whole residual stream.
            let input = see(tap, Site::AttentionIn(layer, branch), residual.unsqueeze(2)); // [batch, pos, 1 | head, d_model]
            let normed = block.attention_norm.apply(&input); // [batch, pos, 1 | head, d_model]
            project(block, spec, branch, &normed)
        })
    } else {
        let normed = block.attention_norm.apply(residual); // [batch, pos, d_model]
        let all = block.attention_in.apply(&normed).view([batch, pos, 3, heads, d_head]); // [batch, pos, 3, head, d_head]
        Branch::ALL.map(|branch| all.select(2, branch.index() as i64)) // [batch, pos, head, d_head]
    };
    let [query, key, value] = projected;
    [(Branch::Query, query), (Branch::Key, key), (Branch::Value, value)]
        .map(|(branch, tensor)| see(tap, Site::Projection(layer, branch), tensor))
}

/// One branch from its normed input, which is shared by all heads (head axis 1) or given for each head.
fn project(block: &Block, spec: &Spec, branch: Branch, normed: &Tensor) -> Tensor {
    let (heads, d_head) = (spec.heads as i64, spec.d_head as i64);
    let (batch, pos) = (normed.size()[0], normed.size()[1]);
    let bias = block.branch_bias(branch, spec); // [head · d_head]
    if normed.size()[2] == 1 {
        let width = heads * d_head;
        let weight = block.attention_in.weight.narrow(1, branch.index() as i64 * width, width); // [d_model, head · d_head]
        return (normed.squeeze_dim(2).matmul(&weight) + bias).view([batch, pos, heads, d_head]);
    }
    normed
        .flatten(0, 1) // [batch · pos, head, d_model]
        .transpose(0, 1) // [head, batch · pos, d_model]
        .bmm(&block.branch_weight(branch, spec)) // [head, batch · pos, d_head]
        .transpose(0, 1)
        .reshape([batch, pos, heads, d_head])
        + bias.view([heads, d_head])
}

/// Causal softmax attention: `[batch, pos, head, d_head]`.
fn mix(spec: &Spec, layer: Layer, query: &Tensor, key: &Tensor, value: &Tensor, tap: &mut impl Tap) -> Tensor {
    let [query, key, value] = [query, key, value].map(|tensor| tensor.transpose(1, 2)); // [batch, head, pos, d_head]
    let (pos, keys) = (query.size()[2], key.size()[2]);
    let scale = 1.0 / (spec.d_head as f64).sqrt();
    let later = Tensor::ones([pos, keys], (Kind::Bool, query.device())).triu(keys - pos + 1); // [query, key]
    let scores = (query * scale).matmul(&key.transpose(2, 3)).masked_fill(&later, f64::NEG_INFINITY); // [batch, head, query, key]
    let pattern = see(tap, Site::Pattern(layer), scores.softmax(-1, None::<Kind>)); // [batch, head, query, key]
    pattern.matmul(&value).transpose(1, 2) // [batch, pos, head, d_head]
}
