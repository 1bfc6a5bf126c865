//! From scores to a circuit: how many edges, and which of them can still go.
//!
//! Selection by itself never calls the model and evaluation never changes a circuit; this module is where the two meet.

pub mod held_out;
pub mod minimise;
pub mod parts;
pub mod resampled;
pub mod search;

use crate::circuit::EdgeMask;
use crate::circuit::consistent::{of_share, with_scores};
use crate::circuit::net_value::net_value;
use crate::circuit::nodes::size;
use crate::circuit::prune::prune;
use crate::circuit::select::{self, Rank, SelectError};
use crate::error::Hint;
use crate::eval::Bench;
use crate::eval::bench::mean;
use crate::eval::bootstrap::faithfulness_with_error;
use crate::graph::scores::Scores;
use crate::graph::{Graph, Level};
use parts::Parts;

/// How edges are ranked when a number of them is taken.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ranking {
    /// By |score|.
    Absolute,
    /// By score: only edges that help come early.
    Signed,
    /// The best edge into any node already reached, from the logits downwards.
    Greedy,
    /// The connected circuit that is worth most when its edges and nodes are paid for; a node costs as much as so many edges.
    NetValue { node_price: f64 },
    /// By |score| among the edges of each sign: so large a share help.
    OfShare { positive: f64 },
}

impl Ranking {
    pub fn name(self) -> &'static str {
        match self {
            Ranking::Absolute | Ranking::OfShare { .. } => "absolute",
            Ranking::Signed => "signed",
            Ranking::Greedy => "greedy",
            Ranking::NetValue { .. } => "net-value",
        }
    }

    /// What makes a part better where parts are taken for themselves.
    fn rank(self) -> Rank {
        match self {
            Ranking::Signed => Rank::Signed,
            Ranking::Absolute | Ranking::Greedy | Ranking::NetValue { .. } | Ranking::OfShare { .. } => Rank::Absolute,
        }
    }

    /// The first `edges` edges of the ranking, with dead ends. Edges whose score is no number are left out.
    ///
    /// # Errors
    /// [`SelectError`] for no edges or more than the graph has.
    pub fn take(self, graph: &Graph, scores: &Scores, edges: usize) -> Result<EdgeMask, SelectError> {
        let taken = match self {
            Ranking::Absolute => select::top_n(graph, scores, edges, Rank::Absolute),
            Ranking::Signed => select::top_n(graph, scores, edges, Rank::Signed),
            Ranking::Greedy => select::greedy(graph, scores, edges),
            Ranking::NetValue { node_price } => net_value(graph, scores, edges, Rank::Absolute, node_price),
            Ranking::OfShare { positive } => of_share(graph, scores, edges, positive),
        };
        Ok(with_scores(graph, scores, taken?))
    }
}

/// What a node costs in edges by default, with [`Ranking::NetValue`].
pub const NODE_PRICE: f64 = 2.0;

/// What ends the selection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    /// The smallest circuit that is at least this faithful.
    Faithfulness(f64),
    /// This many edges or nodes.
    Size(usize),
    /// This share of all edges gone.
    Sparsity(f64),
    /// Every edge or node whose |score| (score, if ranked by sign) is at least this.
    Threshold(f64),
}

impl Goal {
    /// The same selection from other scores, with dead ends, without runs of the model: as many as were `ranked`, or those that
    /// reach the threshold.
    ///
    /// # Errors
    /// [`SelectError`] for none or more than there are.
    pub fn again(self, parts: &Parts, ranking: Ranking, ranked: usize) -> Result<EdgeMask, SelectError> {
        match self {
            Goal::Threshold(threshold) => Ok(parts.threshold(ranking, threshold as f32)),
            Goal::Size(_) | Goal::Sparsity(_) | Goal::Faithfulness(_) => parts.take(ranking, ranked),
        }
    }
}

/// Why no circuit could be selected.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    #[error("corrupting the prompts changes the metric by only {change:.3e}, so faithfulness has no meaning")]
    NoEffect { change: f64 },
    #[error("no circuit of any size reaches faithfulness {target}")]
    OutOfReach { target: f64 },
    #[error("no {level} has a score of at least {threshold}")]
    NothingAbove { level: Level, threshold: f64, largest: f32 },
    #[error("the selected edges hold no path from the input to the logits")]
    Empty { ranking: Ranking },
    #[error(transparent)]
    Select(#[from] SelectError),
}

