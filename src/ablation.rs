//! What an ablated part of the model carries in place of its own value.

use crate::error::{Hint, nearest};
use std::fmt;
use std::str::FromStr;

/// How parts of the model outside of a circuit are ablated. Where attention or MLPs add up (the residual stream), positions
/// and output biases belong to no part and always stay.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Ablation {
    /// What the part carries on the corrupt prompt at the same position (interchange, resample or patching ablation).
    #[default]
    Counterfactual,
    /// Nothing.
    Zero,
    /// Its mean over all tokens of the clean prompts of the reference pairs, one vector for every position.
    Mean,
    /// Its mean at the same position, counted from the start, over the clean prompts that are long enough. Positions that
    /// none of them has get [`Ablation::Mean`].
    MeanPositional,
    /// The vector, one for every position, with which the model without this part stays as near as possible to the whole
    /// model: Li and Janson, "Optimal ablation for interpretability", arXiv:2409.09951.
    Optimal,
}

impl Ablation {
    pub const ALL: [Ablation; 5] =
        [Ablation::Counterfactual, Ablation::Zero, Ablation::Mean, Ablation::MeanPositional, Ablation::Optimal];

    pub fn name(self) -> &'static str {
        match self {
            Ablation::Counterfactual => "counterfactual",
            Ablation::Zero => "zero",
            Ablation::Mean => "mean",
            Ablation::MeanPositional => "mean-positional",
            Ablation::Optimal => "optimal",
        }
    }
}

impl fmt::Display for Ablation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no ablation has.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no ablation is called `{0}`")]
pub struct UnknownAblation(String);

impl Hint for UnknownAblation {
    fn hint(&self) -> Option<String> {
        let names = Ablation::ALL.map(Ablation::name);
        Some(match nearest(&self.0, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the ablations are {}", names.join(", ")),
        })
    }
}

impl FromStr for Ablation {
    type Err = UnknownAblation;

    fn from_str(text: &str) -> Result<Ablation, UnknownAblation> {
        let named = Ablation::ALL.into_iter().find(|ablation| ablation.name() == text);
        named.ok_or_else(|| UnknownAblation(text.to_owned()))
    }
}
