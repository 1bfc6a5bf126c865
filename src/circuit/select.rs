//! Choosing edges by their scores. Selection never calls the model; ties go to the edge that comes first in the graph.
//!
//! - [`top_n`]: the n best edges. Dead ends may be among them, so [`super::prune`] usually leaves fewer.
//! - [`threshold`]: every edge that reaches a score.
//! - [`greedy`]: from the logits backwards, so that every edge taken leads to the logits (Hanna et al., arXiv:2403.17806).
//!
//! Each costs one sort of the edges, and no pass of the model.

use super::EdgeMask;
use crate::error::Hint;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Node};
use petgraph::Direction::Incoming;
use petgraph::visit::EdgeRef;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What makes an edge better than another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rank {
    /// A larger effect in either direction.
    Absolute,
    /// A larger effect in the helpful direction.
    Signed,
}

impl Rank {
    /// What sorts as the scores do, with what is no number last.
    pub(crate) fn key(self, score: f32) -> Key {
        Key(match self {
            _ if score.is_nan() => f32::NEG_INFINITY,
            Rank::Absolute => score.abs(),
            // -0 and 0 are the same score, so they must tie.
            Rank::Signed => score + 0.0,
        })
    }
}

impl Rank {
    /// Whether a score (or its size) is at least `least`; never where that is not a number.
    pub(crate) fn reaches(self, score: f32, least: f32) -> bool {
        self.key(score).0 >= least
    }
}

/// A score that can be sorted by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key(f32);

impl Key {
    /// Minus infinity for what is no number.
    pub(crate) fn number(self) -> f32 {
        self.0
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectError {
    #[error("a circuit of 0 edges was asked for")]
    NoEdges,
    #[error("{asked} edges were asked for, but the model has only {available}")]
    TooManyEdges { asked: usize, available: usize },
    #[error("{asked} nodes were asked for, but the model has only {available} beside its input")]
    TooManyNodes { asked: usize, available: usize },
}

impl Hint for SelectError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            SelectError::NoEdges => "ask for at least one edge; most circuits need dozens".into(),
            SelectError::TooManyEdges { available, .. } => format!("ask for at most {available} edges"),
            SelectError::TooManyNodes { available, .. } => format!("ask for at most {available} nodes"),
        })
    }
}

/// The `n` best edges.
///
/// # Errors
/// [`SelectError`] when the graph cannot give `n` edges.
pub fn top_n(graph: &Graph, scores: &Scores, n: usize, rank: Rank) -> Result<EdgeMask, SelectError> {
    check_size(graph, n)?;
    let mut edges = graph.edges().to_vec();
    // A stable sort keeps the insertion order among equals.
    edges.sort_by_key(|edge| Reverse(rank.key(scores.get(*edge))));
    Ok(EdgeMask::of(graph, edges.into_iter().take(n)))
}

/// Every edge whose score (or its size, with [`Rank::Absolute`]) is at least `least`. May be empty, and is when
/// `least` is not a number.
pub fn threshold(graph: &Graph, scores: &Scores, least: f32, rank: Rank) -> EdgeMask {
    let reaches = |edge: &Edge| rank.reaches(scores.get(*edge), least);
    EdgeMask::of(graph, graph.edges().iter().copied().filter(reaches))
}

/// `n` edges, each the one with the largest effect that leads into a node already reached, starting from the logits.
///
/// # Errors
/// As [`top_n`].
pub fn greedy(graph: &Graph, scores: &Scores, n: usize) -> Result<EdgeMask, SelectError> {
    greedy_by(graph, scores, n, Rank::Absolute)
}

