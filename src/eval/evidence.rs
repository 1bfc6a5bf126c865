//! The evidence for a circuit: faithful, complete, minimal, better than chance, on pairs that did not choose it.

use super::baseline::random_circuit;
use super::bench::{Bench, Outcome, mean};
use super::bootstrap::{faithfulness, faithfulness_interval};
use crate::circuit::EdgeMask;
use crate::circuit::report::{EdgeCost, RandomBaseline, Report};
use crate::graph::Graph;

/// What to measure.
pub struct Evidence<'a> {
    pub bench: &'a Bench<'a>,
    pub graph: &'a Graph,
    pub metric: &'a str,
    pub seed: u64,
    /// How many random circuits of the same size to run.
    pub random_circuits: usize,
}

/// Measures a circuit. `progress` is told how much of the work is done, from 0 to 1.
pub fn evidence(evidence: &Evidence, circuit: &EdgeMask, progress: &mut dyn FnMut(f64)) -> Report {
    let Evidence { bench, graph, seed, .. } = *evidence;
    let (model, ablated) = (bench.clean(), bench.ablated());
    let normalised =
        |outcome: &Outcome| faithfulness(outcome.mean_metric(), ablated.mean_metric(), model.mean_metric());
    let whole = bench.circuit(circuit);
    let complement = bench.circuit(&circuit.complement(graph));
    let edges = circuit.edges(graph);
    let steps = (edges.len() + evidence.random_circuits).max(1) as f64;
    let minimality = edges
        .iter()
        .enumerate()
        .map(|(index, &edge)| {
            progress(index as f64 / steps);
            let mut without = circuit.clone();
            without.remove(edge);
            EdgeCost { edge, cost: normalised(&whole) - normalised(&bench.circuit(&without)) }
        })
        .collect();
    let random: Vec<f64> = (0..evidence.random_circuits)
        .filter_map(|index| {
            progress((edges.len() + index) as f64 / steps);
            let mask = random_circuit(graph, edges.len(), seed.wrapping_add(1 + index as u64)).ok()?;
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
        random: (!random.is_empty()).then(|| RandomBaseline {
            circuits: random.len(),
            edges: edges.len(),
            mean: mean(&random),
            min: random.iter().copied().fold(f64::INFINITY, f64::min),
            max: random.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }),
    }
}
