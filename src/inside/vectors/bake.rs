//! Directional ablation as weights: a model that cannot write a direction into its residual stream.
//!
//! W ← W − (W r̂) r̂ᵀ for all that writes: token embedding, learned positions, output projections of attention and MLP, and their
//! biases (Arditi et al., arXiv:2406.11717, section 4.1, which has no biases and no positions). The same as the edits
//! `L*.in`, `L*.attn`, `L*.mlp` and `L*`, each `= project 0*r`; `L0.in` because there the positions have been added. The
//! unembedding stays, also where it was the token embedding. Not possible where a norm follows the output projections (Gemma 2
//! and 3, OLMo 2): it divides by a length that the removed direction is part of.

use crate::error::Hint;
use crate::intervene::address::{Address, Numbers, Part, Place, Whole};
use crate::intervene::plan::{Edit, Plan, Verb};
use crate::model::Model;
use crate::model::spec::{Positions, Spec};
use crate::model::weights::{Linear, wide};
use tch::{Kind, Tensor};

/// Why a direction cannot be taken out of the weights.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    #[error(
        "in this model a norm follows the output projections, so no change of weights is the same as removing a direction"
    )]
    NormAfter,
    #[error("the vector has {length} numbers, and the model's residual stream {width}")]
    Width { length: usize, width: usize },
    #[error("the vector is zero or not finite, and so has no direction")]
    NoDirection,
}

impl Hint for BakeError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            BakeError::NormAfter => "remove it in a run: --edit \"L*.attn = project 0*r\", and so on".into(),
            BakeError::Width { .. } => "take a vector of the residual stream of this model".into(),
            BakeError::NoDirection => "make the vector anew".into(),
        })
    }
}

/// The edits that remove the vector `name` wherever the residual stream is written.
pub fn removed_everywhere(spec: &Spec, name: &str) -> Plan {
    let parts = [Whole::In, Whole::Attention, Whole::Mlp, Whole::Out];
    let edit = |part: Whole| Edit {
        target: Address { place: Place::Layers(Numbers::All, Part::Whole(part)), position: None },
        verb: Verb::Project(0.0, name.to_owned()),
    };
    Plan { edits: parts.into_iter().filter(|part| *part != Whole::Mlp || spec.mlp.is_some()).map(edit).collect() }
}

/// Takes a direction `[d_model]` out of all that a model writes.
///
/// # Errors
/// [`BakeError`]; the model is then as it was.
pub fn bake(model: &mut Model, direction: &Tensor) -> Result<(), BakeError> {
    let (length, width) = (direction.numel(), model.spec.d_model);
    if model.spec.placement.after() {
        return Err(BakeError::NormAfter);
    }
    if direction.dim() != 1 || length != width {
        return Err(BakeError::Width { length, width });
    }
    let direction = direction.to_kind(Kind::Double).to_device(model.device);
    let norm = direction.norm().double_value(&[]);
    if !norm.is_finite() || norm == 0.0 {
        return Err(BakeError::NoDirection);
    }
    let unit = direction / norm; // [d_model]
    let _no_grad = tch::no_grad_guard();
    let positions_are_written = model.spec.positions == Positions::Learned;
    let weights = &mut model.weights;
    weights.token_embedding = without(&weights.token_embedding, &unit);
    if let Some(table) = weights.position_embedding.as_mut().filter(|_| positions_are_written) {
        *table = without(table, &unit);
    }
    for block in &mut weights.blocks {
        let mlp = block.mlp.as_mut().map(|mlp| &mut mlp.output);
        for Linear { weight, bias } in [Some(&mut block.attention_out), mlp].into_iter().flatten() {
            *weight = without(weight, &unit);
            if let Some(bias) = bias {
                *bias = without(bias, &unit);
            }
        }
    }
    Ok(())
}

/// Rows `[.., d_model]` without what they have along a unit vector, in the type that is computed in: rounded to half precision
/// they would have some of it again.
fn without(rows: &Tensor, unit: &Tensor) -> Tensor {
    let exact = rows.to_kind(Kind::Double);
    let along = exact.matmul(unit).unsqueeze(-1); // [.., 1]
    (exact - along * unit).to_kind(wide(rows).kind())
}
