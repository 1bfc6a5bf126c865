//! What evaluation found about a circuit, as plain numbers. Measured on pairs that were not used for scoring.

use crate::circuit::EdgeMask;
use crate::circuit::evidence::{HeldOut, Stability, Test};
use crate::graph::{Edge, Node, Source};

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
    /// The standard error of the model's metric over pairs.
    pub metric_model_error: f64,
    /// Kullback-Leibler divergence (nats) from the model's distribution to the circuit's.
    pub kl: f64,
    /// Of each edge, for a circuit of edges.
    pub minimality: Vec<EdgeCost>,
    /// Of each node but the input, for a circuit of nodes.
    pub minimality_of_nodes: Vec<NodeCost>,
    pub random: Option<RandomBaseline>,
    /// The same for random circuits in which every node has as many edges as in this one.
    pub random_of_degree: Option<RandomBaseline>,
    pub tests: Vec<Test>,
    /// Of the selection, where the scores of every pair were kept.
    pub stability: Option<Stability>,
    /// Circuits selected without one template each, where the task has several.
    pub held_out: Option<HeldOut>,
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

/// Faithfulness of random circuits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RandomBaseline {
    pub circuits: usize,
    pub edges: usize,
    pub mean: f64,
    pub max: f64,
    pub min: f64,
}

/// A circuit of a row in which each holds all edges of the one before, and how faithful it is.
#[derive(Clone, Debug)]
pub struct Stop {
    pub mask: EdgeMask,
    pub faithfulness: f64,
    pub interval: [f64; 2],
}

/// A prompt pair to look at.
#[derive(Clone, PartialEq, Debug)]
pub struct Example {
    pub clean: String,
    pub corrupt: String,
    pub right: String,
    pub wrong: String,
    /// The clean prompt's tokens as text.
    pub tokens: Vec<String>,
    /// The metric of the model and of the circuit.
    pub metric: [f64; 2],
}

/// What is known of a node beyond its edges.
#[derive(Clone, PartialEq, Debug)]
pub struct Card {
    pub node: Node,
    /// What it was found to do, and the numbers that say so.
    pub role: Option<[String; 2]>,
    /// Tokens that it makes more or less likely most, with what it adds to their logits.
    pub writes: Vec<(String, f64)>,
    /// Of a head, its attention on each example, row by row: `[query][key]`, keys up to the query.
    pub patterns: Vec<Vec<Vec<f32>>>,
}