impl Hint for DiscoverError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            DiscoverError::NoEffect { .. } => {
                "the model may not do this task: look at `accuracy_model`, or try another --corruption".into()
            }
            DiscoverError::OutOfReach { .. } => "ask for less, or take more --pairs so that the margin shrinks".into(),
            DiscoverError::NothingAbove { largest, .. } => format!("the largest score is {largest:.3e}"),
            DiscoverError::Empty { ranking: Ranking::Greedy | Ranking::NetValue { .. } } => "take more edges".into(),
            DiscoverError::Empty { .. } => {
                "take more edges, or `--rank greedy`, which stays connected to the logits".into()
            }
            DiscoverError::Select(error) => return error.hint(),
        })
    }
}

/// A selected circuit.
pub struct Selected {
    pub circuit: EdgeMask,
    /// How many edges the ranking gave before pruning and refining.
    pub ranked: usize,
}

/// Selects a circuit on the pairs of `bench`. `progress` is told what is being done.
///
/// # Errors
/// [`DiscoverError`] where the goal cannot be met.
pub fn discover(
    parts: &Parts,
    bench: &Bench,
    goal: Goal,
    ranking: Ranking,
    refine: bool,
    progress: &mut dyn FnMut(&str),
) -> Result<Selected, DiscoverError> {
    let (graph, level) = (parts.graph, parts.level);
    let of_size = |size: usize| -> Result<Selected, SelectError> {
        let ranked = if refine { parts.fill(ranking, size)? } else { size };
        Ok(Selected { circuit: prune(graph, &parts.take(ranking, ranked)?), ranked })
    };
    let selected = match goal {
        Goal::Size(size) => of_size(size)?,
        Goal::Sparsity(sparsity) => of_size(select::edges_left(graph, sparsity))?,
        Goal::Threshold(threshold) => {
            let mask = parts.threshold(ranking, threshold as f32);
            if mask.count() == 0 {
                let largest = parts.scores.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
                return Err(DiscoverError::NothingAbove { level, threshold, largest });
            }
            Selected { ranked: size(level, &mask), circuit: prune(graph, &mask) }
        }
        Goal::Faithfulness(target) => {
            let judge = Judge::new(bench, target)?;
            let found = search::smallest(parts, ranking, &judge, progress)?;
            let circuit =
                if refine { minimise::minimise(parts, &found.circuit, &judge, progress) } else { found.circuit };
            Selected { circuit, ranked: found.ranked }
        }
    };
    if selected.circuit.count() == 0 {
        return Err(DiscoverError::Empty { ranking });
    }
    Ok(selected)
}

/// Says whether a circuit is faithful enough, with a margin for having seen only some pairs.
pub struct Judge<'a> {
    bench: &'a Bench<'a>,
    model: Vec<f64>,
    ablated: Vec<f64>,
    target: f64,
}

/// How many standard errors the faithfulness must lie above the target: one-sided 95 %. Without it, a circuit that is
/// pruned until it just reaches the target falls below it on fresh pairs half of the time.
pub const MARGIN: f64 = 1.645;

impl<'a> Judge<'a> {
    /// # Errors
    /// [`DiscoverError::NoEffect`] when corruption does not move the metric.
    pub fn new(bench: &'a Bench<'a>, target: f64) -> Result<Judge<'a>, DiscoverError> {
        let (model, ablated) = (bench.clean().metric.clone(), bench.ablated().metric.clone());
        let change = mean(&model) - mean(&ablated);
        if change.abs() < 1e-6 {
            return Err(DiscoverError::NoEffect { change });
        }
        Ok(Judge { bench, model, ablated, target })
    }

    /// Whether the circuit's faithfulness lies [`MARGIN`] standard errors above the target.
    pub fn accepts(&self, circuit: &EdgeMask) -> bool {
        let [value, error] = faithfulness_with_error(&self.bench.circuit(circuit).metric, &self.ablated, &self.model);
        value - MARGIN * error >= self.target
    }
}
