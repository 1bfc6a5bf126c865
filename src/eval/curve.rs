//! Faithfulness against size: the circuit's strongest edges, the circuit, and the circuit with the next edges by |score|.

use super::bench::Bench;
use super::bootstrap::{faithfulness, faithfulness_interval};
use crate::circuit::EdgeMask;
use crate::circuit::prune::prune;
use crate::circuit::report::Stop;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph};

/// Sizes of the circuit's own, in shares of its edges.
const WITHIN: [f64; 4] = [0.1, 0.25, 0.5, 0.75];

/// From one size beyond the circuit to the next.
const STEP: f64 = 1.5;

/// Every circuit of the row holds the one before; the circuit itself is one of them. Sizes go up to ten times the circuit's
/// and at least to a hundred edges, but not beyond `most`.
pub fn stops(
    bench: &Bench,
    graph: &Graph,
    scores: &Scores,
    circuit: &EdgeMask,
    most: usize,
    seed: u64,
    progress: &mut dyn FnMut(f64),
) -> Vec<Stop> {
    let masks = masks(graph, scores, circuit, most);
    let (model, ablated) = (bench.clean(), bench.ablated());
    let count = masks.len() as f64;
    let stop = |(index, mask): (usize, EdgeMask)| {
        progress(index as f64 / count);
        let outcome = bench.circuit(&mask);
        Stop {
            faithfulness: faithfulness(outcome.mean_metric(), ablated.mean_metric(), model.mean_metric()),
            interval: faithfulness_interval(&outcome.metric, &ablated.metric, &model.metric, seed),
            mask,
        }
    };
    masks.into_iter().enumerate().map(stop).collect()
}

/// The largest size is at least this, if the graph has so many edges.
const LEAST: usize = 100;

fn masks(graph: &Graph, scores: &Scores, circuit: &EdgeMask, most: usize) -> Vec<EdgeMask> {
    let by_size = |mut edges: Vec<Edge>| {
        // A stable sort keeps the graph's order among equals.
        edges.sort_by(|a, b| scores.get(*b).abs().total_cmp(&scores.get(*a).abs()));
        edges
    };
    let inside = by_size(circuit.edges(graph));
    let outside = by_size(circuit.complement(graph).edges(graph));
    let mut masks: Vec<EdgeMask> = WITHIN
        .iter()
        .map(|share| (share * inside.len() as f64).round() as usize)
        .map(|size| prune(graph, &EdgeMask::of(graph, inside[..size].iter().copied())))
        .filter(|mask| mask.count() > 0)
        .collect();
    masks.push(circuit.clone());
    let largest = (10 * inside.len()).max(LEAST).min(most).min(graph.edge_count());
    let mut size = inside.len() as f64;
    while size < largest as f64 {
        size = (size.max(1.0) * STEP).min(largest as f64);
        let more = (size as usize).saturating_sub(inside.len());
        let added = outside[..more.min(outside.len())].iter().copied();
        let mask = prune(graph, &EdgeMask::of(graph, added).union(circuit)).union(circuit);
        masks.push(mask);
    }
    masks.dedup();
    masks
}
