//! Makes a circuit locally minimal: removes edges until no single edge can go.
//!
//! Edges are tried in order of |score|, weakest first, in groups that halve when a group cannot go; a removal takes with it
//! the dead ends it leaves. The search ends with a whole round of single edges of which none could go.
//!
//! Cost: at least one run of the circuit for each edge that stays, usually two or three.

use super::Judge;
use crate::circuit::EdgeMask;
use crate::circuit::prune::prune;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph};

/// The part of `circuit` that is left when nothing more can go.
pub fn minimise(
    graph: &Graph,
    scores: &Scores,
    circuit: &EdgeMask,
    judge: &Judge,
    progress: &mut dyn FnMut(&str),
) -> EdgeMask {
    let mut circuit = circuit.clone();
    let mut group = (circuit.count() / 4).max(1);
    loop {
        let removed = sweep(graph, scores, &mut circuit, judge, group, progress);
        match (removed, group) {
            (false, 1) => return circuit,
            (_, 1) => {}
            _ => group = (group / 2).max(1),
        }
    }
}

/// Tries every edge once, `group` at a time. Whether any could go.
fn sweep(
    graph: &Graph,
    scores: &Scores,
    circuit: &mut EdgeMask,
    judge: &Judge,
    group: usize,
    progress: &mut dyn FnMut(&str),
) -> bool {
    let mut edges = circuit.edges(graph);
    let strength = |edge: &Edge| scores.values[[edge.source.0, edge.destination.0]].abs();
    edges.sort_by(|a, b| strength(a).total_cmp(&strength(b)).then(a.cmp(b)));
    let mut removed = false;
    for candidates in edges.chunks(group) {
        let mut smaller = circuit.clone();
        for &edge in candidates {
            smaller.remove(edge);
        }
        // An earlier removal may have taken these edges along as dead ends.
        if smaller == *circuit {
            continue;
        }
        progress(&format!("removing edges, {} left", circuit.count()));
        let smaller = prune(graph, &smaller);
        if smaller.count() > 0 && judge.accepts(&smaller) {
            *circuit = smaller;
            removed = true;
        }
    }
    removed
}
