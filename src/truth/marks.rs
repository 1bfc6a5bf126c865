//! How well scores tell a compiled model's true edges from the others.

use super::Known;
use crate::compare::reference::agreement;
use crate::graph::scores::Scores;

/// Scores below this share of the largest are rounding, and as good as 0.
///
/// Where a step of an MLP is flat, two gradients cancel and leave some 1e-8 of the largest score. Other edges have 0, so what is
/// left would rank above them by accident.
const ROUNDING: f32 = 1e-6;

/// Numbers from 0 to 1; edges are ranked by |score|.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Marks {
    /// The probability that a true edge ranks above another one, equal ranks counting half.
    pub auroc: f64,
    /// The mean precision at each true edge.
    pub average_precision: f64,
    /// The share of true edges among the strongest ones, as many as there are true edges: precision and recall of that
    /// circuit. Of edges that are equal at its border each is in it to the same degree.
    pub precision: f64,
}

/// The marks of scores of all edges.
pub fn marks(known: &Known, scores: &Scores) -> Marks {
    let largest = scores.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
    let least = largest * ROUNDING;
    let rounded = Scores { values: scores.values.mapv(|score| if score.abs() < least { 0.0 } else { score }) };
    let [edges, _] = agreement(&known.graph, &known.truth, Some(&rounded), &known.truth);
    // Every compiled model has true edges and others, and every edge has a score.
    edges.ranking.map_or(Marks { auroc: 0.5, average_precision: 0.0, precision: 0.0 }, |ranking| Marks {
        auroc: ranking.auroc,
        average_precision: ranking.average_precision,
        precision: ranking.precision_at_wanted,
    })
}
