//! The transformer. Every [`Site`] is announced here (those of the attention in `attention.rs`) and nowhere else.

use super::attention::{Context, attention};
use super::grid::Grid;
use super::rules::Rules;
use super::site::Site;
use super::spec::{Activation, Branch, Layer, Positions};
use super::tap::Tap;
use super::weights::{Block, Model, wide};
use tch::Tensor;

/// Where a pass begins.
pub enum Start<'a> {
    /// At the token ids `[batch, pos]` (i64).
    Tokens(&'a Tensor),
    /// At the residual stream `[batch, pos, d_model]` that enters a layer: for passes that share all that lies below.
    Residual { layer: Layer, value: Tensor },
}

/// Which positions get logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    Last,
    All,
}

/// How a pass runs.
pub struct Pass<'a> {
    /// Keys and values of the positions before this pass's first one.
    pub past: Option<&'a Past>,
    pub read: Read,
    /// Whether the positions of this pass are variants of the one that follows the past: none sees another.
    pub variants: bool,
    /// How gradients are taken, if any are.
    pub rules: Rules,
}

impl Pass<'_> {
    /// A whole prompt, logits at its last position.
    pub const LAST: Pass<'static> = Pass::after(None);
    /// A whole prompt, logits everywhere.
    pub const ALL: Pass<'static> = Pass { read: Read::All, ..Pass::LAST };
}

impl<'a> Pass<'a> {
    /// What follows a prefix, logits at its last position.
    pub const fn after(past: Option<&'a Past>) -> Pass<'a> {
        let rules = Rules { norms: false, activations: false, products: false, patterns: false };
        Pass { past, read: Read::Last, variants: false, rules }
    }
}

/// Keys and values of a prefix as projected, one `[batch, prefix, kv_head, d_head]` a layer.
pub struct Past {
    pub keys: Vec<Tensor>,
    pub values: Vec<Tensor>,
}

impl Past {
    /// How many positions it holds.
    pub fn len(&self) -> usize {
        self.keys.first().map_or(0, |key| key.size()[1] as usize)
    }

    /// Some of its layers.
    pub fn of_layers(&self, layers: std::ops::Range<usize>) -> Past {
        let first = |all: &[Tensor]| all[layers.clone()].iter().map(Tensor::shallow_clone).collect();
        Past { keys: first(&self.keys), values: first(&self.values) }
    }

    /// Its first positions.
    pub fn first(&self, positions: usize) -> Past {
        let first = |all: &[Tensor]| all.iter().map(|one| one.narrow(1, 0, positions as i64)).collect();
        Past { keys: first(&self.keys), values: first(&self.values) }
    }

    /// With the layers of another above its own.
    pub fn above(mut self, upper: Past) -> Past {
        self.keys.extend(upper.keys);
        self.values.extend(upper.values);
        self
    }

    /// With what a later pass kept after it.
    pub fn followed_by(&self, later: &Past) -> Past {
        let join = |before: &[Tensor], after: &[Tensor]| {
            before.iter().zip(after).map(|(before, after)| Tensor::cat(&[before, after], 1)).collect()
        };
        Past { keys: join(&self.keys, &later.keys), values: join(&self.values, &later.values) }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same for so many copies of the batch, one after another.
    pub fn repeat(&self, copies: i64) -> Past {
        let many = |all: &[Tensor]| all.iter().map(|one| one.repeat([copies, 1, 1, 1])).collect();
        Past { keys: many(&self.keys), values: many(&self.values) }
    }
}

/// Shows a site to the tap, if it wants it.
pub(super) fn see(tap: &mut impl Tap, site: Site, value: Tensor) -> Tensor {
    if tap.wants(site) { tap.at(site, value) } else { value }
}

impl Model {
    /// Runs the model: logits `[batch, read positions, vocab_out]`.
    ///
    /// The caller keeps token ids below `spec.vocab` and the prompt (with its past) within `spec.context`.
    pub fn forward(&self, start: Start, pass: &Pass, tap: &mut impl Tap) -> Tensor {
        let residual = self.blocks(start, pass, tap); // [batch, pos, d_model]
        self.read(&residual, pass, tap)
    }

    /// The logits `[batch, read positions, vocab_out]` of the residual stream `[batch, pos, d_model]` after the last block.
    pub fn read(&self, residual: &Tensor, pass: &Pass, tap: &mut impl Tap) -> Tensor {
        let last = residual.size()[1] - 1;
        let read = match pass.read {
            Read::Last => residual.narrow(1, last, 1), // [batch, 1, d_model]
            Read::All => residual.alias(),
        };
        let read = see(tap, Site::FinalIn, read);
        let normed = self.weights.final_norm.apply_under(pass.rules, &read); // [batch, read, d_model]
        let logits = self.weights.unembedding.apply(&normed); // [batch, read, vocab_out]
        let logits = match self.spec.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        };
        see(tap, Site::Logits, logits)
    }

