//! What a dictionary does to its input before it encodes, and undoes after it has decoded, in SAELens' conventions.
//!
//! `layer_norm`: (x − mean) ÷ (σ + 1e-5) with the unbiased σ, undone by · σ + mean without the 1e-5; `constant_norm_rescale`: every
//! vector to length √width; `expected_average_only_in`: one factor for all.

use super::record::Normalize;
use tch::{Kind, Tensor};

/// Statistics of some values `[.., width]`.
pub struct Scale {
    shift: Option<Tensor>, // [.., 1]
    divide: Option<Tensor>,
    multiply: Option<Tensor>,
}

impl Scale {
    pub fn of(normalize: Normalize, x: &Tensor) -> Scale {
        match normalize {
            Normalize::None => Scale { shift: None, divide: None, multiply: None },
            Normalize::LayerNorm => {
                let mean = x.mean_dim(-1, true, None::<Kind>); // [.., 1]
                let deviation = (x - &mean).std_dim(-1, true, true); // [.., 1]
                Scale { shift: Some(mean), divide: Some(&deviation + 1e-5), multiply: Some(deviation) }
            }
            Normalize::ConstantNormRescale => {
                let width = x.size().last().copied().unwrap_or(1) as f64;
                let length = x.square().sum_dim_intlist(-1, true, None::<Kind>).sqrt(); // [.., 1]
                let ratio = length.clamp_min(1e-12) / width.sqrt();
                Scale { shift: None, divide: Some(ratio.shallow_clone()), multiply: Some(ratio) }
            }
            Normalize::ExpectedAverageOnlyIn { factor } => {
                let ratio = x.new_full([1], 1.0 / factor, (x.kind(), x.device()));
                Scale { shift: None, divide: Some(ratio.shallow_clone()), multiply: Some(ratio) }
            }
        }
    }

    pub fn apply(&self, x: &Tensor) -> Tensor {
        let centred = self.shift.as_ref().map_or_else(|| x.shallow_clone(), |shift| x - shift);
        self.divide.as_ref().map_or_else(|| centred.shallow_clone(), |divide| &centred / divide)
    }

    pub fn undo(&self, y: &Tensor) -> Tensor {
        let y = self.undo_change(y);
        self.shift.as_ref().map_or_else(|| y.shallow_clone(), |shift| &y + shift)
    }

    /// A difference has no shift.
    pub fn undo_change(&self, y: &Tensor) -> Tensor {
        self.multiply.as_ref().map_or_else(|| y.shallow_clone(), |multiply| y * multiply)
    }
}
