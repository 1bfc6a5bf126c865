//! What training makes small: the squared error, and what makes features few, in SAELens' conventions.
//!
//! Squared errors are sums over dimensions and means over tokens. The penalties are λ Σ f_j ‖W_dec,j‖ (ReLU), λ Σ ReLU(π_j) ‖W_dec,j‖
//! with the error of the gates' own reconstruction (gated, arXiv:2404.16014), λ Σ tanh(4 f_j ‖W_dec,j‖) with a
//! straight-through gradient for the thresholds (JumpReLU, arXiv:2407.14435; the penalty is Anthropic's of January 2025: that of the
//! paper, a count with a gradient for thresholds alone, moves too little in short trainings). TopK needs none; dead features are made to reconstruct what the living leave
//! (arXiv:2406.04093, appendix A.2). All are pure functions of tensors whose first axis is tokens.

use tch::{Kind, Tensor};

/// The width of the rectangle that stands for the derivative of JumpReLU's step.
pub const BANDWIDTH: f64 = 0.05;

/// Σ over dimensions of (x̂ − x)², mean over tokens.
pub fn squared_error(x: &Tensor, x_hat: &Tensor) -> Tensor {
    (x_hat - x).square().sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

/// The lengths of the decoder's rows: `[features]`.
pub fn row_norms(w_dec: &Tensor) -> Tensor {
    w_dec.square().sum_dim_intlist(-1, false, None::<Kind>).sqrt()
}

/// Σ f_j ‖W_dec,j‖, mean over tokens. `features` `[token, features]` are not negative.
pub fn weighted_l1(features: &Tensor, w_dec: &Tensor) -> Tensor {
    (features * row_norms(w_dec)).sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

/// 1 within half the bandwidth of the threshold, else 0.
fn rectangle(pre: &Tensor, threshold: &Tensor) -> Tensor {
    ((pre - threshold) / BANDWIDTH).abs().lt(0.5).to_kind(pre.kind()).detach()
}

/// Adds to a value the gradient of something else, whose own value it does not take.
fn with_gradient_of(value: &Tensor, surrogate: &Tensor) -> Tensor {
    value + (surrogate - surrogate.detach())
}

/// JumpReLU's features z · 1[z > θ]. The gradient for z is that of an open gate, the one for θ is −(θ/ε) rect((z − θ)/ε).
pub fn jump_relu(pre: &Tensor, threshold: &Tensor) -> Tensor {
    let open = pre.detach().gt_tensor(&threshold.detach()).to_kind(pre.kind());
    let slope = threshold.detach() * rectangle(pre, threshold) / -BANDWIDTH; // [token, features]
    with_gradient_of(&(pre.relu() * open), &(slope * threshold))
}

/// Σ tanh(4 f_j ‖W_dec,j‖), mean over tokens: nearly the number of active features, with a gradient where they are weak.
pub fn soft_count(features: &Tensor, w_dec: &Tensor) -> Tensor {
    (features * row_norms(w_dec) * 4.0).tanh().sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

/// Σ over dead features of ReLU(θ − z) ‖W_dec‖, mean over tokens: it draws them back to where they fire.
pub fn pre_activation(pre: &Tensor, threshold: &Tensor, w_dec: &Tensor, dead: &Tensor) -> Tensor {
    let below = (threshold - pre).relu() * dead.to_kind(pre.kind()) * row_norms(w_dec);
    below.sum_dim_intlist(-1, false, None::<Kind>).mean(None::<Kind>)
}

/// The dead features' error in reconstructing what is left, `residual` `[token, width]`: the width/2 largest dead pre-activations of
/// each token write it. Scaled down where fewer are dead.
pub fn auxiliary(pre: &Tensor, w_dec: &Tensor, dead: &Tensor, residual: &Tensor) -> Option<Tensor> {
    let which = dead.nonzero().view([-1]); // [dead]
    let (count, at_most) = (which.size()[0], (residual.size()[1] / 2).max(1));
    if count == 0 {
        return None;
    }
    // Of the dead alone: they are few, and the largest of many are dear.
    let (pre, rows) = (pre.index_select(-1, &which), w_dec.index_select(0, &which)); // [token, dead], [dead, width]
    let (values, indices) = pre.topk(at_most.min(count), -1, true, false);
    let features = pre.zeros_like().scatter(-1, &indices, &values); // [token, dead]
    let scale = (count as f64 / at_most as f64).min(1.0);
    Some(squared_error(&residual.detach(), &features.matmul(&rows)) * scale)
}

/// The `k` · tokens largest positive pre-activations of the batch, the others 0.
pub fn batch_top_k(pre: &Tensor, k: usize) -> Tensor {
    let flat = pre.relu().flatten(0, -1); // [token · features]
    let (values, indices) = flat.topk(k as i64 * pre.size()[0], -1, true, false);
    flat.zeros_like().scatter(-1, &indices, &values).view_as(pre)
}

/// Σ over nested prefixes but the last (which is the whole) of the squared error of what they reconstruct by themselves.
pub fn prefixes(x: &Tensor, features: &Tensor, w_dec: &Tensor, b_dec: &Tensor, ends: &[usize]) -> Tensor {
    let zero = x.new_zeros([0i64; 0], (x.kind(), x.device()));
    let inner = &ends[..ends.len().saturating_sub(1)];
    inner.iter().fold(zero, |sum, &end| {
        let end = end as i64;
        let x_hat = features.narrow(-1, 0, end).matmul(&w_dec.narrow(0, 0, end)) + b_dec;
        sum + squared_error(x, &x_hat)
    })
}
