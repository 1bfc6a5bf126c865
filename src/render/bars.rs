//! Bars from a line at 0, one below the other, with their intervals: what parts contribute.

use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes::{self, MARGIN, text_width};
use super::style::Style;
use super::theme::Colour;

const WIDTH: f64 = 170.0;
const ROW: f64 = 10.0;

/// One bar.
#[derive(Clone, PartialEq, Debug)]
pub struct Bar {
    pub name: String,
    pub value: f64,
    /// Nothing where there is none.
    pub interval: Option<[f64; 2]>,
}

/// Bars in order, with their numbers on the right.
pub fn bars(bars: &[Bar], title: &str, value_name: &str, style: &Style) -> Scene {
    let theme = &style.theme;
    let ends = bars.iter().flat_map(|bar| bar.interval.into_iter().flatten().chain([bar.value]));
    let (low, high) = ends
        .filter(|value| value.is_finite())
        .fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let span = if high > low { high - low } else { 1.0 };
    let digits = decimals(low.abs().max(high));
    let number = |value: f64| format!("{value:+.digits$}");
    let wide = |words: &mut dyn Iterator<Item = String>| {
        words.map(|text| text_width(&text, sizes::SMALL_SIZE)).fold(0.0, f64::max)
    };
    let left = MARGIN + wide(&mut bars.iter().map(|bar| bar.name.clone())) + 4.0;
    let numbers = wide(&mut bars.iter().map(|bar| number(bar.value)));
    let inner = style.width_in_points().map_or(WIDTH, |width| (width - left - numbers - 2.0 * MARGIN).max(40.0));
    let x = |value: f64| left + inner * (value - low) / span;
    let top = MARGIN + sizes::SMALL_SIZE + 4.0;
    let bottom = top + ROW * bars.len() as f64;
    let mut shapes = vec![text(left, MARGIN + sizes::SMALL_SIZE - 1.0, Anchor::Start, theme.faint_ink, value_name)];
    for (index, bar) in bars.iter().enumerate() {
        let y = top + ROW * index as f64;
        let [from, to] = [bar.value.min(0.0), bar.value.max(0.0)].map(x);
        let fill = if bar.value < 0.0 { theme.negative } else { theme.positive };
        let middle = y + ROW / 2.0;
        let mut row = vec![
            text(left - 3.0, middle + 2.4, Anchor::End, theme.ink, &bar.name),
            Shape::Rectangle {
                x: from,
                y: y + 1.5,
                width: to - from,
                height: ROW - 3.0,
                corner: 0.0,
                fill,
                border: None,
            },
        ];
        if let Some(ends) = bar.interval.filter(|ends| ends.iter().all(|end| end.is_finite())) {
            // On a border of the paper's colour, so that it is seen on the bar too.
            for (colour, width) in [(theme.paper, 1.8), (theme.ink, 0.8)] {
                let [start, end] = ends.map(|end| Point { x: x(end), y: middle });
                row.push(Shape::Stroke { start, pieces: vec![Piece::Line(end)], colour, width, dashes: None });
                for end in [start, end] {
                    let [start, to] = [-1.9, 1.9].map(|down| Point { x: end.x, y: end.y + down });
                    row.push(Shape::Stroke { start, pieces: vec![Piece::Line(to)], colour, width, dashes: None });
                }
            }
        }
        row.push(text(left + inner + 4.0, middle + 2.4, Anchor::Start, theme.ink, &number(bar.value)));
        shapes.push(Shape::Group { name: format!("{}: {}", bar.name, number(bar.value)), shapes: row });
    }
    let (start, pieces) = (Point { x: x(0.0), y: top }, vec![Piece::Line(Point { x: x(0.0), y: bottom })]);
    shapes.push(Shape::Stroke { start, pieces, colour: theme.faint_ink, width: 0.7, dashes: None });
    let said: Vec<String> = bars.iter().map(|bar| format!("{} {}", bar.name, number(bar.value))).collect();
    Scene {
        width: left + inner + 4.0 + numbers + MARGIN,
        height: bottom + MARGIN,
        scale: style.scale(),
        paper: theme.paper,
        title: title.to_owned(),
        description: format!("{value_name}: {}.", said.join(", ")),
        shapes,
    }
}

/// Three significant figures of the largest, and never less than three decimals.
fn decimals(largest: f64) -> usize {
    if largest > 0.0 { (2 - largest.log10().floor() as i64).clamp(3, 9) as usize } else { 3 }
}

fn text(x: f64, y: f64, anchor: Anchor, colour: Colour, words: &str) -> Shape {
    Shape::Text { at: Point { x, y }, anchor, size: sizes::SMALL_SIZE, bold: false, colour, words: words.to_owned() }
}
