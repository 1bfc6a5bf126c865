//! Random circuits of a given size: how faithful a circuit is by chance.
//!
//! A circuit is grown backwards from the logits, each time by a random edge into a node that is already reached, so that
//! every edge can influence the output: a harder baseline than edges drawn from the whole graph, most of which hang loose.

use crate::circuit::EdgeMask;
use crate::circuit::nodes::of_nodes;
use crate::circuit::select::{SelectError, greedy};
use crate::graph::scores::Scores;
use crate::graph::{Graph, Source};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random circuit of so many nodes, and the input.
pub fn random_nodes(graph: &Graph, count: usize, seed: u64) -> EdgeMask {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut all: Vec<(u64, Source)> = (1..graph.sources()).map(|source| (random.next_u64(), Source(source))).collect();
    all.sort_unstable();
    let chosen: Vec<Source> = all.into_iter().take(count).map(|(_, source)| source).collect();
    of_nodes(graph, &chosen)
}

/// A random connected circuit of `edges` edges.
///
/// # Errors
/// [`SelectError`] when the graph has fewer edges.
pub fn random_circuit(graph: &Graph, edges: usize, seed: u64) -> Result<EdgeMask, SelectError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut scores = Scores::zeros(graph);
    for edge in graph.edges() {
        scores.values[[edge.source.0, edge.destination.0]] = (random.next_u32() >> 8) as f32 / (1 << 24) as f32;
    }
    greedy(graph, &scores, edges)
}
