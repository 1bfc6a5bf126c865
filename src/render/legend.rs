//! The legend: only what the figure uses, in lines as wide as the figure.

use super::figure::{Figure, FigureEdge, Point, Step};
use super::svg::{edge_shape, number, text};
use super::theme;
use crate::model::spec::Branch;

const SAMPLE: f64 = 20.0;
const LINE: f64 = 11.0;

/// A short horizontal edge with what it means.
struct Entry {
    sample: Sample,
    text: String,
}

struct Sample {
    score: f32,
    strength: f64,
    width: f64,
    branch: Option<Branch>,
    head: bool,
}

impl Entry {
    fn width(&self) -> f64 {
        SAMPLE + 4.0 + theme::text_width(&self.text, theme::SMALL_SIZE)
    }
}

/// The legend's height and its elements, for a place `left` and `top` and a given width.
pub(super) fn legend(figure: &Figure, left: f64, top: f64, width: f64) -> (f64, String) {
    let mut drawn = String::new();
    let (mut x, mut y) = (left, top);
    for group in groups(figure) {
        let room: f64 = group.iter().map(|entry| entry.width() + 10.0).sum();
        if x > left && x + room > left + width {
            (x, y) = (left, y + LINE);
        }
        for entry in group {
            if x > left && x + entry.width() > left + width {
                (x, y) = (left, y + LINE);
            }
            draw(&mut drawn, figure, &entry, x, y + LINE / 2.0);
            x += entry.width() + 10.0;
        }
    }
    (if drawn.is_empty() { 0.0 } else { y + LINE - top }, drawn)
}

fn groups(figure: &Figure) -> Vec<Vec<Entry>> {
    let scored = figure.largest > 0.0;
    let sample = |score: f32, strength: f64, branch: Option<Branch>, head: bool| {
        let width = if scored { theme::stroke(strength) } else { 1.0 };
        Sample { score, strength, width, branch, head }
    };
    let mut groups = Vec::new();
    if scored {
        let signs = [("helps the task", 1.0), ("works against it", -1.0)];
        let used = signs.into_iter().filter(|(_, sign)| {
            figure.edges.iter().any(|edge| if *sign > 0.0 { edge.score > 0.0 } else { edge.score < 0.0 })
        });
        groups.push(
            used.map(|(meaning, sign)| Entry { sample: sample(sign, 0.36, None, true), text: meaning.into() })
                .collect(),
        );
    }
    let uses = |branch: Option<Branch>| figure.edges.iter().any(|edge| edge.branch == branch);
    if Branch::ALL.into_iter().any(|branch| uses(Some(branch))) {
        let meanings = [(Branch::Query, "into a query"), (Branch::Key, "into a key")].into_iter();
        let mut group: Vec<Entry> = meanings
            .filter(|(branch, _)| uses(Some(*branch)))
            .map(|(branch, meaning)| Entry { sample: sample(1.0, 0.16, Some(branch), false), text: meaning.into() })
            .collect();
        let solid = match (uses(Some(Branch::Value)), uses(None)) {
            (true, true) => Some("into a value, MLP or the logits"),
            (true, false) => Some("into a value"),
            (false, true) => Some("into an MLP or the logits"),
            (false, false) => None,
        };
        group.extend(solid.map(|meaning| Entry { sample: sample(1.0, 0.16, None, false), text: meaning.into() }));
        groups.push(group);
    }
    if scored {
        let steps = [1.0, 0.25, 0.05].into_iter().enumerate();
        groups.push(
            steps
                .map(|(index, strength)| {
                    let value = short(strength * figure.largest);
                    let text = if index == 0 { format!("|score| {value}") } else { value };
                    Entry { sample: sample(1.0, strength, None, false), text }
                })
                .collect(),
        );
    }
    groups
}

/// The sample is an upright edge laid on its side, so that the legend cannot differ from the figure.
fn draw(drawn: &mut String, figure: &Figure, entry: &Entry, x: f64, y: f64) {
    let Sample { score, strength, width, branch, head } = entry.sample;
    let upright = FigureEdge {
        edge: crate::graph::Edge { source: crate::graph::Source(0), destination: crate::graph::Destination(0) },
        name: String::new(),
        score,
        branch,
        strength,
        width,
        start: Point { x: 0.0, y: SAMPLE },
        steps: vec![Step::Line(Point { x: 0.0, y: 0.0 })],
    };
    let turn = format!("translate({} {}) rotate(90)", number(x + SAMPLE), number(y));
    drawn.push_str(&format!("<g transform=\"{turn}\">{}</g>\n", edge_shape(&upright, figure.largest > 0.0, head)));
    drawn.push_str(&text(x + SAMPLE + 4.0, y + 2.5, theme::SMALL_SIZE, theme::INK, "start", &entry.text));
}

/// Two significant digits.
fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if (1e-3..1e4).contains(&rounded) { format!("{rounded}") } else { format!("{rounded:e}") }
}
