//! A figure whose parts all have their places, before any file format. Lengths are points, y grows downwards.

use super::picture::{Content, LeftOut};
use super::sizes;
use crate::graph::{Edge, Node};
use crate::model::spec::Branch;

#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    pub width: f64,
    pub height: f64,
    pub nodes: Vec<FigureNode>,
    /// Weakest first, so that the strongest are drawn on top.
    pub edges: Vec<FigureEdge>,
    pub layers: Vec<LayerLabel>,
    /// The largest |score| among the edges; 0 where nothing is scored.
    pub largest: f64,
    /// Whether queries, keys and values are drawn as one.
    pub merged_branches: bool,
    /// Boxes that stand for several nodes, and edges drawn that stand for several.
    pub put_together: [usize; 2],
    pub left_out: LeftOut,
}

impl Figure {
    /// The figure of one of the circuits that this is the figure of together: the same places and the same scale of scores.
    pub fn with(&self, content: &Content) -> Figure {
        let mut figure = self.clone();
        figure.edges.retain_mut(|edge| {
            edge.edges.retain(|edge| content.mask.contains(*edge));
            let scores = edge.edges.iter().map(|edge| content.scores.get(*edge)).filter(|score| score.is_finite());
            edge.score = scores.sum();
            if self.scored() {
                edge.strength = (f64::from(edge.score.abs()) / self.largest).min(1.0);
                edge.width = sizes::stroke(edge.strength).min(edge.width);
            }
            !edge.edges.is_empty()
        });
        figure.edges.sort_by(|a, b| a.strength.total_cmp(&b.strength));
        let ends = [Node::Input, Node::Logits];
        let used = |index: usize| figure.edges.iter().any(|edge| edge.from == index || edge.to == index);
        let kept: Vec<usize> = (0..self.nodes.len())
            .filter(|&index| used(index) || self.nodes[index].nodes.iter().any(|node| ends.contains(node)))
            .collect();
        figure.nodes = kept.iter().map(|&index| self.nodes[index].clone()).collect();
        for (node, &index) in figure.nodes.iter_mut().zip(&kept) {
            let enters = |branch| figure.edges.iter().any(|edge| edge.to == index && edge.branch == Some(branch));
            node.ports.retain(|(branch, _)| enters(*branch));
        }
        let place = |index: usize| kept.binary_search(&index).unwrap_or(0);
        for edge in &mut figure.edges {
            (edge.from, edge.to) = (place(edge.from), place(edge.to));
        }
        let drawn: Vec<Edge> = figure.edges.iter().flat_map(|edge| edge.edges.iter().copied()).collect();
        figure.left_out = LeftOut::of(content, &drawn, figure.nodes.iter().map(|node| node.nodes.len()).sum());
        figure
    }

    /// Whether edges differ by their scores.
    pub fn scored(&self) -> bool {
        self.largest > 0.0
    }
}

/// A box. `x` and `y` are its centre.
#[derive(Clone, PartialEq, Debug)]
pub struct FigureNode {
    /// What the box stands for, in the order of the residual stream.
    pub nodes: Vec<Node>,
    /// The row counted from the bottom.
    pub row: usize,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub label: String,
    /// What it does, on a line of its own.
    pub role: Option<String>,
    /// The inputs of a head that the circuit uses, with their x.
    pub ports: Vec<(Branch, f64)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FigureEdge {
    /// What the line stands for.
    pub edges: Vec<Edge>,
    /// The boxes at its ends.
    pub from: usize,
    pub to: usize,
    /// Its place in the order of the graph's edges.
    pub place: usize,
    pub name: String,
    pub score: f32,
    /// Which input of a head the edge enters; none for an MLP, the logits, and where they are drawn as one.
    pub branch: Option<Branch>,
    /// |score| as a share of the figure's largest; 1 where nothing is scored.
    pub strength: f64,
    /// Width of the stroke.
    pub width: f64,
    pub start: Point,
    pub steps: Vec<Step>,
}

impl FigureEdge {
    pub fn negative(&self) -> bool {
        self.score < 0.0
    }

    /// Where the edge meets its destination's box.
    pub fn tip(&self) -> Point {
        self.steps.last().map_or(self.start, |step| step.end())
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

/// A piece of an edge's path.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step {
    /// Straight up to a point.
    Line(Point),
    /// An S-shaped Bézier curve to a point, vertical at both ends.
    Curve(Point),
}

impl Step {
    pub fn end(self) -> Point {
        match self {
            Step::Line(end) | Step::Curve(end) => end,
        }
    }
}

/// The name of a layer beside its rows.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerLabel {
    pub text: String,
    /// The middle of the layer's rows.
    pub y: f64,
    /// Top and bottom of the layer's rows.
    pub span: (f64, f64),
}
