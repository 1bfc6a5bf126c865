//! The hard-concrete distribution of a gate z in [0, 1], which is exactly 0 and exactly 1 with probabilities of its own and
//! yet has a slope in its parameter.
//!
//! z = min(1, max(0, s (h − l) + l)), s = σ((ln u − ln(1 − u) + log α) / T), u uniform on (0, 1), with the stretch from
//! l = −0.1 to h = 1.1 and T = 2/3.
//!
//! Paper: Louizos, Welling and Kingma, "Learning Sparse Neural Networks through L0 Regularization", arXiv:1712.01312; the
//! numbers are those of Edge Pruning, arXiv:2406.16778.

/// The temperature T.
pub const TEMPERATURE: f64 = 2.0 / 3.0;
/// The stretch, l and h.
pub const STRETCH: [f64; 2] = [-0.1, 1.1];
/// How near to 0 and to 1 u may come.
pub const EPSILON: f64 = 1e-6;

/// A gate that was drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Gate {
    /// z, from 0 to 1.
    pub value: f64,
    /// ∂z / ∂log α at the same u; 0 where z is 0 or 1.
    pub slope: f64,
}

impl Gate {
    /// The gate at `uniform`, from 0 to 1.
    pub fn at(log_alpha: f64, uniform: f64) -> Gate {
        let uniform = uniform.clamp(EPSILON, 1.0 - EPSILON);
        let [low, high] = STRETCH;
        let share = sigmoid((uniform.ln() - (-uniform).ln_1p() + log_alpha) / TEMPERATURE);
        let stretched = share * (high - low) + low;
        let within = stretched > 0.0 && stretched < 1.0;
        let slope = if within { (high - low) * share * (1.0 - share) / TEMPERATURE } else { 0.0 };
        Gate { value: stretched.clamp(0.0, 1.0), slope }
    }
}

/// P(z > 0), by which an edge counts as there, and its slope in log α.
pub fn open(log_alpha: f64) -> Gate {
    let value = sigmoid(log_alpha + shift());
    Gate { value, slope: value * (1.0 - value) }
}

/// −ln P(z = 0) in nats: 0 for a gate that is surely shut, about log α for one that is open. No two log α have the same.
pub fn openness(log_alpha: f64) -> f64 {
    let x = log_alpha + shift();
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// What P(z > 0) adds to log α: −T ln(−l / h).
fn shift() -> f64 {
    let [low, high] = STRETCH;
    -TEMPERATURE * (-low / high).ln()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
