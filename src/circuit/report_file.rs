//! The report inside of `circuit.json`.

use super::evidence::HeldOut;
use super::evidence_file::{HeldOutV1, StabilityV1, TestV1};
use super::report::{EdgeCost, NodeCost, RandomBaseline, Report};
use super::validity::warnings;
use crate::graph::{Graph, GraphError};
use serde::{Deserialize, Deserializer, Serialize};

/// [`Report`] in the file. JSON has no not-a-number: such values are `null`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReportV1 {
    pub pairs: usize,
    pub metric: String,
    #[serde(deserialize_with = "number_or_null")]
    pub metric_model: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub metric_ablated: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub metric_circuit: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub faithfulness: f64,
    #[serde(deserialize_with = "two_numbers_or_null")]
    pub faithfulness_interval: [f64; 2],
    #[serde(deserialize_with = "number_or_null")]
    pub completeness: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub accuracy_model: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub accuracy_ablated: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub accuracy_circuit: f64,
    /// Absent in files of older versions.
    #[serde(default = "not_a_number", deserialize_with = "number_or_null")]
    pub metric_model_error: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub kl: f64,
    pub minimality: Vec<EdgeCostV1>,
    /// Absent for circuits of edges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minimality_of_nodes: Vec<NodeCostV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<RandomBaselineV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random_of_degree: Option<RandomBaselineV1>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<StabilityV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out: Option<HeldOutV1>,
    /// What follows from the numbers; for readers, and not read again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EdgeCostV1 {
    pub edge: String,
    #[serde(deserialize_with = "number_or_null")]
    pub cost: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeCostV1 {
    pub node: String,
    #[serde(deserialize_with = "number_or_null")]
    pub cost: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RandomBaselineV1 {
    pub circuits: usize,
    pub edges: usize,
    #[serde(deserialize_with = "number_or_null")]
    pub mean: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub max: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub min: f64,
}

fn not_a_number() -> f64 {
    f64::NAN
}

pub(super) fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

pub(super) fn two_numbers_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    Ok(<[Option<f64>; 2]>::deserialize(deserializer)?.map(|number| number.unwrap_or(f64::NAN)))
}

impl ReportV1 {
    pub(super) fn new(graph: &Graph, report: &Report) -> ReportV1 {
        let of_node = |cost: &NodeCost| NodeCostV1 { node: graph.node(cost.node).to_string(), cost: cost.cost };
        let cost = |cost: &EdgeCost| EdgeCostV1 { edge: graph.name(cost.edge), cost: cost.cost };
        ReportV1 {
            pairs: report.pairs,
            metric: report.metric.clone(),
            metric_model: report.metric_model,
            metric_ablated: report.metric_ablated,
            metric_circuit: report.metric_circuit,
            faithfulness: report.faithfulness,
            faithfulness_interval: report.faithfulness_interval,
            completeness: report.completeness,
            accuracy_model: report.accuracy_model,
            accuracy_ablated: report.accuracy_ablated,
            accuracy_circuit: report.accuracy_circuit,
            metric_model_error: report.metric_model_error,
            kl: report.kl,
            minimality: report.minimality.iter().map(cost).collect(),
            minimality_of_nodes: report.minimality_of_nodes.iter().map(of_node).collect(),
            random: report.random.map(RandomBaselineV1::from),
            random_of_degree: report.random_of_degree.map(RandomBaselineV1::from),
            tests: report.tests.iter().map(TestV1::new).collect(),
            stability: report.stability.as_ref().map(|stability| StabilityV1::new(graph, stability)),
            held_out: report.held_out.as_ref().map(HeldOutV1::from),
            warnings: warnings(report).iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn build(self, graph: &Graph) -> Result<Report, GraphError> {
        let of_node = |cost: NodeCostV1| {
            let node = graph.source(cost.node.parse()?).ok_or(GraphError::BadNode(cost.node))?;
            Ok(NodeCost { node, cost: cost.cost })
        };
        let cost = |cost: EdgeCostV1| Ok(EdgeCost { edge: graph.parse_edge(&cost.edge)?, cost: cost.cost });
        Ok(Report {
            pairs: self.pairs,
            metric: self.metric,
            metric_model: self.metric_model,
            metric_ablated: self.metric_ablated,
            metric_circuit: self.metric_circuit,
            faithfulness: self.faithfulness,
            faithfulness_interval: self.faithfulness_interval,
            completeness: self.completeness,
            accuracy_model: self.accuracy_model,
            accuracy_ablated: self.accuracy_ablated,
            accuracy_circuit: self.accuracy_circuit,
            metric_model_error: self.metric_model_error,
            kl: self.kl,
            minimality: self.minimality.into_iter().map(cost).collect::<Result<_, GraphError>>()?,
            minimality_of_nodes: self
                .minimality_of_nodes
                .into_iter()
                .map(of_node)
                .collect::<Result<_, GraphError>>()?,
            random: self.random.map(RandomBaseline::from),
            random_of_degree: self.random_of_degree.map(RandomBaseline::from),
            tests: self.tests.into_iter().filter_map(TestV1::build).collect(),
            stability: self.stability.map(|stability| stability.build(graph)).transpose()?,
            held_out: self.held_out.map(HeldOut::from),
        })
    }
}

impl From<RandomBaseline> for RandomBaselineV1 {
    fn from(RandomBaseline { circuits, edges, mean, max, min }: RandomBaseline) -> RandomBaselineV1 {
        RandomBaselineV1 { circuits, edges, mean, max, min }
    }
}

impl From<RandomBaselineV1> for RandomBaseline {
    fn from(RandomBaselineV1 { circuits, edges, mean, max, min }: RandomBaselineV1) -> RandomBaseline {
        RandomBaseline { circuits, edges, mean, max, min }
    }
}
