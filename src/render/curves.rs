//! Faithfulness against the share of all edges for many methods: a panel for each, with the others behind it in grey.
//!
//! Methods lie close together, and all curves end in the same point: in a panel of its own each has its name beside it. All
//! panels have the same axes.

use super::Caption;
use super::chart::{Across, Chart};
use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes::{self, MARGIN, MILLIMETRE, text_width, wrap};
use super::style::Style;
use super::theme::{Colour, Theme};

/// The curves of a method over the same shares as those of the others.
#[derive(Clone, PartialEq, Debug)]
pub struct Panel {
    pub name: String,
    /// What stands beside the name.
    pub numbers: String,
    /// Edges by their scores, and the interval of each point.
    pub signed: Vec<f64>,
    pub interval: Vec<[f64; 2]>,
    /// Edges by the size of their scores.
    pub absolute: Vec<f64>,
}

/// The width in millimetres where none is asked for: a page's text, or a column's of a single panel.
const PAGE: f64 = 170.0;
const COLUMN: f64 = 85.0;

const DASHES: Option<[f64; 2]> = Some([3.4, 1.6]);

/// `shares` are the places on the horizontal axis, in powers of ten.
pub fn panels(shares: &[f64], panels: &[Panel], caption: &Caption, style: &Style) -> Scene {
    let theme = &style.theme;
    let columns = match panels.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        _ => 3,
    };
    let width = style.width.unwrap_or(if columns == 1 { COLUMN } else { PAGE });
    let points = width * MILLIMETRE / style.scale();
    let narrow = Style { width: Some(width / columns as f64), ..style.clone() };
    let mut shapes = Vec::new();
    let mut top = 0.0;
    for (words, size, colour, bold) in [
        (&caption.title, sizes::TITLE_SIZE, theme.ink, true),
        (&caption.subtitle, sizes::LABEL_SIZE, theme.faint_ink, false),
    ] {
        for words in wrap(words, size * if bold { 1.06 } else { 1.0 }, points - 2.0 * MARGIN) {
            top += size * 1.3;
            let at = Point { x: MARGIN, y: top + 2.0 };
            shapes.push(Shape::Text { at, anchor: Anchor::Start, size, bold, colour, words });
        }
    }
    top += if top > 0.0 { 4.0 } else { 0.0 };
    let y = range(panels);
    let mut bottom = top;
    for (index, panel) in panels.iter().enumerate() {
        let others = panels.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, other)| other);
        let (drawn, height) = one(shares, panel, others, y, index == 0, &narrow);
        let right = (index % columns) as f64 * points / columns as f64;
        let down = top + (index / columns) as f64 * height;
        let moved = drawn.into_iter().map(|shape| shape.moved(right, down)).collect();
        shapes.push(Shape::Group { name: format!("{}: {}", panel.name, panel.numbers), shapes: moved });
        bottom = down + height;
    }
    let (legend, bottom) = legend(theme, bottom, points, panels.len() > 1);
    shapes.extend(legend);
    let said = panels.iter().map(|panel| format!("{}: {}", panel.name, panel.numbers));
    Scene {
        width: points,
        height: bottom + MARGIN,
        scale: style.scale(),
        paper: theme.paper,
        title: caption.title.clone(),
        description: format!("Faithfulness against the share of edges. {}.", said.collect::<Vec<_>>().join("; ")),
        shapes,
    }
}

/// The ends of the vertical axis: those of all curves, intervals apart, with 1 between them and room below the line at 0.
fn range(panels: &[Panel]) -> [f64; 2] {
    let all = panels.iter().flat_map(|panel| panel.signed.iter().chain(&panel.absolute)).copied();
    let finite = all.filter(|value| value.is_finite());
    let (low, high) = finite.fold((0.0, 1.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let room = high - low;
    [low.min(-0.1 * room), high + 0.04 * room]
}

/// Round values between the ends, with 0 and 1 among them.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let step = [0.5, 1.0, 2.0, 5.0, 10.0, 50.0].into_iter().find(|step| (high - low) / step <= 5.0).unwrap_or(100.0);
    let mut ticks: Vec<f64> =
        ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|n| n as f64 * step).collect();
    if !ticks.contains(&1.0) {
        ticks.push(1.0);
    }
    ticks
}

