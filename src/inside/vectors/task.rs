//! Task vectors: the state at the end of a prompt with examples, put in the place of that of a prompt without (Hendel et al.,
//! arXiv:2310.15916).
//!
//! θ_l = output of block l at the last position of examples and a query that is not the one asked, here the mean over several
//! draws (one draw is the paper's). In a prompt without examples it replaces the output of block l at the last position; l is
//! chosen on pairs of its own. The contrast of θ_l with the same under corrupt labels is a difference of means between a prompt that shows the relation
//! and one that does not, and is added instead; only prompts that are answered right count. Cost: a forward a draw, and a token through the blocks above l for every layer and prompt.

use super::VectorError;
use super::function::{Found, Use, tested};
use super::in_context::{Asked, Lesson, Pair, Split};
use crate::inside::column::Column;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// What is made of the states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// θ, which replaces a state.
    State,
    /// θ less the same with corrupt labels, which is added to a state.
    Contrast,
}

/// The task vector of a list of pairs, from so many draws of examples.
///
/// # Errors
/// [`VectorError`].
pub fn make(
    lesson: &Lesson,
    pairs: &[Pair],
    kept: Kept,
    prompts: usize,
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Found, VectorError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let split = Split::new(pairs, lesson.shots, &mut random)?;
    let states = |prompt: &Asked| -> Result<Tensor, VectorError> {
        Ok(Tensor::stack(&Column::new(lesson.model, &prompt.encoded.0)?.residual[1..], 0)) // [layer, d_model]
    };
    let mut outputs = Vec::new();
    if kept == Kept::Contrast {
        for examples in lesson.answered_right(&split.make, prompts, &mut random, progress)? {
            outputs.push(states(&examples.clean)? - states(&examples.corrupt)?);
        }
    }
    while outputs.len() < prompts && kept == Kept::State {
        progress(outputs.len() as f64 / prompts as f64);
        let query = split.make[(random.next_u64() % split.make.len() as u64) as usize];
        outputs.push(states(&lesson.with_examples(query, &split.make, &mut random)?.clean)?);
    }
    let means = Tensor::stack(&outputs, 0).mean_dim(0, false, Kind::Double).to_device(Device::Cpu); // [layer, d_model]
    let how = if kept == Kept::State { Use::Replace } else { Use::Add };
    let found = tested(lesson, &split, &means, how, seed, &mut random)?;
    Ok(Found { made_from: outputs.len(), ..found })
}
