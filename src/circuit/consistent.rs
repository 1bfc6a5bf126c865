//! Edges whose effect has one sign whichever pairs are drawn, and circuits of a given share of helpful edges.
//!
//! - [`consistent`]: pairs are resampled and the edges kept whose 95 % interval of the mean does not reach 0. An effect that
//!   helps on some pairs and harms on others has a mean near 0 or one that a few pairs decide.
//! - [`of_share`]: of n edges a share are the most helpful ones and the others the most harmful ones (the positive-negative
//!   ratio), where a ranking by size lets the scores say how many there are of each.
//!
//! Paper: Nikankin et al., arXiv:2510.25786, with normal intervals over some 20 resamples; here they are percentiles over 200,
//! widened for few pairs. Cost: 2 · resamples · pairs · edges operations and a sort of the resamples for each edge; no pass of
//! the model. A share of harmful edges is not for circuits whose metric is to be large, only for faithful ones.

use super::EdgeMask;
use super::select::{Rank, SelectError, check_size};
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph};
use crate::statistics::means::intervals_of_means;
use ndarray::ArrayView2;
use std::cmp::Reverse;

/// The edges whose mean has one sign in the 95 % interval over resampled pairs, from the scores of every pair, `[pair, edge]`,
/// edges in the graph's order. None for fewer than two pairs.
pub fn consistent(graph: &Graph, per_pair: ArrayView2<f32>, resamples: usize, seed: u64) -> EdgeMask {
    let intervals = intervals_of_means(per_pair, resamples, seed);
    let of_one_sign = |(edge, [low, high]): (&Edge, [f64; 2])| (low > 0.0 || high < 0.0).then_some(*edge);
    EdgeMask::of(graph, graph.edges().iter().zip(intervals).filter_map(of_one_sign))
}

/// The scores of some edges. The others get none: they are no number, which no threshold takes and every ranking puts last.
pub fn only(graph: &Graph, scores: &Scores, edges: &EdgeMask) -> Scores {
    let mut only = scores.clone();
    for &edge in graph.edges().iter().filter(|edge| !edges.contains(**edge)) {
        only.set(edge, f32::NAN);
    }
    only
}

/// The edges of a set that have scores.
pub fn with_scores(graph: &Graph, scores: &Scores, mut edges: EdgeMask) -> EdgeMask {
    for &edge in graph.edges().iter().filter(|edge| scores.get(**edge).is_nan()) {
        edges.remove(edge);
    }
    edges
}

/// `n` edges, of which a share (from 0 to 1, rounded to whole edges) are the most helpful and the others the most harmful. Where
/// there are not enough of one sign there are more of the other, and then those of no effect.
///
/// # Errors
/// [`SelectError`] when the graph cannot give `n` edges.
pub fn of_share(graph: &Graph, scores: &Scores, n: usize, positive: f64) -> Result<EdgeMask, SelectError> {
    check_size(graph, n)?;
    let mut edges = graph.edges().to_vec();
    // A stable sort keeps the insertion order among equals.
    edges.sort_by_key(|edge| Reverse(Rank::Absolute.key(scores.get(*edge))));
    let helpful = (positive * n as f64).round() as usize;
    let harmful = n.saturating_sub(helpful);
    let best = |count: usize, wanted: &dyn Fn(f32) -> bool| {
        let of_sign = edges.iter().copied().filter(|edge| wanted(scores.get(*edge)));
        EdgeMask::of(graph, of_sign.take(count))
    };
    let mut mask = best(helpful, &|score| score > 0.0).union(&best(harmful, &|score| score < 0.0));
    let missing = n - mask.count();
    let others: Vec<_> = edges.iter().copied().filter(|edge| !mask.contains(*edge)).take(missing).collect();
    others.into_iter().for_each(|edge| mask.insert(edge));
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;
    use ndarray::Array2;

    fn names(graph: &Graph, mask: &EdgeMask) -> Vec<String> {
        mask.edges(graph).into_iter().map(|edge| graph.name(edge)).collect()
    }

    #[test]
    fn edges_stay_whose_sign_the_pairs_agree_on() {
        let graph = Graph::new(Dimensions::new(1, 1));
        let check = |row: &dyn Fn(usize) -> f32, kept: bool| {
            let place = 3;
            let mut per_pair = Array2::zeros((20, graph.edge_count()));
            for pair in 0..20 {
                per_pair[[pair, place]] = row(pair);
            }
            let mask = consistent(&graph, per_pair.view(), 200, 7);
            assert_eq!(mask.edges(&graph), if kept { vec![graph.edges()[place]] } else { Vec::new() });
        };
        check(&|_| 0.25, true);
        check(&|_| -0.25, true);
        check(&|pair| 1.0 + pair as f32, true);
        check(&|pair| if pair % 2 == 0 { 1.0 } else { -1.0 }, false);
        // A single pair makes the mean.
        check(&|pair| if pair == 0 { 100.0 } else { 0.0 }, false);
        check(&|_| 0.0, false);
        let one_pair = Array2::ones((1, graph.edge_count()));
        assert_eq!(consistent(&graph, one_pair.view(), 200, 0).count(), 0);
    }

    #[test]
    fn a_share_of_the_edges_helps() {
        let graph = Graph::new(Dimensions::new(1, 1));
        let mut scores = Scores::zeros(&graph);
        for (place, score) in [5.0, -4.0, 3.0, 2.0, -1.0, 0.0].into_iter().enumerate() {
            scores.set(graph.edges()[place], score);
        }
        let places = |n: usize, positive: f64| -> Vec<usize> {
            let mask = of_share(&graph, &scores, n, positive).unwrap();
            (0..graph.edge_count()).filter(|&place| mask.contains(graph.edges()[place])).collect()
        };
        assert_eq!(places(2, 1.0), [0, 2]);
        assert_eq!(places(2, 0.5), [0, 1]);
        assert_eq!(places(4, 0.75), [0, 1, 2, 3]);
        assert_eq!(places(2, 0.0), [1, 4]);
        // Two edges harm and three help.
        assert_eq!(places(4, 0.0), [0, 1, 2, 4]);
        assert_eq!(places(6, 1.0), [0, 1, 2, 3, 4, 5]);
        assert!(of_share(&graph, &scores, 0, 0.5).is_err());
        for n in 1..graph.edge_count() {
            for share in [0.0, 0.3, 0.6, 1.0] {
                let more = places(n + 1, share);
                assert!(places(n, share).iter().all(|place| more.contains(place)), "{n} {share}");
            }
        }
    }

    #[test]
    fn edges_without_scores_are_never_taken() {
        let graph = Graph::new(Dimensions::new(1, 1));
        let mut scores = Scores::zeros(&graph);
        scores.values.fill(-1.0);
        let kept = EdgeMask::of(&graph, graph.edges()[..3].iter().copied());
        let left = only(&graph, &scores, &kept);
        let all = super::super::select::top_n(&graph, &left, graph.edge_count(), Rank::Signed).unwrap();
        assert_eq!(names(&graph, &with_scores(&graph, &left, all)), names(&graph, &kept));
        assert_eq!(super::super::select::threshold(&graph, &left, 0.5, Rank::Absolute), kept);
    }
}
