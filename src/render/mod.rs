//! Pictures of a circuit: SVG by our own layered layout, DOT for Graphviz. No tensors, no files, no clock: equal circuits give equal
//! bytes.
//!
//! [`layout`] turns a circuit into a positioned [`figure::Figure`]; [`svg`](mod@svg) draws the figure with the colours and
//! sizes of [`theme`].

pub mod dot;
pub mod figure;
pub mod layout;
mod legend;
mod order;
mod place;
mod route;
pub mod svg;
pub mod theme;

use crate::circuit::EdgeMask;
use crate::graph::Graph;
use crate::graph::scores::Scores;

/// Text above the figure. Empty strings take no room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caption {
    pub title: String,
    pub subtitle: String,
}

/// The circuit as an SVG document, with sizes in points: print it unscaled.
pub fn svg(graph: &Graph, mask: &EdgeMask, scores: &Scores, caption: &Caption) -> String {
    svg::draw(&layout::layout(graph, mask, scores), caption)
}

/// The circuit in Graphviz's language.
pub fn dot(graph: &Graph, mask: &EdgeMask, scores: &Scores, caption: &Caption) -> String {
    dot::draw(graph, mask, scores, caption)
}
