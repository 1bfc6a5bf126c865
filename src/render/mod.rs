//! Pictures of a circuit, all from one positioned figure. No tensors, no files, no clock: equal circuits give equal bytes.
//!
//! circuit ─► [`picture`] (what is drawn) ─► [`layout`] (`order`, `place`, `route`) ─► [`figure`] ─► [`scene`] (shapes)
//! ─► [`svg`], [`tikz`]; [`raster`] prints the SVG as PNG and PDF. [`dot`] goes from the figure to Graphviz. [`graphml`],
//! [`table`] and [`tracer_json`] hold the circuit itself, with nothing simplified. [`fit`] chooses how much is drawn in a given width.

pub mod attention;
pub mod bars;
pub mod chart;
pub mod curves;
pub mod dot;
pub mod features;
pub mod figure;
pub mod fit;
pub mod graphml;
pub mod heatmap;
pub mod histogram;
pub mod layout;
mod legend;
mod order;
pub mod picture;
mod place;
pub mod raster;
pub mod response;
mod route;
pub mod scene;
pub mod scores;
pub mod sizes;
pub mod style;
pub mod svg;
pub mod table;
pub mod theme;
pub mod tikz;
pub mod tracer_json;

use figure::Figure;
use picture::Content;
use scene::Scene;
use style::Style;

/// Text above the figure. Empty strings take no room.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Caption {
    pub title: String,
    pub subtitle: String,
}

/// The circuit as an SVG document, with sizes in points: print it unscaled.
pub fn svg(content: &Content, style: &Style, caption: &Caption) -> String {
    svg::draw(&Scene::new(&figure(content, style), style, caption))
}

/// The circuit with all its places.
pub fn figure(content: &Content, style: &Style) -> Figure {
    fit::figure(content, style)
}

/// The circuit in Graphviz's language.
pub fn dot(content: &Content, style: &Style, caption: &Caption) -> String {
    dot::draw(&figure(content, style), style, caption)
}
