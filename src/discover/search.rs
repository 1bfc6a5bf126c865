//! Search over sizes: the fewest ranked parts that do.
//!
//! Faithfulness is not monotone in size, so sizes are tried on a geometric grid from below; between the first size that is
//! accepted and the last that was not, bisection finds a boundary.

use super::parts::Parts;
use super::{DiscoverError, Judge, Ranking, Selected};
use crate::circuit::EdgeMask;
use crate::circuit::prune::prune;

/// The step from one size of the grid to the next.
const GROWTH: f64 = 1.25;

/// The smallest pruned ranking that the judge accepts.
///
/// # Errors
/// [`DiscoverError::OutOfReach`] when not even the whole model is accepted.
pub fn smallest(
    parts: &Parts,
    ranking: Ranking,
    judge: &Judge,
    progress: &mut dyn FnMut(&str),
) -> Result<Selected, DiscoverError> {
    let mut attempt = |size: usize| -> Result<(EdgeMask, bool), DiscoverError> {
        progress(&format!("trying the best {size} {}", parts.level.plural()));
        let circuit = prune(parts.graph, &parts.take(ranking, size)?);
        let accepted = circuit.count() > 0 && judge.accepts(&circuit);
        Ok((circuit, accepted))
    };
    let (mut refused, mut size) = (0, 1);
    let mut best = loop {
        let (circuit, accepted) = attempt(size)?;
        if accepted {
            break Selected { circuit, ranked: size };
        }
        if size == parts.count() {
            return Err(DiscoverError::OutOfReach { target: judge.target });
        }
        refused = size;
        size = ((size as f64 * GROWTH).ceil() as usize).max(size + 1).min(parts.count());
    };
    while best.ranked - refused > 1 {
        let middle = refused + (best.ranked - refused) / 2;
        let (circuit, accepted) = attempt(middle)?;
        if accepted {
            best = Selected { circuit, ranked: middle };
        } else {
            refused = middle;
        }
    }
    Ok(best)
}