    /// Runs the blocks alone: the residual stream `[batch, pos, d_model]` after the last.
    pub fn blocks(&self, start: Start, pass: &Pass, tap: &mut impl Tap) -> Tensor {
        let (first, residual) = match start {
            Start::Tokens(tokens) => (0, self.embed(tokens, pass.past, tap)),
            Start::Residual { layer, value } => (layer.0, value),
        };
        self.some_blocks(first..self.spec.layers, residual, pass, tap)
    }

    /// Runs some of the blocks on the residual stream `[batch, pos, d_model]` that enters the first of them.
    pub fn some_blocks(
        &self,
        layers: std::ops::Range<usize>,
        mut residual: Tensor,
        pass: &Pass,
        tap: &mut impl Tap,
    ) -> Tensor {
        if layers.is_empty() {
            return residual;
        }
        let (pos, past) = (residual.size()[1], pass.past);
        let grid = Grid::new(&self.spec, past.map_or(0, Past::len), pos, pass.variants, self.device);
        let shortformer = match self.spec.positions {
            Positions::Shortformer => self.positions(past, if pass.variants { 1 } else { pos }), // [pos | 1, d_model]
            Positions::Learned | Positions::InAttention => None,
        };
        let context =
            Context { spec: &self.spec, grid: &grid, past, rules: pass.rules, shortformer: shortformer.as_ref() };
        for layer in layers {
            residual = block_forward(&self.weights.blocks[layer], &context, Layer(layer), residual, tap);
        }
        residual
    }

    /// The residual stream `[batch, pos, d_model]` of tokens `[batch, pos]` before the first block.
    pub fn embed(&self, tokens: &Tensor, past: Option<&Past>, tap: &mut impl Tap) -> Tensor {
        let embedded = see(tap, Site::TokenEmbedding, self.embed_tokens(tokens));
        match self.positions(past, tokens.size()[1]).filter(|_| self.spec.positions == Positions::Learned) {
            Some(positions) => embedded + positions, // [batch, pos, d_model]
            None => embedded,
        }
    }

    /// The token embedding alone: `[batch, pos, d_model]` of tokens `[batch, pos]`.
    pub fn embed_tokens(&self, tokens: &Tensor) -> Tensor {
        let embedded = wide(&Tensor::embedding(&self.weights.token_embedding, tokens, -1, false, false)); // [batch, pos, d_model]
        if self.spec.embedding_scale == 1.0 { embedded } else { embedded * self.spec.embedding_scale }
    }

