//! What the page shows: the circuit and its neighbourhood with their places, and what was measured of them.

use crate::circuit::file::Circuit;
use crate::circuit::report::{Card, Example, Stop};
use crate::circuit::verdict::{Finding, with_interval};
use crate::graph::scores::Scores;
use crate::graph::{Edge, Node};
use crate::render::figure::{Figure, FigureEdge};
use crate::render::layout::{Rows, layout};
use crate::render::picture::{Content, Detail, Picture};
use crate::render::svg::path_of;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Everything that goes into a report.
pub struct Page<'a> {
    pub title: String,
    pub subtitle: String,
    pub description: String,
    /// The exact command.
    pub command: String,
    pub circuit: &'a Circuit,
    /// What its report supports, claim by claim; none without a report.
    pub findings: Vec<Finding>,
    /// Scores of all edges, not only of the circuit's.
    pub scores: &'a Scores,
    /// From few edges to many; each holds all edges of those before it.
    pub stops: Vec<Stop>,
    pub examples: Vec<Example>,
    pub cards: Vec<Card>,
}

impl Page<'_> {
    pub(super) fn data(&self) -> Value {
        let graph = &self.circuit.graph;
        let mask = self.stops.last().map_or(&self.circuit.mask, |stop| &stop.mask).union(&self.circuit.mask);
        let content = Content { graph, mask: &mask, scores: self.scores, roles: &self.circuit.roles };
        let figure = layout(&Picture::new(&content, Detail::FULL), Rows::Near(None), None);
        let here = self.stops.iter().position(|stop| stop.mask == self.circuit.mask).unwrap_or(0);
        let first = |edge: Edge| self.stops.iter().position(|stop| stop.mask.contains(edge)).unwrap_or(here);
        let stops: Vec<Value> = self
            .stops
            .iter()
            .map(|stop| json!({ "edges": stop.mask.count(), "faithfulness": number(stop.faithfulness), "interval": stop.interval.map(number) }))
            .collect();
        let report = self.circuit.report.as_ref();
        let costs = report.map(|report| &report.minimality);
        let cost = |edge: Edge| costs?.iter().find(|cost| cost.edge == edge).map(|cost| number(cost.cost));
        let stability = report.and_then(|report| report.stability.as_ref());
        // [edge]: the ends of the score's interval, and the share of resamples that select it
        let stabilities: HashMap<Edge, [Option<f64>; 3]> = stability
            .iter()
            .flat_map(|stability| &stability.edges)
            .map(|of| (of.edge, [of.interval[0], of.interval[1], of.selected].map(number)))
            .collect();
        let stability_of = |edge: Edge| stabilities.get(&edge);
        let edges = figure.edges.iter().map(|edge| {
            let FigureEdge { from, to, branch, score, edges, .. } = edge;
            let of = edges.first().copied();
            let branch = branch.map_or(-1, |branch| branch.index() as i64);
            let score = if score.is_finite() { *score } else { 0.0 };
            json!([
                from,
                to,
                branch,
                score,
                path_of(edge),
                of.map_or(here, first),
                of.and_then(cost),
                of.and_then(stability_of)
            ])
        });
        json!({
            "width": figure.width,
            "height": figure.height,
            "largest": figure.largest,
            "layers": figure.layers.iter().map(|layer| json!({ "text": layer.text, "y": layer.y })).collect::<Vec<_>>(),
            "nodes": self.nodes(&figure),
            "edges": edges.collect::<Vec<_>>(),
            "stops": stops,
            "circuit": here,
            "random": report.and_then(|report| report.random.as_ref()).map(|random| number(random.mean)),
            "prompts": self.examples.iter().map(|prompt| json!({
                "clean": prompt.clean, "corrupt": prompt.corrupt, "right": prompt.right, "wrong": prompt.wrong,
                "tokens": prompt.tokens, "metric": prompt.metric.map(number),
            })).collect::<Vec<_>>(),
            "evidence": self.evidence(),
        })
    }

    fn nodes(&self, figure: &Figure) -> Vec<Value> {
        let report = self.circuit.report.as_ref();
        let node = |of: &crate::render::figure::FigureNode| {
            let node = of.nodes.first().copied().unwrap_or(Node::Input);
            let kind = match node {
                Node::Head(..) => "head",
                Node::Mlp(_) => "mlp",
                Node::Input | Node::Logits => "end",
            };
            let card = self.cards.iter().find(|card| card.node == node);
            let cost = report.and_then(|report| {
                let of_node = |source| self.circuit.graph.node(source) == node;
                report.minimality_of_nodes.iter().find(|cost| of_node(cost.node)).map(|cost| number(cost.cost))
            });
            let at = [of.x, of.y, of.width, of.height].map(|length| (length * 100.0).round() / 100.0);
            let mut value = json!({
                "name": of.label,
                "kind": kind,
                "at": at,
                "ports": of.ports.iter().map(|(branch, x)| json!([branch.index(), x])).collect::<Vec<_>>(),
                "cost": cost,
            });
            if let Some(card) = card {
                if let Some([role, evidence]) = &card.role {
                    (value["role"], value["evidence"]) = (json!(role), json!(evidence));
                }
                if !card.writes.is_empty() {
                    value["writes"] = json!(
                        card.writes.iter().map(|(token, value)| json!([token, number(*value)])).collect::<Vec<_>>()
                    );
                }
                if !card.patterns.is_empty() {
                    let round = |share: &f32| (f64::from(*share) * 1000.0).round() / 1000.0;
                    let rows = |pattern: &Vec<Vec<f32>>| -> Vec<Vec<f64>> {
                        pattern.iter().map(|row| row.iter().map(round).collect()).collect()
                    };
                    value["patterns"] = json!(card.patterns.iter().map(rows).collect::<Vec<_>>());
                }
            }
            value
        };
        figure.nodes.iter().map(node).collect()
    }

    /// Names and values of the evidence table.
    fn evidence(&self) -> Vec<[String; 2]> {
        let Circuit { provenance, graph, mask, report, .. } = self.circuit;
        let mut rows = vec![
            ["task".into(), provenance.task.name.clone()],
            ["model".into(), provenance.model.id.clone()],
            ["method".into(), provenance.method.name.clone()],
            ["ablation".into(), provenance.ablation.clone()],
            ["edges".into(), format!("{} of {}", mask.count(), graph.edge_count())],
            ["nodes".into(), mask.nodes(graph).len().to_string()],
        ];
        if let Some(report) = report {
            rows.extend([
                ["faithfulness".into(), with_interval(report.faithfulness, report.faithfulness_interval)],
                ["completeness (faithfulness of all the rest)".into(), format!("{:.3}", report.completeness)],
                [
                    report.metric.clone(),
                    format!(
                        "model {:.3}, circuit {:.3}, ablated {:.3}",
                        report.metric_model, report.metric_circuit, report.metric_ablated
                    ),
                ],
                [
                    "accuracy".into(),
                    format!(
                        "model {:.2}, circuit {:.2}, ablated {:.2}",
                        report.accuracy_model, report.accuracy_circuit, report.accuracy_ablated
                    ),
                ],
                ["KL from the model".into(), format!("{:.3} nats", report.kl)],
            ]);
            for (name, random) in [
                ("random circuits of the same size", &report.random),
                ("random circuits in which every node keeps its number of edges", &report.random_of_degree),
            ] {
                if let Some(random) = random {
                    let text = format!(
                        "faithfulness {:.3} on average, {:.3} at most, of {}",
                        random.mean, random.max, random.circuits
                    );
                    rows.push([name.into(), text]);
                }
            }
            if let Some(stability) = &report.stability {
                let [low, high] = stability.jaccard_range;
                rows.extend([
                    [
                        "edges in common of two resamples' selections (Jaccard)".into(),
                        format!("{:.2} [{low:.2}, {high:.2}], of {} resamples", stability.jaccard, stability.resamples),
                    ],
                    [
                        "scores of one sign".into(),
                        format!("{} of {}, by their 95 % intervals", stability.one_sign, stability.scored),
                    ],
                ]);
            }
        }
        rows
    }
}

/// Numbers that JSON has, short: six significant figures are more than a page shows.
fn number(value: f64) -> Option<f64> {
    if value.is_finite() { format!("{value:.5e}").parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_finite() {
        assert_eq!(number(0.123_456_789), Some(0.123_457));
        assert_eq!(number(f64::NAN), None);
    }
}
