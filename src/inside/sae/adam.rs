//! Adam (Kingma and Ba, arXiv:1412.6980) on some tensors: m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g², w ← w − η m̂ / (√v̂ + 1e-8).
//!
//! Two more numbers for each that is trained.

use tch::Tensor;

const BETAS: [f64; 2] = [0.9, 0.999];

pub struct Adam {
    moments: Vec<[Tensor; 2]>,
    steps: i32,
}

impl Adam {
    pub fn new(parameters: &[&Tensor]) -> Adam {
        let moments = parameters.iter().map(|one| [one.zeros_like(), one.zeros_like()]).collect();
        Adam { moments, steps: 0 }
    }

    /// One step against the gradients, in the order of the parameters.
    pub fn step(&mut self, parameters: &[&Tensor], gradients: &[Tensor], rate: f64) {
        let _no_grad = tch::no_grad_guard();
        self.steps += 1;
        let corrections = BETAS.map(|beta| 1.0 - beta.powi(self.steps));
        for ((parameter, gradient), [mean, square]) in parameters.iter().zip(gradients).zip(&mut self.moments) {
            let _ = mean.g_mul_scalar_(BETAS[0]).g_add_(&(gradient * (1.0 - BETAS[0])));
            let _ = square.g_mul_scalar_(BETAS[1]).g_add_(&(gradient.square() * (1.0 - BETAS[1])));
            let step = (&*mean / corrections[0]) / ((&*square / corrections[1]).sqrt() + 1e-8);
            let _ = parameter.shallow_clone().g_sub_(&(step * rate));
        }
    }
}
