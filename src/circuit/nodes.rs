//! Circuits of nodes: every edge between them.
//!
//! The input always belongs to one: without it nothing tells the clean prompt from the ablated run. A node outside is one
//! whose edges are all missing, so that it carries its ablated value wherever it is read.

use super::EdgeMask;
use crate::graph::{Graph, Level, Source};

/// How many parts of a level a circuit holds.
pub fn size(level: Level, mask: &EdgeMask) -> usize {
    match level {
        Level::Edge => mask.count(),
        Level::Node | Level::Neuron => nodes(mask).len(),
    }
}

/// The nodes but the input that an edge of the circuit leaves.
pub fn nodes(mask: &EdgeMask) -> Vec<Source> {
    (1..mask.0.nrows()).filter(|&source| mask.0.row(source).iter().any(|&kept| kept)).map(Source).collect()
}

/// The circuit of some nodes and the input, with dead ends.
pub fn of_nodes(graph: &Graph, nodes: &[Source]) -> EdgeMask {
    let mut chosen = vec![false; graph.sources()];
    chosen[0] = true;
    for node in nodes {
        chosen[node.0] = true;
    }
    EdgeMask::of(graph, graph.edges().iter().copied().filter(|edge| chosen[edge.source.0]))
}

/// What is left of a model without a circuit: all other edges, or all other nodes and the input.
pub fn complement(level: Level, graph: &Graph, mask: &EdgeMask) -> EdgeMask {
    if level == Level::Edge {
        return mask.complement(graph);
    }
    let inside = nodes(mask);
    let others: Vec<Source> = (1..graph.sources()).map(Source).filter(|source| !inside.contains(source)).collect();
    of_nodes(graph, &others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::prune::prune;
    use crate::graph::Dimensions;

    #[test]
    fn nodes_stand_for_the_edges_that_leave_them() {
        let graph = Graph::new(Dimensions::new(2, 2));
        let node = |name: &str| graph.source(name.parse().unwrap()).unwrap();
        let chosen = [node("a0.h1"), node("m1")];
        let circuit = of_nodes(&graph, &chosen);
        assert_eq!(nodes(&circuit), chosen);
        assert_eq!((size(Level::Node, &circuit), size(Level::Edge, &circuit)), (2, circuit.count()));
        let pruned = prune(&graph, &circuit);
        let touched: Vec<String> = pruned.nodes(&graph).iter().map(ToString::to_string).collect();
        assert_eq!(touched, ["input", "a0.h1", "m1", "logits"]);
        // The others keep the edges between them and from the input, and none that leaves a node of the circuit.
        let others = complement(Level::Node, &graph, &pruned);
        assert_eq!(size(Level::Node, &others), graph.sources() - 1 - chosen.len());
        assert!(chosen.iter().all(|node| !others.0.row(node.0).iter().any(|&kept| kept)));
        assert!(others.contains(graph.parse_edge("input->m1").unwrap()));
        assert_eq!(complement(Level::Edge, &graph, &pruned), pruned.complement(&graph));
    }
}
