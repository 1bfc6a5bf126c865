//! One number per edge: how much the edge helps the task.

use super::{Edge, Graph};
use ndarray::Array2;

/// Scores of all edges. Positive means that the edge helps: ablating it lowers the metric.
#[derive(Clone, PartialEq, Debug)]
pub struct Scores {
    /// `[source, destination]`, zero where there is no edge.
    pub values: Array2<f32>,
}

impl Scores {
    pub fn zeros(graph: &Graph) -> Scores {
        Scores { values: Array2::zeros((graph.sources(), graph.destinations())) }
    }

    /// The score of an edge; zero outside the matrix.
    pub fn get(&self, edge: Edge) -> f32 {
        self.values.get((edge.source.0, edge.destination.0)).copied().unwrap_or(0.0)
    }

    pub fn set(&mut self, edge: Edge, score: f32) {
        self.values[(edge.source.0, edge.destination.0)] = score;
    }
}
