//! How the scores of all edges are distributed, and below that the scores of a circuit's strongest parts with their intervals.

use super::bars::{Bar, bars};
use super::chart::distribution;
use super::figure::Point;
use super::scene::{Anchor, Scene, Shape};
use super::sizes::{self, MARGIN};
use super::style::Style;
use crate::circuit::EdgeMask;
use crate::circuit::evidence::EdgeStability;
use crate::graph::scores::Scores;
use crate::graph::{Edge, Graph, Level};
use std::collections::BTreeMap;

/// Bars, at most: with them the figure fits a page.
const MOST: usize = 40;

/// `scores`: of all edges; `stability`: of the circuit's edges, none where it was not measured, and then there are no bars.
/// In a circuit of nodes an edge has the score of the node that it leaves, and a bar is a node.
pub fn picture(
    graph: &Graph,
    circuit: &EdgeMask,
    scores: &Scores,
    level: Level,
    stability: &[EdgeStability],
    style: &Style,
) -> Scene {
    let all: Vec<f32> = graph.edges().iter().map(|edge| scores.get(*edge)).collect();
    let whole = distribution(&all, style);
    let intervals: BTreeMap<Edge, [f64; 2]> = stability.iter().map(|of| (of.edge, of.interval)).collect();
    let drawable = |edge: &Edge| intervals.contains_key(edge) && scores.get(*edge).is_finite();
    let mut edges: Vec<Edge> = circuit.edges(graph).into_iter().filter(drawable).collect();
    if level != Level::Edge {
        edges.sort_by_key(|edge| edge.source);
        edges.dedup_by_key(|edge| edge.source);
    }
    if edges.is_empty() {
        return whole;
    }
    edges.sort_by(|a, b| scores.get(*b).abs().total_cmp(&scores.get(*a).abs()));
    let bar = |edge: &Edge| Bar {
        name: if level == Level::Edge { graph.name(*edge) } else { graph.node(edge.source).to_string() },
        value: f64::from(scores.get(*edge)),
        interval: intervals.get(edge).copied(),
    };
    let drawn: Vec<Bar> = edges.iter().take(MOST).map(bar).collect();
    let mut parts = bars(&drawn, "Scores", "score in the circuit, 95 % interval over pairs", style);
    if edges.len() > MOST {
        let words = format!("and {} weaker {}", edges.len() - MOST, level.plural());
        let at = Point { x: MARGIN, y: parts.height + sizes::SMALL_SIZE - MARGIN + 2.0 };
        let (anchor, size, colour) = (Anchor::Start, sizes::SMALL_SIZE, style.theme.faint_ink);
        parts.shapes.push(Shape::Text { at, anchor, size, bold: false, colour, words });
        parts.height += sizes::SMALL_SIZE + 2.0;
    }
    whole.above(parts, 6.0)
}
