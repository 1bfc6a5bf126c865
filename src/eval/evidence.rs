//! The evidence for a circuit: faithful, complete, minimal, better than chance, on pairs that did not choose it.

use super::baseline::{random_circuit, random_nodes};
use super::bench::{Bench, Outcome, mean};
use super::bootstrap::{faithfulness, faithfulness_interval};
use crate::circuit::report::{EdgeCost, NodeCost, RandomBaseline, Report};
use crate::circuit::{EdgeMask, nodes};
use crate::graph::{Graph, Level};

/// What to measure.
pub struct Evidence<'a> {
    pub bench: &'a Bench<'a>,
    pub graph: &'a Graph,
    /// Whether the circuit was chosen by edges or by nodes.
    pub level: Level,
    pub metric: &'a str,
    pub seed: u64,
    /// How many random circuits of the same size to run.
    pub random_circuits: usize,
}

/// Measures a circuit. `progress` is told how much of the work is done, from 0 to 1.
pub fn evidence(evidence: &Evidence, circuit: &EdgeMask, progress: &mut dyn FnMut(f64)) -> Report {
    let Evidence { bench, graph, level, seed, .. } = *evidence;
    let (model, ablated) = (bench.clean(), bench.ablated());
    let normalised =
        |outcome: &Outcome| faithfulness(outcome.mean_metric(), ablated.mean_metric(), model.mean_metric());
    let whole = bench.circuit(circuit);
    let complement = bench.circuit(&nodes::complement(level, graph, circuit));
    let (edges, inside) = match level {
        Level::Edge => (circuit.edges(graph), Vec::new()),
        Level::Node | Level::Neuron => (Vec::new(), nodes::nodes(circuit)),
    };
    let parts = edges.len() + inside.len();
    let steps = (parts + evidence.random_circuits).max(1) as f64;
    let mut done = 0;
    let mut cost = |remove: &mut dyn FnMut(&mut EdgeMask)| {
        progress(f64::from(done) / steps);
        done += 1;
        let mut without = circuit.clone();
        remove(&mut without);
        normalised(&whole) - normalised(&bench.circuit(&without))
    };
    let minimality = edges.iter().map(|&edge| EdgeCost { edge, cost: cost(&mut |mask| mask.remove(edge)) }).collect();
    let minimality_of_nodes = inside
        .iter()
        .map(|&node| NodeCost { node, cost: cost(&mut |mask| mask.0.row_mut(node.0).fill(false)) })
        .collect();
    let random: Vec<f64> = (0..evidence.random_circuits)
        .filter_map(|index| {
            progress((parts + index) as f64 / steps);
            let seed = seed.wrapping_add(1 + index as u64);
            let mask = match level {
                Level::Edge => random_circuit(graph, edges.len(), seed).ok()?,
                Level::Node | Level::Neuron => random_nodes(graph, inside.len(), seed),
            };
            Some(normalised(&bench.circuit(&mask)))
        })
        .collect();
    progress(1.0);
    Report {
        pairs: model.metric.len(),
        metric: evidence.metric.to_owned(),
        metric_model: model.mean_metric(),
        metric_ablated: ablated.mean_metric(),
        metric_circuit: whole.mean_metric(),
        faithfulness: normalised(&whole),
        faithfulness_interval: faithfulness_interval(&whole.metric, &ablated.metric, &model.metric, seed),
        completeness: normalised(&complement),
        accuracy_model: mean(&model.accuracy),
        accuracy_ablated: mean(&ablated.accuracy),
        accuracy_circuit: mean(&whole.accuracy),
        kl: mean(&whole.kl),
        minimality,
        minimality_of_nodes,
        random: (!random.is_empty()).then(|| RandomBaseline {
            circuits: random.len(),
            edges: circuit.count(),
            mean: mean(&random),
            min: random.iter().copied().fold(f64::INFINITY, f64::min),
            max: random.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }),
    }
}
