//! A figure as shapes with colours, which every vector format prints one by one. Lengths are points, y grows downwards.

use super::Caption;
use super::figure::{Figure, FigureEdge, FigureNode, Point, Step};
use super::legend::legend;
use super::sizes;
use super::style::Style;
use super::theme::{Colour, Theme};
use crate::graph::Node;
use std::fmt::Write;

/// Narrower figures are centred in this width, so that caption and legend have room.
const LEAST_WIDTH: f64 = 200.0;

#[derive(Clone, PartialEq, Debug)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    /// What all lengths are to be multiplied with.
    pub scale: f64,
    pub paper: Colour,
    pub title: String,
    /// What a reader who cannot see the figure is told.
    pub description: String,
    pub shapes: Vec<Shape>,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Shape {
    /// A line without a filling.
    Stroke { start: Point, pieces: Vec<Piece>, colour: Colour, width: f64, dashes: Option<[f64; 2]> },
    /// A filled polygon.
    Polygon { points: Vec<Point>, fill: Colour },
    /// A rectangle with round corners; `x` and `y` are its upper left corner.
    Rectangle { x: f64, y: f64, width: f64, height: f64, corner: f64, fill: Colour, border: Option<Colour> },
    /// `at` is on the baseline.
    Text { at: Point, anchor: Anchor, size: f64, bold: bool, colour: Colour, words: String },
    /// Shapes that have a name together.
    Group { name: String, shapes: Vec<Shape> },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Piece {
    Line(Point),
    /// A Bézier curve: two control points and its end.
    Curve(Point, Point, Point),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// Points moved and turned.
pub(super) type Place<'a> = &'a dyn Fn(Point) -> Point;

impl Scene {
    /// The figure with its caption above and a legend below.
    pub fn new(figure: &Figure, style: &Style, caption: &Caption) -> Scene {
        let theme = &style.theme;
        let width = style.width_in_points().unwrap_or(0.0).max(figure.width).max(match style.width {
            Some(_) => 0.0,
            None => LEAST_WIDTH,
        });
        let inner = width - 2.0 * sizes::MARGIN;
        let mut shapes = Vec::new();
        let mut top = 0.0;
        for (words, size, colour, bold) in [
            (&caption.title, sizes::TITLE_SIZE, theme.ink, true),
            (&caption.subtitle, sizes::LABEL_SIZE, theme.faint_ink, false),
        ] {
            // Bold letters are wider.
            for words in sizes::wrap(words, size * if bold { 1.06 } else { 1.0 }, inner) {
                top += size * 1.3;
                let at = Point { x: sizes::MARGIN, y: top + 2.0 };
                shapes.push(Shape::Text { at, anchor: Anchor::Start, size, bold, colour, words });
            }
        }
        if top > 0.0 {
            top += 4.0;
        }
        let figure_alone = Scene::of_figure(figure, style, width);
        shapes.extend(figure_alone.shapes.into_iter().map(|shape| shape.moved(0.0, top)));
        Scene {
            width,
            height: top + figure_alone.height,
            scale: style.scale(),
            paper: theme.paper,
            title: if caption.title.is_empty() { "Circuit".into() } else { caption.title.clone() },
            description: description(figure, caption),
            shapes,
        }
    }

    /// The figure and its legend, in the middle of a width.
    pub fn of_figure(figure: &Figure, style: &Style, width: f64) -> Scene {
        let theme = &style.theme;
        let mut shapes = Vec::new();
        let shift = (width - figure.width) / 2.0;
        let place = |point: Point| Point { x: point.x + shift, y: point.y };
        layers(&mut shapes, figure, theme, &place);
        for edge in &figure.edges {
            let name = if figure.scored() { format!("{} {:+.4}", edge.name, edge.score) } else { edge.name.clone() };
            shapes.push(Shape::Group { name, shapes: edge_shapes(edge, theme, figure.scored(), true, &place) });
        }
        for node in &figure.nodes {
            node_shapes(&mut shapes, node, theme, &place);
        }
        let mut height = figure.height;
        if style.legend {
            let corner = Point { x: sizes::MARGIN, y: height + 2.0 };
            let (legend_height, drawn) = legend(figure, theme, corner, width - 2.0 * sizes::MARGIN);
            shapes.extend(drawn);
            height += 2.0 + legend_height + sizes::MARGIN;
        }
        let caption = Caption::default();
        Scene {
            width,
            height,
            scale: style.scale(),
            paper: theme.paper,
            title: String::new(),
            description: description(figure, &caption),
            shapes,
        }
    }
}

impl Scene {
    /// With another scene to the right of it.
    pub fn beside(self, right: Scene, apart: f64) -> Scene {
        let left = self.width + apart;
        let description = format!("{} {}", self.description, right.description);
        let moved = right.shapes.into_iter().map(|shape| shape.moved(left, 0.0));
        Scene {
            width: left + right.width,
            height: self.height.max(right.height),
            description,
            shapes: self.shapes.into_iter().chain(moved).collect(),
            ..self
        }
    }

    /// With another scene below it.
    pub fn above(self, below: Scene, apart: f64) -> Scene {
        let top = self.height + apart;
        let description = format!("{} {}", self.description, below.description);
        let moved = below.shapes.into_iter().map(|shape| shape.moved(0.0, top));
        Scene {
            width: self.width.max(below.width),
            height: top + below.height,
            description,
            shapes: self.shapes.into_iter().chain(moved).collect(),
            ..self
        }
    }
}

impl Shape {
    /// Moved to the right and down.
    pub fn moved(self, right: f64, down: f64) -> Shape {
        let there = |point: Point| Point { x: point.x + right, y: point.y + down };
        match self {
            Shape::Stroke { start, pieces, colour, width, dashes } => {
                let piece = |piece: Piece| match piece {
                    Piece::Line(to) => Piece::Line(there(to)),
                    Piece::Curve(first, second, to) => Piece::Curve(there(first), there(second), there(to)),
                };
                let pieces = pieces.into_iter().map(piece).collect();
                Shape::Stroke { start: there(start), pieces, colour, width, dashes }
            }
            Shape::Polygon { points, fill } => Shape::Polygon { points: points.into_iter().map(there).collect(), fill },
            Shape::Rectangle { x, y, width, height, corner, fill, border } => {
                Shape::Rectangle { x: x + right, y: y + down, width, height, corner, fill, border }
            }
            Shape::Text { at, anchor, size, bold, colour, words } => {
                Shape::Text { at: there(at), anchor, size, bold, colour, words }
            }
            Shape::Group { name, shapes } => {
                Shape::Group { name, shapes: shapes.into_iter().map(|shape| shape.moved(right, down)).collect() }
            }
        }
    }
}

fn description(figure: &Figure, caption: &Caption) -> String {
    let nodes: Vec<&str> = figure.nodes.iter().map(|node| node.label.as_str()).collect();
    let edges = figure.edges.len();
    let strongest: Vec<&str> = figure.edges.iter().rev().take(3).map(|edge| edge.name.as_str()).collect();
    let mut said = format!("A circuit of {edges} edges between {}.", nodes.join(", "));
    if figure.scored() && !strongest.is_empty() {
        let _ = write!(said, " The strongest are {}.", strongest.join(", "));
    }
    if !caption.subtitle.is_empty() {
        let _ = write!(said, " {}", caption.subtitle);
    }
    said
}

fn layers(shapes: &mut Vec<Shape>, figure: &Figure, theme: &Theme, place: Place) {
    for pair in figure.layers.windows(2) {
        let y = (pair[0].span.0 + pair[1].span.1) / 2.0;
        let [start, end] = [sizes::MARGIN, figure.width - sizes::MARGIN].map(|x| place(Point { x, y }));
        let pieces = vec![Piece::Line(end)];
        shapes.push(Shape::Stroke { start, pieces, colour: theme.rule, width: 0.7, dashes: None });
    }
    for layer in &figure.layers {
        shapes.push(Shape::Text {
            at: place(Point { x: sizes::MARGIN, y: layer.y + 2.5 }),
            anchor: Anchor::Start,
            size: sizes::SMALL_SIZE,
            bold: false,
            colour: theme.faint_ink,
            words: layer.text.clone(),
        });
    }
}

/// The stroke on a border of the paper's colour, which keeps crossing edges apart, and the head: an arrow, or a bar for a
/// negative score.
pub(super) fn edge_shapes(edge: &FigureEdge, theme: &Theme, scored: bool, head: bool, place: Place) -> Vec<Shape> {
    let negative = scored && edge.negative();
    let colour = theme.of_edge(edge.score, edge.strength, scored);
    let tip = edge.tip();
    let stop = match (head, negative) {
        (false, _) => 0.0,
        (true, true) => 1.2,
        (true, false) => sizes::ARROW_LENGTH - 1.0,
    };
    let mut here = edge.start;
    let mut pieces = Vec::with_capacity(edge.steps.len());
    for (index, step) in edge.steps.iter().enumerate() {
        let last = index + 1 == edge.steps.len();
        pieces.push(match *step {
            Step::Line(to) => Piece::Line(place(Point { y: if last { to.y + stop } else { to.y }, ..to })),
            Step::Curve(to) => {
                let middle = (here.y + to.y) / 2.0;
                let [first, second] = [here.x, to.x].map(|x| place(Point { x, y: middle }));
                Piece::Curve(first, second, place(to))
            }
        });
        here = step.end();
    }
    let start = place(edge.start);
    let border = edge.width + 1.4;
    let dashes = sizes::dashes(edge.branch, edge.width);
    let mut shapes = vec![
        Shape::Stroke { start, pieces: pieces.clone(), colour: theme.paper, width: border, dashes: None },
        Shape::Stroke { start, pieces, colour, width: edge.width, dashes },
    ];
    let half = (1.25 + 0.3 * edge.width).min(2.1);
    let at = |x: f64, y: f64| place(Point { x: tip.x + x, y: tip.y + y });
    match (head, negative) {
        (false, _) => {}
        (true, true) => {
            let pieces = vec![Piece::Line(at(half, 1.1))];
            shapes.push(Shape::Stroke { start: at(-half, 1.1), pieces, colour, width: 1.3, dashes: None });
        }
        (true, false) => {
            let points = vec![at(-half, sizes::ARROW_LENGTH), at(0.0, 0.4), at(half, sizes::ARROW_LENGTH)];
            shapes.push(Shape::Polygon { points, fill: colour });
        }
    }
    shapes
}

fn node_shapes(shapes: &mut Vec<Shape>, node: &FigureNode, theme: &Theme, place: Place) {
    let (fill, colour, corner) = match node.nodes.first() {
        Some(Node::Head(..)) => (theme.paper, theme.ink, 3.5),
        Some(Node::Mlp(_)) => (theme.mlp_fill, theme.ink, 1.5),
        _ => (theme.ink, theme.paper, node.height / 2.0),
    };
    let corner_of = place(Point { x: node.x - node.width / 2.0, y: node.y - node.height / 2.0 });
    let (width, height) = (node.width, node.height);
    shapes.push(Shape::Rectangle {
        x: corner_of.x,
        y: corner_of.y,
        width,
        height,
        corner,
        fill,
        border: Some(theme.ink),
    });
    let mut text = |x: f64, y: f64, size: f64, colour: Colour, words: &str| {
        let (at, words) = (place(Point { x, y }), words.to_owned());
        shapes.push(Shape::Text { at, anchor: Anchor::Middle, size, bold: false, colour, words });
    };
    let baseline = if node.ports.is_empty() { node.y + 2.8 } else { node.y - 1.8 };
    match &node.role {
        None => text(node.x, baseline, sizes::LABEL_SIZE, colour, &node.label),
        Some(role) => {
            let baseline = baseline - sizes::ROLE_HEIGHT / 2.0;
            text(node.x, baseline, sizes::LABEL_SIZE, colour, &node.label);
            text(node.x, baseline + sizes::ROLE_HEIGHT, sizes::SMALL_SIZE, theme.faint_ink, role);
        }
    }
    for (branch, x) in &node.ports {
        text(*x, node.y + node.height / 2.0 - 2.6, sizes::SMALL_SIZE, theme.faint_ink, &branch.to_string());
    }
}
