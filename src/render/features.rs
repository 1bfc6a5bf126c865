//! A circuit of features: a row of boxes for each dictionary, upwards as the model computes, and what acts through what.

use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes::{self, MARGIN, stroke, text_width};
use super::style::Style;
use super::theme::Theme;

/// The nodes of one dictionary.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// As edits write it: `L1.sae(g)`.
    pub name: String,
    /// The strongest first.
    pub boxes: Vec<FeatureBox>,
}

#[derive(Clone, PartialEq, Debug)]
pub struct FeatureBox {
    /// `F42`, or `error`.
    pub label: String,
    /// What it is about, in a word.
    pub note: String,
    pub score: f64,
}

/// From a box of a row to a box of the next.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// The lower row, the box in it, and the box in the row above.
    pub row: usize,
    pub from: usize,
    pub to: usize,
    pub weight: f64,
}

/// Boxes of a row that are drawn, at most.
const MOST: usize = 10;
/// Links that are drawn have at least this share of the strongest.
const LEAST: f64 = 0.02;
const HEIGHT: f64 = 22.0;
const GAP: f64 = 7.0;
const BETWEEN: f64 = 46.0;

/// The picture. Boxes and links that it leaves out are counted below it.
pub fn picture(rows: &[Row], links: &[Link], style: &Style) -> Scene {
    let theme = &style.theme;
    let shown: Vec<&[FeatureBox]> = rows.iter().map(|row| &row.boxes[..row.boxes.len().min(MOST)]).collect();
    let width_of = |one: &FeatureBox| {
        text_width(&one.label, sizes::LABEL_SIZE).max(text_width(&one.note, sizes::SMALL_SIZE)).max(20.0) + 8.0
    };
    let label = rows.iter().map(|row| text_width(&row.name, sizes::SMALL_SIZE)).fold(0.0, f64::max);
    let left = MARGIN + label + 8.0;
    let widths: Vec<f64> =
        shown.iter().map(|row| row.iter().map(|one| width_of(one) + GAP).sum::<f64>() - GAP).collect();
    let inner = widths.iter().copied().fold(120.0, f64::max);
    let top = |row: usize| MARGIN + (rows.len() - row) as f64 * BETWEEN;
    let largest = rows.iter().flat_map(|row| &row.boxes).map(|one| one.score.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let middle = left + inner / 2.0;
    let mut places: Vec<Vec<(f64, f64)>> = Vec::new(); // left edge and width of each box
    for (row, width) in shown.iter().zip(&widths) {
        let mut x = middle - width / 2.0;
        let place = |one: &FeatureBox| {
            let width = width_of(one);
            x += width + GAP;
            (x - width - GAP, width)
        };
        places.push(row.iter().map(place).collect());
    }
    let centre = |row: usize, index: usize| places[row][index].0 + places[row][index].1 / 2.0;
    let mut shapes = Vec::new();
    let ends = [sizes::END_HEIGHT, 2.0 * text_width("logits", sizes::LABEL_SIZE)];
    let strongest = links.iter().map(|link| link.weight.abs()).fold(f64::MIN_POSITIVE, f64::max);
    let mut hidden = 0;
    for link in links {
        let drawn = link.from < shown[link.row].len() && link.to < shown[link.row + 1].len();
        if !drawn || link.weight.abs() < LEAST * strongest {
            hidden += 1;
            continue;
        }
        let from = Point { x: centre(link.row, link.from), y: top(link.row) };
        let to = Point { x: centre(link.row + 1, link.to), y: top(link.row + 1) + HEIGHT };
        shapes.extend(curve(from, to, link.weight, link.weight.abs() / strongest, theme));
    }
    if let Some(last) = rows.len().checked_sub(1) {
        for (index, one) in shown[last].iter().enumerate() {
            let from = Point { x: centre(last, index), y: top(last) };
            let to = Point { x: middle, y: MARGIN + ends[0] };
            shapes.extend(curve(from, to, one.score, one.score.abs() / largest, theme));
        }
    }
    let text = |at: Point, anchor, size, colour, words: &str| Shape::Text {
        at,
        anchor,
        size,
        bold: false,
        colour,
        words: words.to_owned(),
    };
    shapes.push(Shape::Rectangle {
        x: middle - ends[1] / 2.0,
        y: MARGIN,
        width: ends[1],
        height: ends[0],
        corner: ends[0] / 2.0,
        fill: theme.ink,
        border: None,
    });
    let baseline = Point { x: middle, y: MARGIN + ends[0] / 2.0 + 2.8 };
    shapes.push(text(baseline, Anchor::Middle, sizes::LABEL_SIZE, theme.paper, "logits"));
    for (index, row) in shown.iter().enumerate() {
        let y = top(index);
        let at = Point { x: MARGIN, y: y + HEIGHT / 2.0 + 2.4 };
        shapes.push(text(at, Anchor::Start, sizes::SMALL_SIZE, theme.faint_ink, &rows[index].name));
        for (one, &(x, width)) in row.iter().zip(&places[index]) {
            let sign = if one.score < 0.0 { theme.negative } else { theme.positive };
            let fill = sign.on(theme.paper, 0.05 + 0.3 * one.score.abs() / largest);
            let corner = 3.5;
            let boxed = Shape::Rectangle { x, y, width, height: HEIGHT, corner, fill, border: Some(theme.ink) };
            let label = Point { x: x + width / 2.0, y: y + 9.6 };
            let note = Point { x: x + width / 2.0, y: y + 18.4 };
            let words = [
                text(label, Anchor::Middle, sizes::LABEL_SIZE, theme.ink, &one.label),
                text(note, Anchor::Middle, sizes::SMALL_SIZE, theme.ink, &one.note),
            ];
            let name = format!("{} {} {:+.4}", rows[index].name, one.label, one.score);
            shapes.push(Shape::Group { name, shapes: [boxed].into_iter().chain(words).collect() });
        }
    }
    let boxes_hidden: usize = rows.iter().zip(&shown).map(|(row, shown)| row.boxes.len() - shown.len()).sum();
    let bottom = top(0) + HEIGHT;
    let said = format!(
        "Blue helps, orange works against the answer; wider is stronger. Not drawn: {boxes_hidden} weaker nodes, {hidden} weaker links."
    );
    let width = left + inner + MARGIN;
    let mut y = bottom + 4.0;
    for line in sizes::wrap(&said, sizes::SMALL_SIZE, width - 2.0 * MARGIN) {
        y += sizes::SMALL_SIZE + 2.0;
        shapes.push(text(Point { x: MARGIN, y }, Anchor::Start, sizes::SMALL_SIZE, theme.faint_ink, &line));
    }
    let nodes: usize = rows.iter().map(|row| row.boxes.len()).sum();
    Scene {
        width,
        height: y + MARGIN,
        scale: style.scale(),
        paper: theme.paper,
        title: "Circuit of features".into(),
        description: format!("A circuit of {nodes} features of {} dictionaries. {said}", rows.len()),
        shapes,
    }
}

/// A line upwards, on a border of the paper's colour.
fn curve(from: Point, to: Point, weight: f64, share: f64, theme: &Theme) -> [Shape; 2] {
    let half = (from.y + to.y) / 2.0;
    let pieces = vec![Piece::Curve(Point { x: from.x, y: half }, Point { x: to.x, y: half }, to)];
    let colour = theme.of_edge(weight as f32, share, true);
    let width = stroke(share);
    [
        Shape::Stroke { start: from, pieces: pieces.clone(), colour: theme.paper, width: width + 1.4, dashes: None },
        Shape::Stroke { start: from, pieces, colour, width, dashes: None },
    ]
}
