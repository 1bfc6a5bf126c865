//! Dropping dead ends: a node without an incoming edge (`input` excepted) or without an outgoing one (`logits` excepted) does
//! nothing, so its edges go, until nothing changes.
//!
//! In a graph without cycles the fixed point is the set of edges on a path from `input` to `logits`, found by two searches. A
//! head is one node: an edge into any of its q, k and v counts as incoming, as in EAP-IG.

use super::EdgeMask;
use crate::graph::{Graph, Node};
use petgraph::visit::{Bfs, EdgeFiltered, EdgeRef, Reversed, VisitMap, Visitable};

/// The edges of `mask` that lie on a path from `input` to `logits`. Cost: two searches, O(edges).
pub fn prune(graph: &Graph, mask: &EdgeMask) -> EdgeMask {
    let kept = EdgeFiltered::from_fn(&graph.structure, |edge| mask.contains(*edge.weight()));

    let mut from_input = graph.structure.visit_map();
    let mut search = Bfs::new(&kept, graph.vertex(Node::Input));
    while let Some(vertex) = search.next(&kept) {
        from_input.visit(vertex);
    }
    let mut to_logits = graph.structure.visit_map();
    let mut search = Bfs::new(Reversed(&kept), graph.vertex(Node::Logits));
    while let Some(vertex) = search.next(Reversed(&kept)) {
        to_logits.visit(vertex);
    }

    let on_a_path = graph
        .structure
        .edge_references()
        .filter(|edge| from_input.is_visited(&edge.source()) && to_logits.is_visited(&edge.target()))
        .map(|edge| *edge.weight())
        .filter(|edge| mask.contains(*edge));
    EdgeMask::of(graph, on_a_path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;

    #[test]
    fn dead_ends_go_one_after_another() {
        let graph = Graph::new(Dimensions::new(3, 1));
        let check = |before: &[&str], after: &[&str]| {
            let mask = EdgeMask::of(&graph, before.iter().map(|name| graph.parse_edge(name).unwrap()));
            let names: Vec<_> = prune(&graph, &mask).edges(&graph).into_iter().map(|edge| graph.name(edge)).collect();
            assert_eq!(names, after);
        };
        check(&["input->m0", "m0->m1"], &[]);
        check(&["m0->m1", "m1->m2", "m2->logits"], &[]);
        check(&["input->logits", "input->m0", "m0->m1", "m2->logits"], &["input->logits"]);
        // One of q, k and v is enough to keep a head.
        check(&["input->a1.h0<k>", "m0->a1.h0<q>", "a1.h0->logits"], &["input->a1.h0<k>", "a1.h0->logits"]);
    }
}
