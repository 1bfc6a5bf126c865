//! Tests, stability and templates held out, inside of the report in `circuit.json`.

use super::evidence::{EdgeStability, HeldOut, Hypothesis, Stability, Template, Test};
use super::report_file::{number_or_null, two_numbers_or_null};
use crate::graph::{Graph, GraphError};
use serde::{Deserialize, Serialize};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TestV1 {
    pub hypothesis: String,
    pub count: usize,
    pub of: usize,
    pub p: f64,
    pub p_adjusted: f64,
    /// What follows; for readers, and not read again.
    #[serde(default)]
    pub holds: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StabilityV1 {
    pub resamples: usize,
    #[serde(deserialize_with = "number_or_null")]
    pub jaccard: f64,
    #[serde(deserialize_with = "two_numbers_or_null")]
    pub jaccard_range: [f64; 2],
    #[serde(deserialize_with = "number_or_null")]
    pub jaccard_with_all: f64,
    pub one_sign: usize,
    pub scored: usize,
    pub edges: Vec<EdgeStabilityV1>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EdgeStabilityV1 {
    pub edge: String,
    #[serde(deserialize_with = "two_numbers_or_null")]
    pub interval: [f64; 2],
    pub selected: f64,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HeldOutV1 {
    pub pairs: usize,
    #[serde(deserialize_with = "number_or_null")]
    pub faithfulness: f64,
    #[serde(deserialize_with = "two_numbers_or_null")]
    pub interval: [f64; 2],
    #[serde(deserialize_with = "number_or_null")]
    pub faithfulness_of_all: f64,
    pub templates: Vec<TemplateV1>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TemplateV1 {
    pub name: String,
    pub pairs: usize,
    #[serde(deserialize_with = "number_or_null")]
    pub faithfulness: f64,
    #[serde(deserialize_with = "two_numbers_or_null")]
    pub interval: [f64; 2],
    #[serde(deserialize_with = "number_or_null")]
    pub faithfulness_of_all: f64,
    #[serde(deserialize_with = "number_or_null")]
    pub jaccard: f64,
}

impl TestV1 {
    pub(super) fn new(test: &Test) -> TestV1 {
        let Test { hypothesis, count, of, p, p_adjusted } = *test;
        TestV1 { hypothesis: hypothesis.name().to_owned(), count, of, p, p_adjusted, holds: test.holds() }
    }

    /// None of a hypothesis that this version does not know.
    pub(super) fn build(self) -> Option<Test> {
        let TestV1 { hypothesis, count, of, p, p_adjusted, .. } = self;
        Some(Test { hypothesis: Hypothesis::parse(&hypothesis)?, count, of, p, p_adjusted })
    }
}

impl StabilityV1 {
    pub(super) fn new(graph: &Graph, stability: &Stability) -> StabilityV1 {
        let &Stability { resamples, jaccard, jaccard_range, jaccard_with_all, one_sign, scored, ref edges } = stability;
        let of_edge = |&EdgeStability { edge, interval, selected }: &EdgeStability| EdgeStabilityV1 {
            edge: graph.name(edge),
            interval,
            selected,
        };
        let edges = edges.iter().map(of_edge).collect();
        StabilityV1 { resamples, jaccard, jaccard_range, jaccard_with_all, one_sign, scored, edges }
    }

    pub(super) fn build(self, graph: &Graph) -> Result<Stability, GraphError> {
        let StabilityV1 { resamples, jaccard, jaccard_range, jaccard_with_all, one_sign, scored, edges } = self;
        let of_edge = |EdgeStabilityV1 { edge, interval, selected }: EdgeStabilityV1| {
            Ok(EdgeStability { edge: graph.parse_edge(&edge)?, interval, selected })
        };
        let edges = edges.into_iter().map(of_edge).collect::<Result<_, GraphError>>()?;
        Ok(Stability { resamples, jaccard, jaccard_range, jaccard_with_all, one_sign, scored, edges })
    }
}

impl From<&HeldOut> for HeldOutV1 {
    fn from(held_out: &HeldOut) -> HeldOutV1 {
        let HeldOut { pairs, faithfulness, interval, faithfulness_of_all, ref templates } = *held_out;
        let template = |template: &Template| {
            let Template { name, pairs, faithfulness, interval, faithfulness_of_all, jaccard } = template.clone();
            TemplateV1 { name, pairs, faithfulness, interval, faithfulness_of_all, jaccard }
        };
        let templates = templates.iter().map(template).collect();
        HeldOutV1 { pairs, faithfulness, interval, faithfulness_of_all, templates }
    }
}

impl From<HeldOutV1> for HeldOut {
    fn from(held_out: HeldOutV1) -> HeldOut {
        let HeldOutV1 { pairs, faithfulness, interval, faithfulness_of_all, templates } = held_out;
        let template = |TemplateV1 { name, pairs, faithfulness, interval, faithfulness_of_all, jaccard }| Template {
            name,
            pairs,
            faithfulness,
            interval,
            faithfulness_of_all,
            jaccard,
        };
        let templates = templates.into_iter().map(template).collect();
        HeldOut { pairs, faithfulness, interval, faithfulness_of_all, templates }
    }
}