    /// The learned vectors of a pass's positions: `[pos, d_model]`.
    fn positions(&self, past: Option<&Past>, pos: i64) -> Option<Tensor> {
        let offset = past.map_or(0, Past::len) as i64;
        self.weights.position_embedding.as_ref().map(|table| table.narrow(0, offset, pos))
    }
}

fn block_forward(block: &Block, context: &Context, layer: Layer, residual: Tensor, tap: &mut impl Tap) -> Tensor {
    let residual = see(tap, Site::BlockIn(layer), residual); // [batch, pos, d_model]
    let added = attention(block, context, layer, &residual, tap); // [batch, pos, d_model]
    let middle = see(tap, Site::Mid(layer), &residual + added);
    let Some((mlp, choices)) = block.mlp.as_ref().zip(context.spec.mlp) else {
        return see(tap, Site::BlockOut(layer), middle);
    };
    let rules = context.rules;
    // An alias is a node of its own: its gradient is that of the MLP branch alone.
    let input = if context.spec.parallel { residual.alias() } else { middle.alias() };
    let input = mlp.norm.apply_under(rules, &see(tap, Site::MlpIn(layer), input)); // [batch, pos, d_model]
    let after = match &mlp.gate {
        None => {
            let before = see(tap, Site::MlpPre(layer), mlp.input.apply(&input)); // [batch, pos, d_mlp]
            activate_under(rules, choices.activation, &before)
        }
        Some(gate) => {
            let before = see(tap, Site::MlpPre(layer), gate.apply(&input)); // [batch, pos, d_mlp]
            product_under(rules, &activate_under(rules, choices.activation, &before), &mlp.input.apply(&input))
        }
    };
    let after = see(tap, Site::MlpPost(layer), after); // [batch, pos, d_mlp]
    let added = see(tap, Site::MlpOut(layer), mlp.after.apply_under(rules, &mlp.output.apply(&after))); // [batch, pos, d_model]
    see(tap, Site::BlockOut(layer), middle + added)
}

fn activate_under(rules: Rules, activation: Activation, x: &Tensor) -> Tensor {
    if !rules.activations {
        return activate(activation, x);
    }
    // Where x is 0 the ratio is the limit.
    let safe = x.detach().where_scalarother(&x.abs().gt(1e-6), 1e-6);
    x * (activate(activation, &safe) / safe)
}

fn product_under(rules: Rules, a: &Tensor, b: &Tensor) -> Tensor {
    if rules.products { (a * b.detach() + a.detach() * b) * 0.5 } else { a * b }
}

fn activate(activation: Activation, x: &Tensor) -> Tensor {
    match activation {
        Activation::GeluTanh => x.gelu("tanh"),
        Activation::Gelu => x.gelu("none"),
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
    }
}

/// Records the keys and values of a pass, to become the [`Past`] of later ones.
pub struct KeepPast {
    past: Past,
}

impl Default for KeepPast {
    fn default() -> Self {
        KeepPast { past: Past { keys: Vec::new(), values: Vec::new() } }
    }
}

impl KeepPast {
    pub fn finish(self) -> Past {
        self.past
    }
}

impl Tap for KeepPast {
    fn wants(&self, site: Site) -> bool {
        matches!(site, Site::Projection(_, Branch::Key | Branch::Value))
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        match site {
            Site::Projection(_, Branch::Key) => self.past.keys.push(value.shallow_clone()),
            Site::Projection(_, Branch::Value) => self.past.values.push(value.shallow_clone()),
            _ => {}
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::NormKind;
    use crate::model::weights::Norm;
    use tch::Kind;

    const ALL: Rules = Rules { norms: true, activations: true, products: true, patterns: true };

    /// The derivative at `x` `[3]` of the sum of what `of` gives, each part of it weighted differently.
    fn slope(x: &[f64], of: impl Fn(&Tensor) -> Tensor) -> Vec<f64> {
        let x = Tensor::from_slice(x).set_requires_grad(true);
        let weighted = (of(&x) * Tensor::from_slice(&[1.0, 2.0, -4.0])).sum(Kind::Double);
        Vec::try_from(Tensor::run_backward(&[weighted], &[&x], false, false).remove(0)).unwrap()
    }

    #[track_caller]
    fn check(found: &[f64], expected: &[f64]) {
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{found:?} instead of {expected:?}");
        }
    }

    #[test]
    fn an_activation_is_its_input_times_a_constant() {
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let found = slope(&[0.5, -2.0, 3.0], |x| activate_under(ALL, Activation::Silu, x));
        check(&found, &[silu(0.5) / 0.5, 2.0 * silu(-2.0) / -2.0, -4.0 * silu(3.0) / 3.0]);
        // At 0 the ratio of a ReLU has no limit but those of smooth activations have: a half.
        let at_zero = slope(&[0.0, 0.0, 0.0], |x| activate_under(ALL, Activation::Silu, x));
        for (found, weight) in at_zero.iter().zip([1.0, 2.0, -4.0]) {
            assert!((found - 0.5 * weight).abs() < 1e-5, "{at_zero:?}");
        }
    }

    #[test]
    fn each_factor_gets_half() {
        let other = Tensor::from_slice(&[3.0, 5.0, 7.0]);
        check(&slope(&[1.0, 1.0, 1.0], |x| product_under(ALL, x, &other)), &[1.5, 5.0, -14.0]);
        check(&slope(&[1.0, 1.0, 1.0], |x| product_under(ALL, &other, x)), &[1.5, 5.0, -14.0]);
        check(&slope(&[1.0, 2.0, 3.0], |x| product_under(ALL, x, x)), &[1.0, 4.0, -12.0]);
    }

    #[test]
    fn the_scale_of_a_norm_is_constant() {
        let norm = |kind| Norm { kind, gain: Some(Tensor::from_slice(&[2.0, 1.0, 0.5])), bias: None, epsilon: 0.0 };
        // The mean square of (1, 1, 2) is 2; weights times gains are (2, 2, -2).
        let found = slope(&[1.0, 1.0, 2.0], |x| norm(NormKind::Rms).apply_under(ALL, x));
        check(&found, &[2.0, 2.0, -2.0].map(|weight| weight / 2f64.sqrt()));
        // The variance of (0, 0, 3) is 2; the mean of the weights, 2/3, goes out.
        let found = slope(&[0.0, 0.0, 3.0], |x| norm(NormKind::LayerNorm).apply_under(ALL, x));
        check(&found, &[2.0, 2.0, -2.0].map(|weight| (weight - 2.0 / 3.0) / 2f64.sqrt()));
    }
}
