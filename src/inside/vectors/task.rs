//! Task vectors: the state at the end of a prompt with examples, put in the place of that of a prompt without (Hendel et al.,
//! arXiv:2310.15916).
//!
//! θ_l = output of block l at the last position of examples and a query that is not the one asked, here the mean over several
//! draws (one draw is the paper's). In a prompt without examples it replaces the output of block l at the last position; l is
//! chosen on pairs of its own. Cost: a forward a draw, and a token through the blocks above l for every layer and prompt.

use super::VectorError;
use super::function::{Found, Use, tested};
use super::in_context::{Lesson, Pair, Split};
use crate::inside::column::Column;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// The task vector of a list of pairs, from so many draws of examples.
///
/// # Errors
/// [`VectorError`].
pub fn make(
    lesson: &Lesson,
    pairs: &[Pair],
    prompts: usize,
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Result<Found, VectorError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let split = Split::new(pairs, lesson.shots, &mut random)?;
    let mut outputs = Vec::new();
    for index in 0..prompts {
        progress(index as f64 / prompts as f64);
        let query = split.make[(random.next_u64() % split.make.len() as u64) as usize];
        let examples = lesson.with_examples(query, &split.make, &mut random)?;
        let column = Column::new(lesson.model, &examples.clean.encoded.0)?;
        outputs.push(Tensor::stack(&column.residual[1..], 0)); // [layer, d_model]
    }
    let means = Tensor::stack(&outputs, 0).mean_dim(0, false, Kind::Double).to_device(Device::Cpu); // [layer, d_model]
    let found = tested(lesson, &split, &means, Use::Replace, seed, &mut random)?;
    Ok(Found { made_from: prompts, ..found })
}
