//! What a backward pass takes for constant: the rules of layer-wise relevance propagation. Values never change.

/// Rules under which gradients are taken (RelP, Jafari et al., arXiv:2508.21258). By default none: true gradients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// LN-rule: the scale of every norm is constant.
    pub norms: bool,
    /// Identity-rule: an activation f(x) is x times the constant f(x) / x.
    pub activations: bool,
    /// Half-rule: of a product of two inputs, each gets half of the gradient.
    pub products: bool,
    /// AH-rule: attention patterns are constant.
    pub patterns: bool,
}
