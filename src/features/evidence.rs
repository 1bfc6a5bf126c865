//! The evidence for a circuit of features, on pairs that did not choose it.

use super::runs::Runs;
use super::scores::Scored;
use super::{Kept, Node, Unit};
use crate::eval::bench::{Outcome, mean};
use crate::eval::bootstrap::{faithfulness, faithfulness_interval};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

/// Measured on pairs that did not choose the circuit.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    pub pairs: usize,
    /// Of the model, with every node ablated, and of the circuit.
    pub metric: [f64; 3],
    pub accuracy: [f64; 3],
    /// KL from the model's distribution to the circuit's, nats.
    pub kl: f64,
    pub faithfulness: f64,
    pub interval: [f64; 2],
    /// The faithfulness of all nodes outside of the circuit.
    pub completeness: f64,
    /// The faithfulness of the circuit's features without the errors.
    pub features_alone: f64,
    /// What leaving each node out costs, in faithfulness.
    pub minimality: Vec<(Node, f64)>,
    /// Mean, least and largest faithfulness of as many nodes drawn from those that differ between clean and corrupt prompts.
    pub random: Option<[f64; 3]>,
}

/// Measures a circuit on `runs`; `ranked` are the nodes that random circuits are drawn from. `progress` is told how much is
/// done, from 0 to 1.
pub fn evidence(
    runs: &Runs,
    kept: &Kept,
    ranked: &[Scored],
    (random_circuits, seed): (usize, u64),
    progress: &mut dyn FnMut(f64),
) -> Evidence {
    let (model, ablated) = (&runs.clean, &runs.ablated);
    let normalised =
        |outcome: &Outcome| faithfulness(outcome.mean_metric(), ablated.mean_metric(), model.mean_metric());
    let of = |kept: &Kept| normalised(&runs.circuit(kept));
    let circuit = runs.circuit(kept);
    let whole = normalised(&circuit);
    let outside: Kept = runs.setting.all().difference(kept).copied().collect();
    let alone: Kept = kept.iter().copied().filter(|node| node.unit != Unit::Error).collect();
    let steps = (kept.len() + random_circuits).max(1) as f64;
    let minimality = kept.iter().enumerate().map(|(index, &node)| {
        progress(index as f64 / steps);
        let mut without = kept.clone();
        without.remove(&node);
        (node, whole - of(&without))
    });
    let minimality = minimality.collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let drawn: Vec<f64> = (0..random_circuits)
        .map(|index| {
            progress((kept.len() + index) as f64 / steps);
            let chosen = sample(&mut random, ranked.len(), kept.len().min(ranked.len()));
            of(&chosen.iter().map(|index| ranked[index].node).collect())
        })
        .collect();
    progress(1.0);
    let [least, largest] = [f64::min as fn(f64, f64) -> f64, f64::max].map(|of| drawn.iter().copied().reduce(of));
    Evidence {
        pairs: model.metric.len(),
        metric: [model, ablated, &circuit].map(Outcome::mean_metric),
        accuracy: [model, ablated, &circuit].map(|outcome| mean(&outcome.accuracy)),
        kl: mean(&circuit.kl),
        faithfulness: whole,
        interval: faithfulness_interval(&circuit.metric, &ablated.metric, &model.metric, seed),
        completeness: of(&outside),
        features_alone: of(&alone),
        minimality,
        random: least.zip(largest).map(|(least, largest)| [mean(&drawn), least, largest]),
    }
}
