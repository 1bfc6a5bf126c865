//! One attention layer: three inputs, a pattern, and what each head writes.

use super::forward::{Past, see};
use super::grid::Grid;
use super::rules::Rules;
use super::site::Site;
use super::spec::{Branch, Layer, QueryKeyNorm, Spec};
use super::tap::Tap;
use super::weights::{Block, Model, Norm};
use tch::{Kind, Tensor};

/// What a pass gives to each of its layers.
pub(super) struct Context<'a> {
    pub spec: &'a Spec,
    pub grid: &'a Grid,
    pub past: Option<&'a Past>,
    pub rules: Rules,
    /// Added to what queries and keys read: `[pos, d_model]`.
    pub shortformer: Option<&'a Tensor>,
}

/// What the attention of `layer` adds to the residual stream `[batch, pos, d_model]`.
pub(super) fn attention(
    block: &Block,
    context: &Context,
    layer: Layer,
    residual: &Tensor,
    tap: &mut impl Tap,
) -> Tensor {
    let spec = context.spec;
    let split = Branch::ALL.iter().any(|&branch| tap.wants(Site::AttentionIn(layer, branch)));
    let shared = (!split).then(|| block.attention_norm.apply_under(context.rules, &residual.unsqueeze(2))); // [batch, pos, 1, d_model]
    let [query, key, value] = Branch::ALL.map(|branch| {
        let normed = match &shared {
            Some(normed) => normed.shallow_clone(),
            // A view of its own: its gradient is that of this branch, not of the whole residual stream.
            None => {
                let input = see(tap, Site::AttentionIn(layer, branch), residual.unsqueeze(2));
                block.attention_norm.apply_under(context.rules, &input)
            }
        }; // [batch, pos, 1 | head, d_model]
        let projected = projected(block, context, layer, branch, normed, tap); // [batch, pos, head or kv_head, d_head]
        let (projected, past) = per_query_head(context, layer, branch, projected, tap);
        let all = match past {
            Some(past) => Tensor::cat(&[past, projected], 1), // [batch, past + pos, .., d_head]
            None => projected,
        };
        turned(block, context, layer, branch, all)
    });
    let z = mix(context, layer, &query, &key, &value, tap); // [batch, pos, head, d_head]
    let z = see(tap, Site::Z(layer), z);
    let site = Site::HeadOut(layer);
    let sum = if tap.wants(site) {
        let per_head = head_outputs(&z, &block.head_output_weight(spec)); // [batch, pos, head, d_model]
        let sum = tap.at(site, per_head).sum_dim_intlist(2, false, None::<Kind>); // [batch, pos, d_model]
        match &block.attention_out.bias {
            Some(bias) => sum + bias,
            None => sum,
        }
    } else {
        block.attention_out.apply(&z.flatten(2, 3))
    };
    let sum = see(tap, Site::HeadSum(layer), sum);
    see(tap, Site::AttentionOut(layer), block.attention_after.apply_under(context.rules, &sum))
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

/// Queries, keys or values from their normed input `[batch, pos, 1 | head, d_model]`: `[batch, pos, head, d_head]` of the
/// branch's own heads, or of all query heads where the tap gave each of them an input of its own.
fn projected(
    block: &Block,
    context: &Context,
    layer: Layer,
    branch: Branch,
    normed: Tensor,
    tap: &mut impl Tap,
) -> Tensor {
    let spec = context.spec;
    let normed = match context.shortformer.filter(|_| branch != Branch::Value) {
        Some(positions) => normed + positions.unsqueeze(1),
        None => normed,
    };
    let linear = &block.projections[branch.index()];
    let (batch, pos, inputs) = (normed.size()[0], normed.size()[1], normed.size()[2]);
    let projected = if inputs == 1 {
        let shape = [batch, pos, spec.branch_heads(branch) as i64, spec.d_head as i64];
        linear.apply(&normed.squeeze_dim(2)).view(shape)
    } else {
        let weight = repeated(&block.branch_weight(branch, spec), 0, inputs); // [head, d_model, d_head]
        let each = head_outputs(&normed, &weight); // [batch, pos, head, d_head]
        match &linear.bias {
            Some(bias) => each + repeated(&bias.view([-1, spec.d_head as i64]), 0, inputs),
            None => each,
        }
    };
    see(tap, Site::Projection(layer, branch), projected)
}

/// Shows keys and values once for each query head to a tap that wants them so; with them, the past in the same number of
/// heads.
fn per_query_head(
    context: &Context,
    layer: Layer,
    branch: Branch,
    projected: Tensor,
    tap: &mut impl Tap,
) -> (Tensor, Option<Tensor>) {
    let site = Site::PerQueryHead(layer, branch);
    let projected = if tap.wants(site) {
        tap.at(site, repeated(&projected, 2, context.spec.heads as i64)) // [batch, pos, head, d_head]
    } else {
        projected
    };
    let past = context.past.and_then(|past| match branch {
        Branch::Query => None,
        Branch::Key => Some(&past.keys[layer.0]),
        Branch::Value => Some(&past.values[layer.0]),
    });
    let past = past.map(|past| repeated(past, 2, projected.size()[2]));
    (projected, past)
}

/// Heads of keys and values repeated so that there are `heads` along `axis`, each for its group of query heads.
fn repeated(tensor: &Tensor, axis: i64, heads: i64) -> Tensor {
    match heads / tensor.size()[axis as usize] {
        0 | 1 => tensor.shallow_clone(),
        group => tensor.repeat_interleave_self_int(group, axis, None),
    }
}

/// Norm and rotation of queries and keys.
fn turned(block: &Block, context: &Context, layer: Layer, branch: Branch, x: Tensor) -> Tensor {
    if branch == Branch::Value {
        return x;
    }
    let attention = &context.spec.attention;
    let normed = match &block.query_key_norm {
        None => x,
        Some(norms) => head_norm(&norms[branch.index()], attention.query_key_norm, context.rules, &x),
    };
    match attention.layers[layer.0].rotary {
        None => normed,
        Some(index) => context.grid.rotate(&normed, index, &attention.rotaries[index]),
    }
}

fn head_norm(norm: &Norm, which: QueryKeyNorm, rules: Rules, x: &Tensor) -> Tensor {
    if which != QueryKeyNorm::Whole {
        return norm.apply_under(rules, x); // [batch, pos, head, d_head]
    }
    let (heads, d_head) = (x.size()[2], x.size()[3]);
    // Keys repeated for each query head have the mean square of the keys themselves; only the gain must follow.
    let gain = norm.gain.as_ref().map(|gain| repeated(&gain.view([-1, d_head]), 0, heads).flatten(0, 1));
    let whole = Norm { kind: norm.kind, gain, bias: None, epsilon: norm.epsilon };
    whole.apply_under(rules, &x.flatten(2, 3)).view_as(x)
}

impl Model {
    /// The attention probabilities `[batch, head, query, key]` of a layer from queries and keys as projected,
    /// `[batch, pos, head, d_head]` (keys in the model's own number of heads or one for each query head), after a past.
    pub fn pattern(&self, layer: Layer, query: &Tensor, key: &Tensor, past: Option<&Past>) -> Tensor {
        let grid = Grid::new(&self.spec, past.map_or(0, Past::len), query.size()[1], false, self.device);
        let context = Context { spec: &self.spec, grid: &grid, past, rules: Rules::default(), shortformer: None };
        let block = &self.weights.blocks[layer.0];
        let key = match past {
            Some(past) => Tensor::cat(&[repeated(&past.keys[layer.0], 2, key.size()[2]), key.shallow_clone()], 1),
            None => key.shallow_clone(),
        }; // [batch, past + pos, .., d_head]
        let query = turned(block, &context, layer, Branch::Query, query.shallow_clone());
        pattern(&context, layer, &query, &turned(block, &context, layer, Branch::Key, key))
    }
}

/// Attention probabilities `[batch, head, query, key]`.
fn pattern(context: &Context, layer: Layer, query: &Tensor, key: &Tensor) -> Tensor {
    let attention = &context.spec.attention;
    let heads = query.size()[2];
    let query = query.transpose(1, 2); // [batch, head, pos, d_head]
    let key = repeated(key, 2, heads).transpose(1, 2); // [batch, head, key, d_head]
    let mut scores = (query * attention.scale).matmul(&key.transpose(2, 3)); // [batch, head, query, key]
    if let Some(cap) = attention.soft_cap {
        scores = (scores / cap).tanh() * cap;
    }
    if let Some(hidden) = context.grid.mask(attention.layers[layer.0].window) {
        scores = scores.masked_fill(hidden, f64::NEG_INFINITY);
    }
    scores.softmax(-1, None::<Kind>)
}

/// Softmax attention: `[batch, pos, head, d_head]`.
fn mix(context: &Context, layer: Layer, query: &Tensor, key: &Tensor, value: &Tensor, tap: &mut impl Tap) -> Tensor {
    let value = repeated(value, 2, query.size()[2]).transpose(1, 2); // [batch, head, key, d_head]
    let pattern = see(tap, Site::Pattern(layer), pattern(context, layer, query, key)); // [batch, head, query, key]
    let pattern = if context.rules.patterns { pattern.detach() } else { pattern };
    pattern.matmul(&value).transpose(1, 2) // [batch, pos, head, d_head]
}
