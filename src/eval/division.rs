//! How much memory running circuits takes, and how the pairs are divided so that it fits.
//!
//! The corrupt runs of all pairs are kept between circuits where there is room. Where there is not, each circuit runs them
//! anew, batch by batch: about twice the time, and memory that does not grow with the number of pairs.

use crate::measure::memory::{MemoryError, Sizes};
use crate::model::spec::Spec;
use tch::Device;

/// What is kept of the corrupt runs from one circuit to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// What every source wrote.
    Written,
    /// What the pass recorded, from which that is computed again at each circuit.
    Recorded,
    Nothing,
}

/// How circuits are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Division {
    /// Pairs run at once.
    pub pairs: usize,
    pub keep: Keep,
    /// The peak of all of it, weights included, in bytes.
    pub bytes: usize,
}

/// What all sources wrote in all corrupt runs is kept while it takes no more than this.
const WRITTEN_BYTES: usize = 1 << 30;

/// The division with the most kept, then the most pairs at once, whose peak stays within `limit` bytes. `pairs`: how many
/// there are.
///
/// # Errors
/// [`MemoryError::Limit`] when one pair at a time with nothing kept takes more.
pub fn divide(sizes: &Sizes, pairs: usize, limit: usize, device: Device) -> Result<Division, MemoryError> {
    let most = sizes.most_pairs(device).min(pairs).max(1);
    let written = written(sizes, pairs) * sizes.number <= WRITTEN_BYTES;
    // Expanding what was recorded costs little, so it is not worth smaller batches; running anew is worse than those.
    let choices = [if written { &[Keep::Written, Keep::Recorded][..] } else { &[Keep::Recorded] }, &[Keep::Nothing]];
    for keeps in choices {
        let mut at_once = most;
        loop {
            for &keep in keeps {
                let bytes = peak(sizes, keep, pairs, at_once);
                if bytes <= limit {
                    return Ok(Division { pairs: at_once, keep, bytes });
                }
            }
            if at_once == 1 {
                break;
            }
            at_once = at_once.div_ceil(2);
        }
    }
    Err(MemoryError::Limit { least: peak(sizes, Keep::Nothing, pairs, 1), limit })
}

/// Numbers that all sources write for `pairs`.
fn written(sizes: &Sizes, pairs: usize) -> usize {
    pairs * sizes.positions * sizes.differences()
}

/// The peak in bytes: what is kept of all pairs, and one batch that runs a circuit or is recorded.
fn peak(sizes: &Sizes, keep: Keep, pairs: usize, at_once: usize) -> usize {
    let Spec { d_model, heads, vocab_out, .. } = *sizes.spec;
    let recorded = |pairs: usize| {
        pairs * sizes.positions * sizes.recorded() + sizes.prefix(pairs) // the corrupt run and the shared keys and values
    };
    let kept = pairs * vocab_out // the clean distributions, for KL
        + match keep {
            Keep::Written => recorded(pairs) + written(sizes, pairs),
            Keep::Recorded => recorded(pairs),
            Keep::Nothing => recorded(at_once),
        };
    // Every head reads an input of its own: as carried, with the rest of the residual stream, normed, and turned for the
    // product. Where a norm follows the attention, sums of heads are normed for each of them besides.
    let copies = if sizes.spec.placement.after() { 8 } else { 5 };
    let running = at_once * sizes.positions * (sizes.differences() + copies * heads * d_model + sizes.graph());
    let recording = recorded(at_once) + written(sizes, if keep == Keep::Written { at_once } else { 0 });
    let [widened_block, widened_head] = sizes.widened_matrices();
    let logits = 5 * at_once * vocab_out;
    sizes.bytes(kept + running.max(recording) + logits.max(widened_block).max(widened_head))
}
