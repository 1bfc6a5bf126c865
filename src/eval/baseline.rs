//! Random circuits: how faithful a circuit is by chance, or by the shape of its graph alone.
//!
//! - [`random_circuit`], [`random_nodes`]: of a given size; [`random_elsewhere`]: of parts that a circuit does not have.
//! - [`random_of_degree`]: of the degrees of a given circuit. Two edges u₁→v₁ and u₂→v₂ become u₁→v₂ and u₂→v₁ where the model
//!   has both and the circuit neither, and an edge into a head goes to another of its queries, keys and values; so every node
//!   writes and reads as many edges as before. Twenty tries an edge let the chain forget where it started (Milo et al.,
//!   arXiv:cond-mat/0312028); refused tries count, so that no circuit that can be reached is likelier than another.
//!   Cost: 20 · edges steps.
//!
//! No pass of the model. Of a given size a circuit is grown backwards from the logits, each time by a random edge into a node that is already reached, so that
//! every edge can influence the output: a harder baseline than edges drawn from the whole graph, most of which hang loose.

use crate::circuit::EdgeMask;
use crate::circuit::nodes::{nodes, of_nodes};
use crate::circuit::select::{SelectError, greedy};
use crate::graph::scores::Scores;
use crate::graph::{Destination, Edge, Graph, Level, Slot, Source};
use crate::model::spec::Branch;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tried changes for each edge.
const TRIES: usize = 20;

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

/// A random circuit in which every node has as many outgoing and as many incoming edges as in `mask`: that circuit itself
/// where degrees leave no choice. It may have dead ends.
pub fn random_of_degree(graph: &Graph, mask: &EdgeMask, seed: u64) -> EdgeMask {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut edges = mask.edges(graph);
    let mut switched = mask.clone();
    for step in 0..TRIES * edges.len() {
        let mut draw = |count: usize| (random.next_u64() % count as u64) as usize;
        let (first, second) = (draw(edges.len()), draw(edges.len()));
        let [one, other] = [edges[first], edges[second]];
        let (before, after) = if step % 2 == 0 {
            let crossed = [
                Edge { source: one.source, destination: other.destination },
                Edge { source: other.source, destination: one.destination },
            ];
            (vec![one, other], crossed.to_vec())
        } else {
            let inputs = inputs(graph, one.destination);
            let destination = inputs[draw(inputs.len())];
            (vec![one], vec![Edge { source: one.source, destination }])
        };
        // Edges that share an end would become themselves, and those are in the circuit.
        if after.iter().any(|edge| switched.contains(*edge) || !graph.contains(*edge)) {
            continue;
        }
        for edge in before {
            switched.remove(edge);
        }
        for (&edge, place) in after.iter().zip([first, second]) {
            switched.insert(edge);
            edges[place] = edge;
        }
    }
    switched
}

/// The slots of the node that a slot belongs to: a head's queries, keys and values. Slots that heads share are by themselves.
fn inputs(graph: &Graph, destination: Destination) -> Vec<Destination> {
    let Slot::Head(layer, head, _) = graph.slot(destination) else { return vec![destination] };
    let slots = Branch::ALL.map(|branch| Slot::Head(layer, head, branch));
    slots.into_iter().filter(|slot| graph.has_slot(*slot)).map(|slot| graph.destination(slot)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;
    use proptest::prelude::*;

    /// Outgoing edges of each source, and incoming ones of each node (by its first slot).
    fn degrees(graph: &Graph, mask: &EdgeMask) -> [Vec<usize>; 2] {
        let mut degrees = [vec![0; graph.sources()], vec![0; graph.destinations()]];
        for edge in mask.edges(graph) {
            degrees[0][edge.source.0] += 1;
            degrees[1][inputs(graph, edge.destination)[0].0] += 1;
        }
        degrees
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

    /// Three sources and three heads can be paired in six ways, and the chain ends in each as often, and as often at queries, at
    /// keys and at values.
    #[test]
    fn every_circuit_of_the_degrees_is_as_likely() {
        let graph = Graph::new(Dimensions { mlps: false, ..Dimensions::new(2, 3) });
        let names = ["a0.h0->a1.h0<q>", "a0.h1->a1.h1<q>", "a0.h2->a1.h2<q>"];
        let mask = EdgeMask::of(&graph, names.iter().map(|name| graph.parse_edge(name).unwrap()));
        let (mut pairings, mut branches) = (std::collections::BTreeMap::new(), [0; 3]);
        for seed in 0..600 {
            let edges = random_of_degree(&graph, &mask, seed).edges(&graph);
            let mut pairing: Vec<_> =
                edges.iter().map(|edge| (edge.source, inputs(&graph, edge.destination)[0])).collect();
            pairing.sort_unstable();
            *pairings.entry(pairing).or_insert(0) += 1;
            for branch in edges.iter().filter_map(|edge| graph.slot(edge.destination).branch()) {
                branches[branch.index()] += 1;
            }
        }
        assert_eq!(pairings.len(), 6);
        assert!(pairings.values().all(|&times| (60..=140).contains(&times)), "{:?}", pairings.values());
        assert!(branches.iter().all(|&times| (520..=680).contains(&times)), "{branches:?}");
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
            prop_assert_eq!(degrees(&graph, &switched), degrees(&graph, &mask));
            prop_assert!(switched.is_subset(&EdgeMask::full(&graph)));
            prop_assert_eq!(&random_of_degree(&graph, &mask, seed), &switched);
            let edges = mask.edges(&graph);
            let can = edges.iter().any(|one| edges.iter().any(|other| {
                let crossed = [(one, other), (other, one)].map(|(from, to)| Edge { source: from.source, destination: to.destination });
                crossed.iter().all(|edge| graph.contains(*edge) && !mask.contains(*edge))
            })) || edges.iter().any(|edge| inputs(&graph, edge.destination).into_iter().any(|destination| {
                !mask.contains(Edge { source: edge.source, destination })
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
