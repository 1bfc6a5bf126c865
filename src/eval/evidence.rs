//! The evidence for a circuit: faithful, complete, minimal, better than chance, on pairs that did not choose it.

use super::baseline::{random_circuit, random_elsewhere, random_nodes, random_of_degree};
use super::bench::{Bench, Outcome, mean};
use super::bootstrap::{faithfulness, faithfulness_interval};
use super::hypotheses::{Compared, distance, tests};
use super::needless::with_one_more;
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
    /// How many random circuits of the same size to run, whole and left out, and how many needless parts to add.
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
    let needless = with_one_more(graph, level, circuit, evidence.random_circuits, seed);
    let random: Vec<EdgeMask> = (0..evidence.random_circuits)
        .filter_map(|index| {
            let seed = seed.wrapping_add(1 + index as u64);
            match level {
                Level::Edge => random_circuit(graph, edges.len(), seed).ok(),
                Level::Node | Level::Neuron => Some(random_nodes(graph, inside.len(), seed)),
            }
        })
        .collect();
    let of_degree = match level {
        Level::Edge => random.len(),
        Level::Node | Level::Neuron => 0, // an edge of a circuit of nodes is not chosen by itself
    };
    let steps = (edges.len() + inside.len() + needless.len() + 2 * random.len() + of_degree).max(1) as f64;
    let mut done = 0;
    let mut run = |mask: &EdgeMask| {
        progress(f64::from(done) / steps);
        done += 1;
        bench.circuit(mask)
    };
    let mut removals = Vec::new();
    let mut cost = |remove: &mut dyn FnMut(&mut EdgeMask)| {
        let mut without = circuit.clone();
        remove(&mut without);
        let without = run(&without);
        removals.push(distance(&without, &whole));
        normalised(&whole) - normalised(&without)
    };
    let minimality = edges.iter().map(|&edge| EdgeCost { edge, cost: cost(&mut |mask| mask.remove(edge)) }).collect();
    let minimality_of_nodes = inside
        .iter()
        .map(|&node| NodeCost { node, cost: cost(&mut |mask| mask.0.row_mut(node.0).fill(false)) })
        .collect();
    let needless: Vec<f64> = needless.iter().map(|mask| distance(&run(mask), &whole)).collect();
    let of_random: Vec<Outcome> = random.iter().map(&mut run).collect();
    let seeds = |count: usize| (0..count as u64).map(|index| seed.wrapping_add(1 + index));
    let without_random: Vec<f64> = seeds(random.len())
        .map(|seed| random_elsewhere(graph, level, circuit, seed))
        .filter(|elsewhere| elsewhere.count() > 0)
        .map(|elsewhere| distance(&run(&nodes::complement(level, graph, &elsewhere)), model))
        .collect();
    let of_degree: Vec<f64> =
        seeds(of_degree).map(|seed| normalised(&run(&random_of_degree(graph, circuit, seed)))).collect();
    let distances: Vec<f64> = of_random.iter().map(|outcome| distance(outcome, model)).collect();
    let compared = Compared {
        model,
        ablated,
        circuit: &whole,
        complement: &complement,
        removals: &removals,
        needless: &needless,
        random: &distances,
        without_random: &without_random,
    };
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
        metric_model_error: standard_error(&model.metric),
        kl: mean(&whole.kl),
        minimality,
        minimality_of_nodes,
        random: baseline(circuit, of_random.iter().map(normalised).collect()),
        random_of_degree: baseline(circuit, of_degree),
        tests: tests(&compared, seed),
        stability: None,
        held_out: None,
    }
}

/// Of the mean; not a number for fewer than two values.
fn standard_error(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean(values)).powi(2)).sum();
    (squares / ((count - 1.0) * count)).sqrt()
}

/// The faithfulness of random circuits like this one, if there are any.
fn baseline(circuit: &EdgeMask, faithfulness: Vec<f64>) -> Option<RandomBaseline> {
    (!faithfulness.is_empty()).then(|| RandomBaseline {
        circuits: faithfulness.len(),
        edges: circuit.count(),
        mean: mean(&faithfulness),
        min: faithfulness.iter().copied().fold(f64::INFINITY, f64::min),
        max: faithfulness.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    })
}
