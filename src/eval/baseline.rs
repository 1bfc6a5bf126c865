//! Random circuits of a given size: how faithful a circuit is by chance.
//!
//! A circuit is grown backwards from the logits, each time by a random edge into a node that is already reached, so that
//! every edge can influence the output: a harder baseline than edges drawn from the whole graph, most of which hang loose.

use crate::circuit::EdgeMask;
use crate::circuit::select::{SelectError, greedy};
use crate::graph::Graph;
use crate::graph::scores::Scores;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
