//! Random circuits: how faithful a circuit is by chance, or by the shape of its graph alone.
//!
//! - [`random_circuit`], [`random_nodes`]: of a given size; [`random_elsewhere`]: of parts that a circuit does not have.
//! - [`random_of_degree`]: of the degrees of a given circuit. Two edges u₁→v₁ and u₂→v₂ become u₁→v₂ and u₂→v₁ where the model
//!   has both and the circuit neither, so every source writes to as many slots as before and every slot reads as many sources.
//!   Ten tries an edge let the chain forget where it started (Milo et al., arXiv:cond-mat/0312028); refused tries count, so that
//!   no circuit that can be reached is likelier than another. Cost: 10 · edges steps.
//!
//! No pass of the model. Of a given size a circuit is grown backwards from the logits, each time by a random edge into a node that is already reached, so that
//! every edge can influence the output: a harder baseline than edges drawn from the whole graph, most of which hang loose.

use crate::circuit::EdgeMask;
use crate::circuit::nodes::{nodes, of_nodes};
use crate::circuit::select::{SelectError, greedy};
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Level, Source};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tried switches for each edge.
const TRIES: usize = 10;

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
    greedy(graph, &random_scores(graph, seed), edges)
}

/// As many random parts as a circuit has, all outside of it; fewer where there are not so many. Edges are connected to the
/// logits.
pub fn random_elsewhere(graph: &Graph, level: Level, circuit: &EdgeMask, seed: u64) -> EdgeMask {
    if level != Level::Edge {
        let inside = nodes(circuit);
        let mut others = nodes(&random_nodes(graph, graph.sources() - 1, seed));
        others.retain(|node| !inside.contains(node));
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (chosen, _) = others.partial_shuffle(&mut random, inside.len());
        return of_nodes(graph, chosen);
    }
    let mut scores = random_scores(graph, seed);
    // What is no number is taken when nothing else is left.
    for edge in circuit.edges(graph) {
        scores.set(edge, f32::NAN);
    }
    let count = circuit.count().min(graph.edge_count() - circuit.count());
    greedy(graph, &scores, count).map_or_else(|_| EdgeMask::empty(graph), |found| found.difference(circuit))
}

/// Between 0 and 1, for every edge.
fn random_scores(graph: &Graph, seed: u64) -> Scores {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut scores = Scores::zeros(graph);
    for edge in graph.edges() {
        scores.set(*edge, (random.next_u32() >> 8) as f32 / (1 << 24) as f32);
    }
    scores
}

/// A random circuit in which every source has the out-degree and every slot the in-degree that it has in `mask`: that circuit itself where
/// degrees leave no choice. It may have dead ends.
pub fn random_of_degree(graph: &Graph, mask: &EdgeMask, seed: u64) -> EdgeMask {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut edges = mask.edges(graph);
    let mut switched = mask.clone();
    for _ in 0..TRIES * edges.len() {
        let mut draw = || (random.next_u64() % edges.len() as u64) as usize;
        let (first, second) = (draw(), draw());
        let [one, other] = [edges[first], edges[second]];
        let crossed = [
            Edge { source: one.source, destination: other.destination },
            Edge { source: other.source, destination: one.destination },
        ];
        // Edges that share an end would become themselves, and those are in the circuit.
        if crossed.iter().any(|edge| switched.contains(*edge) || !graph.contains(*edge)) {
            continue;
        }
        for edge in [one, other] {
            switched.remove(edge);
        }
        for edge in crossed {
            switched.insert(edge);
        }
        [edges[first], edges[second]] = crossed;
    }
    switched
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;
    use proptest::prelude::*;

    fn degrees(mask: &EdgeMask) -> [Vec<usize>; 2] {
        let count = |edges: ndarray::ArrayView1<bool>| edges.iter().filter(|&&kept| kept).count();
        [mask.0.rows().into_iter().map(count).collect(), mask.0.columns().into_iter().map(count).collect()]
    }

    #[test]
    fn a_circuit_without_a_choice_stays() {
        let graph = Graph::new(Dimensions::new(2, 2));
        let check = |names: &[&str]| {
            let mask = EdgeMask::of(&graph, names.iter().map(|name| graph.parse_edge(name).unwrap()));
            assert_eq!(random_of_degree(&graph, &mask, 5), mask);
        };
        check(&[]);
        check(&["input->logits"]);
        check(&["input->logits", "m0->logits", "a1.h0->logits"]);
        // The switch needs a1.h0->m0, which runs backwards.
        check(&["input->m0", "a1.h0->logits"]);
        assert_eq!(random_of_degree(&graph, &EdgeMask::full(&graph), 5), EdgeMask::full(&graph));
    }

    #[test]
    fn elsewhere_is_not_in_the_circuit() {
        let graph = Graph::new(Dimensions::new(3, 2));
        for seed in 0..20 {
            let circuit = random_circuit(&graph, 12, seed).unwrap();
            let other = random_elsewhere(&graph, Level::Edge, &circuit, seed);
            assert_eq!((other.count(), other.intersection(&circuit).count()), (12, 0));
            let circuit = random_nodes(&graph, 3, seed);
            let other = random_elsewhere(&graph, Level::Node, &circuit, seed);
            assert_eq!((nodes(&other).len(), other.0.row(0) == circuit.0.row(0)), (3, true));
            assert!(nodes(&other).iter().all(|node| !nodes(&circuit).contains(node)));
        }
        let all = EdgeMask::full(&graph);
        assert_eq!(random_elsewhere(&graph, Level::Edge, &all, 0).count(), 0);
    }

    /// Three sources and three slots can be paired in six ways, and the chain ends in each as often.
    #[test]
    fn every_circuit_of_the_degrees_is_as_likely() {
        let graph = Graph::new(Dimensions { mlps: false, ..Dimensions::new(2, 3) });
        let names = ["a0.h0->a1.h0<q>", "a0.h1->a1.h1<q>", "a0.h2->a1.h2<q>"];
        let mask = EdgeMask::of(&graph, names.iter().map(|name| graph.parse_edge(name).unwrap()));
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..600 {
            *seen.entry(random_of_degree(&graph, &mask, seed).edges(&graph)).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|&times| (60..=140).contains(&times)), "{:?}", seen.values());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn degrees_stay_and_little_else(
            layers in 1..4usize, heads in 1..4usize, parallel: bool, native: bool, share in 0.1..0.6f64, seed: u64,
        ) {
            let kv_slots = if native { 1 } else { heads };
            let graph = Graph::new(Dimensions { parallel, kv_slots, ..Dimensions::new(layers, heads) });
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let drawn = graph.edges().iter().copied().filter(|_| (random.next_u32() as f64) < share * u32::MAX as f64);
            let mask = EdgeMask::of(&graph, drawn);
            let switched = random_of_degree(&graph, &mask, seed);
            prop_assert_eq!(degrees(&switched), degrees(&mask));
            prop_assert!(switched.is_subset(&EdgeMask::full(&graph)));
            prop_assert_eq!(&random_of_degree(&graph, &mask, seed), &switched);
            let edges = mask.edges(&graph);
            let can = edges.iter().any(|one| edges.iter().any(|other| {
                let crossed = [(one, other), (other, one)].map(|(from, to)| Edge { source: from.source, destination: to.destination });
                crossed.iter().all(|edge| graph.contains(*edge) && !mask.contains(*edge))
            }));
            if !can {
                prop_assert_eq!(&switched, &mask);
            } else if edges.len() > 8 {
                let moves = (0..20).any(|seed| random_of_degree(&graph, &mask, seed) != mask);
                prop_assert!(moves);
            }
        }
    }
}
