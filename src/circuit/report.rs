//! What evaluation found about a circuit, as plain numbers. Measured on pairs that were not used for scoring.

use crate::graph::{Edge, Source};

#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// How many prompt pairs were measured.
    pub pairs: usize,
    /// The metric's name. Larger is better.
    pub metric: String,
    /// The metric of the whole model, of the fully ablated one and of the circuit.
    pub metric_model: f64,
    pub metric_ablated: f64,
    pub metric_circuit: f64,
    /// (circuit − ablated) / (model − ablated): 1 is as good as the model, 0 no better than nothing.
    pub faithfulness: f64,
    /// Bootstrap interval of the faithfulness over pairs: low, high.
    pub faithfulness_interval: [f64; 2],
    /// The faithfulness of all edges outside the circuit. Near 0 when the circuit has everything that matters.
    pub completeness: f64,
    /// The share of pairs whose best right answer beats the wrong ones.
    pub accuracy_model: f64,
    pub accuracy_ablated: f64,
    pub accuracy_circuit: f64,
    /// Kullback-Leibler divergence (nats) from the model's distribution to the circuit's.
    pub kl: f64,
    /// Of each edge, for a circuit of edges.
    pub minimality: Vec<EdgeCost>,
    /// Of each node but the input, for a circuit of nodes.
    pub minimality_of_nodes: Vec<NodeCost>,
    pub random: Option<RandomBaseline>,
}

/// What removing one edge of the circuit costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EdgeCost {
    pub edge: Edge,
    /// Faithfulness of the circuit minus faithfulness without the edge.
    pub cost: f64,
}

/// What removing one node of the circuit costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NodeCost {
    pub node: Source,
    /// Faithfulness of the circuit minus faithfulness without the edges that leave the node.
    pub cost: f64,
}

/// Faithfulness of random circuits of the same size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RandomBaseline {
    pub circuits: usize,
    pub edges: usize,
    pub mean: f64,
    pub max: f64,
    pub min: f64,
}
