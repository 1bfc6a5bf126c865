//! A figure whose parts all have their places, before any file format. Lengths are points, y grows downwards.

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
}

/// A box. `x` and `y` are its centre.
#[derive(Clone, PartialEq, Debug)]
pub struct FigureNode {
    pub node: Node,
    /// The row counted from the bottom.
    pub row: usize,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    pub label: String,
    /// The inputs of a head that the circuit uses, with their x.
    pub ports: Vec<(Branch, f64)>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FigureEdge {
    pub edge: Edge,
    pub name: String,
    pub score: f32,
    /// Which input of a head the edge enters; none for an MLP and the logits.
    pub branch: Option<Branch>,
    /// |score| as a share of the figure's largest; 1 where nothing is scored.
    pub strength: f64,
    /// Width of the stroke.
    pub width: f64,
    pub start: Point,
    pub steps: Vec<Step>,
}

impl FigureEdge {
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
