//! The smallest circuit of features that is faithful enough: sizes of the ranking first, then nodes are removed, weakest first,
//! until no single one can go.
//!
//! A circuit is faithful enough when its faithfulness lies [`crate::discover::MARGIN`] standard errors above the target on the
//! pairs that choose it, as for circuits of edges.

use super::runs::Runs;
use super::scores::Scored;
use super::{Kept, Node};
use crate::discover::MARGIN;
use crate::eval::bench::mean;
use crate::eval::bootstrap::faithfulness_with_error;

/// The step from one size to the next.
const GROWTH: f64 = 1.25;

/// Why there is no circuit.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum SearchError {
    #[error(
        "the dictionaries' sites carry nothing of the task: with the corrupt prompts' values there the metric changes by {change:.1e}"
    )]
    NoEffect { change: f64 },
    #[error("not even all {nodes} nodes that differ between clean and corrupt prompts reach faithfulness {target}")]
    OutOfReach { nodes: usize, target: f64 },
    #[error("{asked} nodes are asked for, and {nodes} differ between clean and corrupt prompts")]
    TooMany { asked: usize, nodes: usize },
}

impl crate::error::Hint for SearchError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            SearchError::NoEffect { .. } => "take a dictionary of a layer that the task passes through".into(),
            SearchError::OutOfReach { .. } => "choose on more --pairs, or ask for less --faithfulness".into(),
            SearchError::TooMany { .. } => "ask for fewer".into(),
        })
    }
}

/// The first `size` nodes of a ranking.
///
/// # Errors
/// [`SearchError::TooMany`].
pub fn of_size(ranked: &[Scored], size: usize) -> Result<Kept, SearchError> {
    if size > ranked.len() {
        return Err(SearchError::TooMany { asked: size, nodes: ranked.len() });
    }
    Ok(ranked[..size].iter().map(|scored| scored.node).collect())
}

/// The smallest circuit, of nodes by |score|, that reaches the target; `progress` is told what is being done.
///
/// # Errors
/// [`SearchError`].
pub fn smallest(
    runs: &Runs,
    ranked: &[Scored],
    target: f64,
    progress: &mut dyn FnMut(&str),
) -> Result<Kept, SearchError> {
    let (model, ablated) = (&runs.clean.metric, &runs.ablated.metric);
    let change = mean(model) - mean(ablated);
    if change.abs() < 1e-6 {
        return Err(SearchError::NoEffect { change });
    }
    let accepts = |kept: &Kept| {
        let [value, error] = faithfulness_with_error(&runs.circuit(kept).metric, ablated, model);
        value - MARGIN * error >= target
    };
    let (mut refused, mut size) = (0, 1.min(ranked.len()));
    loop {
        progress(&format!("trying the best {size} nodes"));
        if accepts(&of_size(ranked, size)?) {
            break;
        }
        if size == ranked.len() {
            return Err(SearchError::OutOfReach { nodes: size, target });
        }
        refused = size;
        size = ((size as f64 * GROWTH).ceil() as usize).max(size + 1).min(ranked.len());
    }
    while size - refused > 1 {
        let middle = refused + (size - refused) / 2;
        progress(&format!("trying the best {middle} nodes"));
        if accepts(&of_size(ranked, middle)?) { size = middle } else { refused = middle }
    }
    let mut kept = of_size(ranked, size)?;
    let mut group = (size / 4).max(1);
    loop {
        let weakest_first: Vec<Node> =
            ranked.iter().rev().map(|scored| scored.node).filter(|node| kept.contains(node)).collect();
        let mut removed = false;
        for nodes in weakest_first.chunks(group) {
            progress(&format!("removing nodes, {} left", kept.len()));
            let mut smaller = kept.clone();
            smaller.retain(|node| !nodes.contains(node));
            if accepts(&smaller) {
                kept = smaller;
                removed = true;
            }
        }
        match (removed, group) {
            (false, 1) => return Ok(kept),
            (_, 1) => {}
            _ => group = (group / 2).max(1),
        }
    }
}