/// [`greedy`] with a choice of what makes an edge better.
pub fn greedy_by(graph: &Graph, scores: &Scores, n: usize, rank: Rank) -> Result<EdgeMask, SelectError> {
    check_size(graph, n)?;
    let mut mask = EdgeMask::empty(graph);
    let mut reached = vec![false; graph.structure.node_count()];
    let mut candidates = BinaryHeap::new();
    let mut newly_reached = Some(graph.vertex(Node::Logits));
    let mut taken = 0;
    while taken < n {
        if let Some(vertex) = newly_reached.take().filter(|vertex| !reached[vertex.index()]) {
            reached[vertex.index()] = true;
            candidates.extend(
                graph
                    .structure
                    .edges_directed(vertex, Incoming)
                    .map(|edge| (rank.key(scores.get(*edge.weight())), Reverse(edge.id()))),
            );
        }
        // Every node feeds the logits, so candidates run out only when all edges are taken.
        let Some((_, Reverse(best))) = candidates.pop() else { break };
        // An edge into shared keys or values is a candidate once for each head that uses them.
        if mask.contains(graph.structure[best]) {
            continue;
        }
        mask.insert(graph.structure[best]);
        taken += 1;
        newly_reached = graph.structure.edge_endpoints(best).map(|(parent, _)| parent);
    }
    Ok(mask)
}

/// How many edges are left when this share of them, from 0 to 1, is gone.
pub fn edges_left(graph: &Graph, sparsity: f64) -> usize {
    ((1.0 - sparsity) * graph.edge_count() as f64).round() as usize
}

/// Whether a circuit of `n` edges can be had at all.
pub fn check_size(graph: &Graph, n: usize) -> Result<(), SelectError> {
    match n {
        0 => Err(SelectError::NoEdges),
        n if n > graph.edge_count() => Err(SelectError::TooManyEdges { asked: n, available: graph.edge_count() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;

    fn example() -> (Graph, Scores) {
        let graph = Graph::new(Dimensions::new(2, 1));
        let mut scores = Scores::zeros(&graph);
        for (name, score) in [
            ("input->a0.h0<v>", 0.9),
            ("a0.h0->m1", -0.8),
            ("m1->logits", 0.3),
            ("m0->logits", 0.1),
            ("input->m0", 0.2),
        ] {
            scores.set(graph.parse_edge(name).unwrap(), score);
        }
        (graph, scores)
    }

    fn names(graph: &Graph, mask: &EdgeMask) -> Vec<String> {
        mask.edges(graph).into_iter().map(|edge| graph.name(edge)).collect()
    }

    #[test]
    fn each_rule_takes_the_edges_it_should() {
        let (graph, scores) = example();
        let top = top_n(&graph, &scores, 2, Rank::Absolute).unwrap();
        assert_eq!(names(&graph, &top), ["input->a0.h0<v>", "a0.h0->m1"]);
        let top = top_n(&graph, &scores, 2, Rank::Signed).unwrap();
        assert_eq!(names(&graph, &top), ["input->a0.h0<v>", "m1->logits"]);
        let reaching = threshold(&graph, &scores, 0.3, Rank::Absolute);
        assert_eq!(names(&graph, &reaching), ["input->a0.h0<v>", "a0.h0->m1", "m1->logits"]);
        let reaching = threshold(&graph, &scores, 0.3, Rank::Signed);
        assert_eq!(names(&graph, &reaching), ["input->a0.h0<v>", "m1->logits"]);
        let reached = greedy(&graph, &scores, 3).unwrap();
        assert_eq!(names(&graph, &reached), ["input->a0.h0<v>", "a0.h0->m1", "m1->logits"]);
        let reached = greedy_by(&graph, &scores, 3, Rank::Signed).unwrap();
        assert_eq!(names(&graph, &reached), ["input->m0", "m0->logits", "m1->logits"]);
    }

    #[test]
    fn ties_go_to_the_edge_inserted_first() {
        let graph = Graph::new(Dimensions::new(2, 2));
        let scores = Scores::zeros(&graph);
        let top = top_n(&graph, &scores, 4, Rank::Absolute).unwrap();
        assert_eq!(top.edges(&graph), graph.edges()[..4]);
        let reached = greedy(&graph, &scores, 2).unwrap();
        assert_eq!(names(&graph, &reached), ["input->logits", "a0.h0->logits"]);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let (graph, scores) = example();
        for size in [0, graph.edge_count() + 1] {
            for result in [top_n(&graph, &scores, size, Rank::Absolute), greedy(&graph, &scores, size)] {
                assert!(result.unwrap_err().hint().is_some());
            }
        }
        assert_eq!(threshold(&graph, &scores, f32::NAN, Rank::Signed).count(), 0);
    }
}
