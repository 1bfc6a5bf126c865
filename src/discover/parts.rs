//! What a selection takes or leaves: single edges, or nodes with all edges that leave them.
//!
//! Circuits of nodes: [`crate::circuit::nodes`].

use super::Ranking;
use crate::circuit::EdgeMask;
use crate::circuit::nodes::{nodes, of_nodes, size};
use crate::circuit::prune::prune;
use crate::circuit::select::{self, SelectError};
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Level, Source};
use std::cmp::Reverse;

/// The parts of a graph with their scores; that of a node stands at every edge that leaves it.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    pub graph: &'a Graph,
    pub scores: &'a Scores,
    /// Edges or nodes.
    pub level: Level,
}

/// Scores of nodes `[unit, 1]` at the edges that leave them.
pub fn at_edges(graph: &Graph, of_nodes: &Scores) -> Scores {
    let mut scores = Scores::zeros(graph);
    for &edge in graph.edges() {
        scores.set(edge, of_nodes.values[[edge.source.0, 0]]);
    }
    scores
}

impl Parts<'_> {
    /// How many there are to choose from.
    pub fn count(&self) -> usize {
        match self.level {
            Level::Edge => self.graph.edge_count(),
            Level::Node | Level::Neuron => self.graph.sources() - 1,
        }
    }

    fn score_of(&self, node: Source) -> f32 {
        // Every node feeds the logits.
        self.scores.values[[node.0, self.graph.destinations() - 1]]
    }

    /// The first `count` of a ranking, with dead ends.
    ///
    /// # Errors
    /// [`SelectError`] for none or more than there are.
    pub fn take(&self, ranking: Ranking, count: usize) -> Result<EdgeMask, SelectError> {
        if self.level == Level::Edge {
            return ranking.take(self.graph, self.scores, count);
        }
        check_size(self.level, self.graph, count)?;
        let mut all: Vec<Source> = (1..self.graph.sources()).map(Source).collect();
        let rank = ranking.rank();
        all.sort_by_key(|&node| Reverse(rank.key(self.score_of(node))));
        all.truncate(count);
        Ok(of_nodes(self.graph, &all))
    }

    /// Every part whose |score| (score, if ranked by sign) is at least `least`.
    pub fn threshold(&self, ranking: Ranking, least: f32) -> EdgeMask {
        let rank = ranking.rank();
        if self.level == Level::Edge {
            return select::threshold(self.graph, self.scores, least, rank);
        }
        let reaches = |node: &Source| rank.reaches(self.score_of(*node), least);
        let chosen: Vec<Source> = (1..self.graph.sources()).map(Source).filter(reaches).collect();
        if chosen.is_empty() { EdgeMask::empty(self.graph) } else { of_nodes(self.graph, &chosen) }
    }

    /// The parts of a circuit, each as the edges that go with it, weakest first.
    pub fn weakest_first(&self, circuit: &EdgeMask) -> Vec<Vec<Edge>> {
        let edges = circuit.edges(self.graph);
        let mut parts: Vec<Vec<Edge>> = match self.level {
            Level::Edge => edges.into_iter().map(|edge| vec![edge]).collect(),
            Level::Node | Level::Neuron => {
                let leaving = |node: Source| edges.iter().copied().filter(|edge| edge.source == node).collect();
                nodes(circuit).into_iter().map(leaving).collect()
            }
        };
        let strength = |part: &Vec<Edge>| part.first().map_or(0.0, |edge| self.scores.get(*edge).abs());
        parts.sort_by(|a, b| strength(a).total_cmp(&strength(b)).then(a.cmp(b)));
        parts
    }

    /// How many ranked parts to take so that, with dead ends pruned, at most `count` are left, and as many as possible.
    ///
    /// # Errors
    /// [`SelectError`] for none or more than there are.
    pub fn fill(&self, ranking: Ranking, count: usize) -> Result<usize, SelectError> {
        self.take(ranking, count)?;
        // It has no dead ends.
        if matches!(ranking, Ranking::NetValue { .. }) {
            return Ok(count);
        }
        let left = |taken: usize| Ok(size(self.level, &prune(self.graph, &self.take(ranking, taken)?)));
        // The pruned size grows with the number taken, so the last size that fits can be bisected.
        let (mut fits, mut too_many) = (count, self.count() + 1);
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if left(middle)? <= count { fits = middle } else { too_many = middle }
        }
        Ok(fits)
    }
}

/// Whether a circuit of so many parts can be had at all.
///
/// # Errors
/// [`SelectError`].
pub fn check_size(level: Level, graph: &Graph, count: usize) -> Result<(), SelectError> {
    match level {
        Level::Edge => select::check_size(graph, count),
        Level::Node | Level::Neuron => match count {
            0 => Err(SelectError::NoEdges),
            count if count > graph.sources() - 1 => {
                Err(SelectError::TooManyNodes { asked: count, available: graph.sources() - 1 })
            }
            _ => Ok(()),
        },
    }
}