/// A panel's shapes and its height; `explained`: whether the lines of the model and of nothing say what they are.
fn one<'a>(
    shares: &[f64],
    panel: &Panel,
    others: impl Iterator<Item = &'a Panel>,
    y: [f64; 2],
    explained: bool,
    style: &Style,
) -> (Vec<Shape>, f64) {
    let theme = &style.theme;
    let ends = [shares.first().copied().unwrap_or(0.1), shares.last().copied().unwrap_or(1.0)];
    let mut chart = Chart::new(style, (Across::Powers, ends), y, &ticks(y), ["share of all edges", ""]);
    let size = sizes::SMALL_SIZE;
    let (left, right) = (chart.left, chart.left + chart.inner);
    let title = Point { x: left, y: MARGIN + size - 1.0 };
    let words = panel.name.clone();
    chart.shapes.push(Shape::Text { at: title, anchor: Anchor::Start, size, bold: true, colour: theme.ink, words });
    chart.text(Point { x: right, ..title }, Anchor::End, theme.faint_ink, panel.numbers.clone());
    for (value, name, down) in [(1.0, "model", -3.0), (0.0, "all ablated", 6.5)] {
        let ends = [left, right].map(|x| Point { x, y: chart.y(value) });
        chart.line(ends.to_vec(), theme.faint_ink, 0.8, None);
        if explained {
            // Where circuits are small, curves lie between the two lines.
            let at = Point { x: left + 2.0, y: ends[0].y + down };
            chart.text(at, Anchor::Start, theme.faint_ink, name.into());
        }
    }
    let path = |chart: &Chart, values: &[f64]| -> Vec<Point> {
        let finite = shares.iter().zip(values).filter(|(_, value)| value.is_finite());
        finite.map(|(share, value)| chart.at(*share, value.clamp(y[0], y[1]))).collect()
    };
    let side = |side: usize| panel.interval.iter().map(|interval| interval[side]).collect::<Vec<_>>();
    let mut band = path(&chart, &side(1));
    band.extend(path(&chart, &side(0)).into_iter().rev());
    if band.len() > 2 {
        chart.shapes.push(Shape::Polygon { points: band, fill: theme.positive.on(theme.paper, 0.16) });
    }
    for other in others {
        let points = path(&chart, &other.signed);
        chart.line(points, grey(theme), 0.6, None);
    }
    let absolute = path(&chart, &panel.absolute);
    chart.line(absolute, theme.negative, 1.2, DASHES);
    let signed = path(&chart, &panel.signed);
    chart.line(signed, theme.positive, 1.4, None);
    let mut last = f64::NEG_INFINITY;
    for power in ends[0].log10().ceil() as i32..=ends[1].log10().floor() as i32 {
        let (share, label) = (10f64.powi(power), format!("{} %", 10f64.powi(power + 2)));
        let (x, half) = (chart.at(share, y[0]).x, text_width(&label, size) / 2.0);
        if x - half > last + 2.0 {
            chart.x_label(share, label);
            last = x + half;
        }
    }
    let [_, height] = chart.size();
    (chart.shapes, height)
}

fn grey(theme: &Theme) -> Colour {
    theme.faint_ink.on(theme.paper, 0.4)
}

/// What the lines are, in as many rows as the width needs, and where it ends.
fn legend(theme: &Theme, top: f64, width: f64, others: bool) -> (Vec<Shape>, f64) {
    const SAMPLE: f64 = 16.0;
    let size = sizes::SMALL_SIZE;
    let band = Some(theme.positive.on(theme.paper, 0.16));
    let mut entries = vec![
        (theme.positive, 1.4, None, band, "edges with the largest scores (CPR), 95 % over pairs"),
        (theme.negative, 1.2, DASHES, None, "edges with the largest |score| (CMD)"),
    ];
    if others {
        entries.push((grey(theme), 0.6, None, None, "the other methods, by score"));
    }
    let (mut shapes, mut x, mut y) = (Vec::new(), MARGIN, top + size);
    for (colour, stroke, dashes, band, words) in entries {
        let wide = SAMPLE + 4.0 + text_width(words, size);
        if x > MARGIN && x + wide > width - MARGIN {
            (x, y) = (MARGIN, y + 1.4 * size);
        }
        let middle = y - 2.4;
        if let Some(fill) = band {
            let corner = 0.0;
            let [x, y] = [x, middle - 2.6];
            shapes.push(Shape::Rectangle { x, y, width: SAMPLE, height: 5.2, corner, fill, border: None });
        }
        let start = Point { x, y: middle };
        let pieces = vec![Piece::Line(Point { x: x + SAMPLE, y: middle })];
        shapes.push(Shape::Stroke { start, pieces, colour, width: stroke, dashes });
        let at = Point { x: x + SAMPLE + 4.0, y };
        let words = words.to_owned();
        shapes.push(Shape::Text { at, anchor: Anchor::Start, size, bold: false, colour: theme.ink, words });
        x += wide + 10.0;
    }
    (shapes, y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::svg;

    #[test]
    fn every_method_has_a_panel_within_the_figure() {
        let shares = [0.001, 0.01, 0.1, 1.0];
        let panel = |name: &str, high: f64| Panel {
            name: name.into(),
            numbers: "CPR 1.20".into(),
            signed: vec![0.0, high, high, 1.0],
            interval: vec![[0.0, 0.0], [-100.0, 100.0], [f64::NAN, 1.0], [1.0, 1.0]],
            absolute: vec![0.0, f64::NAN, 0.5, 1.0],
        };
        let all: Vec<Panel> =
            [("eap", 3.0), ("exact", 0.5), ("ifr", -1.0)].map(|(name, high)| panel(name, high)).into();
        let caption = Caption { title: "A task".into(), subtitle: String::new() };
        for count in 0..=3 {
            let scene = panels(&shares, &all[..count], &caption, &Style::default());
            let drawing = svg::draw(&scene);
            assert!(!drawing.contains("NaN") && !drawing.contains("inf"), "{drawing}");
            assert_eq!(drawing.matches("font-weight=\"bold\"").count(), count + 1);
            assert_eq!(drawing.matches("the other methods").count(), usize::from(count > 1));
            let within =
                |point: &Point| (0.0..=scene.width).contains(&point.x) && (0.0..=scene.height).contains(&point.y);
            for shape in &scene.shapes {
                let Shape::Group { shapes, .. } = shape else { continue };
                for shape in shapes {
                    if let Shape::Stroke { start, pieces, .. } = shape {
                        let ends = pieces.iter().map(|piece| match piece {
                            Piece::Line(to) | Piece::Curve(_, _, to) => to,
                        });
                        assert!(ends.chain([start]).all(within), "{shape:?} in {} by {}", scene.width, scene.height);
                    }
                }
            }
        }
    }

    #[test]
    fn ticks_hold_both_lines() {
        assert_eq!(ticks([0.0, 1.04]), [0.0, 0.5, 1.0]);
        assert_eq!(ticks([-0.2, 1.6]), [0.0, 0.5, 1.0, 1.5]);
        assert_eq!(ticks([-3.0, 8.5]), [0.0, 5.0, 1.0]);
    }
}
