//! Search over sizes: the fewest ranked edges that do.
//!
//! Faithfulness is not monotone in size, so sizes are tried on a geometric grid from below; between the first size that is
//! accepted and the last that was not, bisection finds a boundary.

use super::{DiscoverError, Judge, Ranking, Selected};
use crate::circuit::EdgeMask;
use crate::circuit::prune::prune;
use crate::circuit::select::SelectError;
use crate::graph::Graph;
use crate::graph::scores::Scores;

/// The step from one size of the grid to the next.
const GROWTH: f64 = 1.25;

/// The smallest pruned ranking that the judge accepts.
///
/// # Errors
/// [`DiscoverError::OutOfReach`] when not even all edges are accepted.
pub fn smallest(
    graph: &Graph,
    scores: &Scores,
    ranking: Ranking,
    judge: &Judge,
    progress: &mut dyn FnMut(&str),
) -> Result<Selected, DiscoverError> {
    let mut attempt = |edges: usize| -> Result<(EdgeMask, bool), DiscoverError> {
        progress(&format!("trying the best {edges} edges"));
        let circuit = prune(graph, &ranking.take(graph, scores, edges)?);
        let accepted = circuit.count() > 0 && judge.accepts(&circuit);
        Ok((circuit, accepted))
    };
    let (mut refused, mut size) = (0, 1);
    let mut best = loop {
        let (circuit, accepted) = attempt(size)?;
        if accepted {
            break Selected { circuit, ranked: size };
        }
        if size == graph.edge_count() {
            return Err(DiscoverError::OutOfReach { target: judge.target });
        }
        refused = size;
        size = ((size as f64 * GROWTH).ceil() as usize).max(size + 1).min(graph.edge_count());
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

/// How many ranked edges to take so that, with dead ends pruned, at most `edges` are left, and as many as possible.
///
/// # Errors
/// [`SelectError`] for no edges or more than the graph has.
pub fn fill(graph: &Graph, scores: &Scores, ranking: Ranking, edges: usize) -> Result<usize, SelectError> {
    ranking.take(graph, scores, edges)?;
    let left = |taken: usize| Ok(prune(graph, &ranking.take(graph, scores, taken)?).count());
    // The pruned size grows with the number taken, so the last size that fits can be bisected.
    let (mut fits, mut too_many) = (edges, graph.edge_count() + 1);
    while too_many - fits > 1 {
        let middle = fits + (too_many - fits) / 2;
        if left(middle)? <= edges { fits = middle } else { too_many = middle }
    }
    Ok(fits)
}
