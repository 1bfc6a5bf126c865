//! Circuits with a random part more: what a part is worth that nobody chose.
//!
//! A part is added that could matter: an edge between nodes that the circuit holds already, so that something flows through
//! it, or any other node with all its edges.

use crate::circuit::EdgeMask;
use crate::circuit::nodes::{nodes, of_nodes};
use crate::graph::{Edge, Graph, Level, Source};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// At most `count` different circuits, each the given one and a part more; fewer where there are not so many parts to add.
pub fn with_one_more(graph: &Graph, level: Level, circuit: &EdgeMask, count: usize, seed: u64) -> Vec<EdgeMask> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    match level {
        Level::Edge => {
            let mut touched = vec![false; graph.sources() + 1];
            touched[graph.sources()] = true; // the logits
            touched[0] = true; // the input
            for node in circuit.nodes(graph) {
                touched[graph.vertex(node).index()] = true;
            }
            let reads = |edge: &Edge| {
                let readers = circuit.readers(graph, graph.slot(edge.destination));
                readers.iter().any(|reader| touched[graph.vertex(*reader).index()])
            };
            let mut others: Vec<Edge> = graph
                .edges()
                .iter()
                .copied()
                .filter(|edge| !circuit.contains(*edge) && touched[edge.source.0] && reads(edge))
                .collect();
            let (chosen, _) = others.partial_shuffle(&mut random, count);
            let with = |edge: &Edge| {
                let mut more = circuit.clone();
                more.insert(*edge);
                more
            };
            chosen.iter().map(with).collect()
        }
        Level::Node | Level::Neuron => {
            let inside = nodes(circuit);
            let mut others: Vec<Source> =
                (1..graph.sources()).map(Source).filter(|source| !inside.contains(source)).collect();
            let (chosen, _) = others.partial_shuffle(&mut random, count);
            chosen.iter().map(|&node| of_nodes(graph, &[&inside[..], &[node]].concat())).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::prune::prune;
    use crate::graph::Dimensions;

    #[test]
    fn the_part_more_is_alive_and_each_is_another() {
        let graph = Graph::new(Dimensions::new(2, 2));
        let names = ["input->a0.h1<v>", "a0.h1->m1", "m1->logits"];
        let circuit = EdgeMask::of(&graph, names.map(|name| graph.parse_edge(name).unwrap()));
        let more = with_one_more(&graph, Level::Edge, &circuit, 1000, 3);
        // Between input, a0.h1, m1 and logits: q and k of a0.h1, input to m1 and to the logits, a0.h1 to the logits.
        assert_eq!(more.len(), 5);
        for (index, mask) in more.iter().enumerate() {
            assert!(circuit.is_subset(mask) && mask.count() == circuit.count() + 1);
            assert_eq!(&prune(&graph, mask), mask);
            assert!(!more[..index].contains(mask));
        }
        let two = with_one_more(&graph, Level::Edge, &circuit, 2, 3);
        assert_eq!((two.len(), &two), (2, &with_one_more(&graph, Level::Edge, &circuit, 2, 3)));
        let chosen = of_nodes(&graph, &[Source(1), Source(5)]);
        let more = with_one_more(&graph, Level::Node, &chosen, 3, 0);
        assert_eq!(more.len(), 3);
        assert!(more.iter().all(|mask| nodes(mask).len() == 3 && chosen.is_subset(mask)));
    }
}
