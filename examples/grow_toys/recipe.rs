//! The sizes of the three models and what their training was told.

/// One model and its training.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub name: &'static str,
    pub layers: i64,
    pub heads: i64,
    /// Width of the residual stream, `d_model`.
    pub width: i64,
    pub steps: i64,
    pub peak_learning_rate: f64,
    pub weight_decay: f64,
    /// Stored as float16, to keep each file small; the accuracy reported is that of the stored weights.
    pub half: bool,
}

/// Positions that each model knows.
pub const CONTEXT: i64 = 64;
pub const WARM_UP: i64 = 200;
pub const CLIP_NORM: f64 = 1.0;
/// The weight of predicting an ordinary token, beside 1 for the answer.
pub const ORDINARY_WEIGHT: f32 = 0.03;
/// One ordinary token in so many is predicted, since the softmax over the vocabulary costs more than a layer.
pub const ORDINARY_SHARE: u32 = 4;
/// Sentences of a task that are expanded for each chapter, as far as there are so many.
pub const TAUGHT: usize = 8000;
pub const EXTRA: usize = 2000;
pub const HELD_OUT: usize = 500;
/// Steps between two checkpoints; each chapter has fresh sentences.
pub const CHAPTER: i64 = 500;

/// Sentences of a task in one step: those that are learned last get more, the longest fewer.
pub fn share(task: &str) -> usize {
    match task {
        "ioi" => 18,
        "greater-than" => 12,
        "docstring" => 3,
        _ => 5,
    }
}

pub const RECIPES: [Recipe; 3] = [
    Recipe {
        name: "toy-2l",
        layers: 2,
        heads: 4,
        width: 64,
        steps: 4000,
        peak_learning_rate: 3e-3,
        weight_decay: 0.2,
        half: false,
    },
    Recipe {
        name: "toy-4l",
        layers: 4,
        heads: 4,
        width: 128,
        steps: 3000,
        peak_learning_rate: 2e-3,
        weight_decay: 0.4,
        half: false,
    },
    Recipe {
        name: "toy-6l",
        layers: 6,
        heads: 8,
        width: 224,
        steps: 1500,
        peak_learning_rate: 1e-3,
        weight_decay: 0.4,
        half: true,
    },
];

impl Recipe {
    /// Linear warm-up, then half a cosine down to a twentieth of the peak.
    pub fn learning_rate(&self, step: i64, since_start: i64) -> f64 {
        let warm = ((since_start + 1) as f64 / WARM_UP as f64).min(1.0);
        let progress = step as f64 / self.steps as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.peak_learning_rate * warm * (0.05 + 0.95 * cosine)
    }
}
