//! How well scores tell a compiled model's true edges from the others.

use super::Known;
use crate::compare::reference::agreement;
use crate::graph::Edge;
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
    let rounded = rounded(scores);
    let [edges, _] = agreement(&known.graph, &known.truth, Some(&rounded), &known.truth);
    // Every compiled model has true edges and others, and every edge has a score.
    edges.ranking.map_or(Marks { auroc: 0.5, average_precision: 0.0, precision: 0.0 }, |ranking| Marks {
        auroc: ranking.auroc,
        average_precision: ranking.average_precision,
        precision: ranking.precision_at_wanted,
    })
}

/// The true edges that are not for certain among the strongest ones, as many as there are true edges.
pub fn missed(known: &Known, scores: &Scores) -> Vec<Edge> {
    let rounded = rounded(scores);
    let size = |edge: &Edge| rounded.get(*edge).abs();
    let beaten = |edge: &Edge| {
        let at_least = known.graph.edges().iter().filter(|other| size(other) >= size(edge));
        at_least.count() > known.truth.count()
    };
    known.truth.edges(&known.graph).into_iter().filter(beaten).collect()
}

fn rounded(scores: &Scores) -> Scores {
    let largest = scores.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
    let least = largest * ROUNDING;
    Scores { values: scores.values.mapv(|score| if score.abs() < least { 0.0 } else { score }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truth::{Choice, known};

    #[test]
    fn rounding_and_ties_earn_nothing() {
        let known = known("proportion", &Choice::default()).unwrap();
        let truth = known.truth.edges(&known.graph);
        let mut scores = Scores::zeros(&known.graph);
        truth.iter().for_each(|edge| scores.set(*edge, -1.0));
        assert_eq!(marks(&known, &scores), Marks { auroc: 1.0, average_precision: 1.0, precision: 1.0 });
        assert_eq!(missed(&known, &scores), []);
        scores.set(truth[0], 1e-8);
        let found = marks(&known, &scores);
        // One of four true edges is equal to all others.
        assert!((found.auroc - 0.875).abs() < 1e-12, "{found:?}");
        assert_eq!(missed(&known, &scores), [truth[0]]);
        let other = known.truth.complement(&known.graph).edges(&known.graph)[0];
        scores.set(other, 2.0);
        assert!((marks(&known, &scores).precision - 0.75).abs() < 1e-12);
        assert_eq!(missed(&known, &scores), [truth[0]]);
    }
}
