//! The legend: only what the figure uses, and what it leaves out, in lines as wide as the figure.

use super::figure::{Figure, FigureEdge, Point, Step};
use super::picture::LeftOut;
use super::scene::{Anchor, Shape, edge_shapes};
use super::sizes;
use super::theme::Theme;
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
        SAMPLE + 4.0 + sizes::text_width(&self.text, sizes::SMALL_SIZE)
    }
}

/// The legend's height and its shapes, for the place of its upper left corner and a given width.
pub(super) fn legend(figure: &Figure, theme: &Theme, corner: Point, width: f64) -> (f64, Vec<Shape>) {
    let mut drawn = Vec::new();
    let Point { x: left, y: top } = corner;
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
            draw(&mut drawn, figure, theme, &entry, Point { x, y: y + LINE / 2.0 });
            x += entry.width() + 10.0;
        }
    }
    if x > left {
        y += LINE;
    }
    for line in sizes::wrap(&sentences(figure).join(" "), sizes::SMALL_SIZE, width) {
        y += LINE;
        drawn.push(words(line, Point { x: left, y: y - LINE / 2.0 + 2.5 }, theme));
    }
    (y - top, drawn)
}

/// What the figure does not show as it is.
fn sentences(figure: &Figure) -> Vec<String> {
    let mut said = Vec::new();
    let [boxes, lines] = figure.put_together;
    if figure.merged_branches {
        said.push("Queries, keys and values of a head are drawn as one.".into());
    }
    if boxes > 0 {
        said.push("Heads of one layer share a box.".into());
    }
    if lines > 0 && figure.scored() {
        said.push("Scores of edges drawn as one are added.".into());
    }
    let LeftOut { edges, share, nodes } = figure.left_out;
    if edges > 0 {
        let nodes = match nodes {
            0 => String::new(),
            1 => " and a node that nothing else touches".into(),
            nodes => format!(" and {nodes} nodes that nothing else touches"),
        };
        said.push(match (edges, figure.scored()) {
            (1, false) => format!("Not drawn: an edge{nodes}."),
            (_, false) => format!("Not drawn: {edges} edges{nodes}."),
            (1, true) => format!("Not drawn: the weakest edge, with {} % of all |score|{nodes}.", percent(share)),
            (_, true) => {
                format!("Not drawn: the {edges} weakest edges, with {} % of all |score|{nodes}.", percent(share))
            }
        });
    }
    said
}

/// A share in per cent, with one figure at least.
fn percent(share: f64) -> String {
    match 100.0 * share {
        percent if percent >= 1.0 => format!("{percent:.0}"),
        percent if percent >= 0.1 => format!("{percent:.1}"),
        percent if percent > 0.0 => "under 0.1".into(),
        _ => "0".into(),
    }
}

fn groups(figure: &Figure) -> Vec<Vec<Entry>> {
    let scored = figure.scored();
    let sample = |score: f32, strength: f64, branch: Option<Branch>, head: bool| {
        let width = if scored { sizes::stroke(strength) } else { 1.0 };
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
            (false, true) => Some(if figure.merged_branches { "an edge" } else { "into an MLP or the logits" }),
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
fn draw(drawn: &mut Vec<Shape>, figure: &Figure, theme: &Theme, entry: &Entry, at: Point) {
    let Sample { score, strength, width, branch, head } = entry.sample;
    let upright = FigureEdge {
        edges: Vec::new(),
        from: 0,
        to: 0,
        place: 0,
        name: String::new(),
        score,
        branch,
        strength,
        width,
        start: Point { x: 0.0, y: SAMPLE },
        steps: vec![Step::Line(Point { x: 0.0, y: 0.0 })],
    };
    let turned = |point: Point| Point { x: at.x + SAMPLE - point.y, y: at.y + point.x };
    drawn.extend(edge_shapes(&upright, theme, figure.scored(), head, &turned));
    drawn.push(words(entry.text.clone(), Point { x: at.x + SAMPLE + 4.0, y: at.y + 2.5 }, theme));
}

fn words(words: String, at: Point, theme: &Theme) -> Shape {
    let (anchor, size, colour) = (Anchor::Start, sizes::SMALL_SIZE, theme.ink);
    Shape::Text { at, anchor, size, bold: false, colour, words }
}

fn short(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if (1e-3..1e4).contains(&rounded) { format!("{rounded}") } else { format!("{rounded:e}") }
}
