//! A table of numbers as colours: positive and negative ones in two, nothing at 0.

use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes::{self, text_width};
use super::style::Style;
use super::theme::{Colour, Theme};
use ndarray::Array2;

const BAR_WIDTH: f64 = 8.0;
const BAR_STEPS: usize = 24;

/// What is drawn.
#[derive(Clone, PartialEq, Debug)]
pub struct Heatmap {
    pub title: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    /// What the columns are, below them, and what the numbers are, beside the colours.
    pub column_name: String,
    pub value_name: String,
    /// `[row, column]`.
    pub values: Array2<f64>,
    /// What stands in the cells, if anything.
    pub texts: Option<Array2<String>>,
}

impl Heatmap {
    /// The first row is on top. Cells are squares as large as the style's width allows.
    pub fn scene(&self, style: &Style) -> Scene {
        let theme = &style.theme;
        let largest = self.values.iter().map(|value| value.abs()).filter(|size| size.is_finite()).fold(0.0, f64::max);
        let wide =
            |labels: &[String]| labels.iter().map(|label| text_width(label, sizes::SMALL_SIZE)).fold(0.0, f64::max);
        let left = sizes::MARGIN + wide(&self.rows) + 4.0;
        // Where nothing is negative the colours end at 0.
        let least = if self.values.iter().any(|value| *value < 0.0) { -largest } else { 0.0 };
        let numbers = [largest, 0.0, least].map(number);
        let right =
            10.0 + BAR_WIDTH + 3.0 + wide(&numbers).max(text_width(&self.value_name, sizes::SMALL_SIZE) - BAR_WIDTH);
        let count = self.columns.len().max(1) as f64;
        let room = style.width_in_points().map(|width| width - left - right - sizes::MARGIN);
        let words = self.texts.iter().flatten().chain(&self.columns).map(|text| text_width(text, sizes::SMALL_SIZE));
        let cell = match self.texts {
            // Words keep their size.
            Some(_) => words.fold(13.0, f64::max) + 4.0,
            None => room.map_or(13.0, |room| (room / count).clamp(1.5, 20.0)),
        };
        let height = if self.texts.is_some() { 11.0 } else { cell.max(8.0) };
        let mut shapes = Vec::new();
        let mut top = sizes::MARGIN;
        let width = style.width_in_points().unwrap_or(0.0).max(left + cell * count + right + sizes::MARGIN);
        for words in sizes::wrap(&self.title, sizes::TITLE_SIZE, width - 2.0 * sizes::MARGIN) {
            top += sizes::TITLE_SIZE;
            let at = Point { x: sizes::MARGIN, y: top };
            shapes.push(text(at, Anchor::Start, sizes::TITLE_SIZE, theme.ink, words));
            top += 4.0;
        }
        // Beside the bar's name.
        top += sizes::SMALL_SIZE + 3.0;
        for (row, label) in self.rows.iter().enumerate() {
            let y = top + height * row as f64;
            let at = Point { x: left - 3.0, y: y + height / 2.0 + 2.4 };
            shapes.push(text(at, Anchor::End, sizes::SMALL_SIZE, theme.ink, label.clone()));
            for (column, name) in self.columns.iter().enumerate() {
                let value = self.values.get((row, column)).copied().unwrap_or(f64::NAN);
                let fill = colour(value, largest, theme);
                let x = left + cell * column as f64;
                let mut of_cell = vec![rectangle(x, y, cell, height, fill)];
                if let Some(words) = self.texts.as_ref().and_then(|texts| texts.get((row, column))) {
                    let at = Point { x: x + cell / 2.0, y: y + height / 2.0 + 2.4 };
                    let strong = largest > 0.0 && value.abs() > 0.55 * largest;
                    let ink = if strong { theme.paper } else { theme.ink };
                    of_cell.push(text(at, Anchor::Middle, sizes::SMALL_SIZE, ink, words.clone()));
                }
                shapes.push(Shape::Group { name: format!("{label}, {name}: {}", number(value)), shapes: of_cell });
            }
        }
        let bottom = top + height * self.rows.len() as f64;
        shapes.push(frame(left, top, cell * count, bottom - top, theme.faint_ink));
        // Names of columns as far as they do not meet.
        let every = ((wide(&self.columns) + 3.0) / cell).ceil().max(1.0) as usize;
        for (column, name) in self.columns.iter().enumerate().step_by(every) {
            let at = Point { x: left + cell * (column as f64 + 0.5), y: bottom + sizes::SMALL_SIZE + 1.5 };
            shapes.push(text(at, Anchor::Middle, sizes::SMALL_SIZE, theme.ink, name.clone()));
        }
        let at = Point { x: left + cell * count / 2.0, y: bottom + 2.4 * sizes::SMALL_SIZE };
        shapes.push(text(at, Anchor::Middle, sizes::SMALL_SIZE, theme.faint_ink, self.column_name.clone()));
        let corner = Point { x: left + cell * count + 10.0, y: top };
        bar(&mut shapes, theme, (largest, least), corner, (bottom - top).max(40.0), &self.value_name);
        Scene {
            width,
            height: (bottom + 2.4 * sizes::SMALL_SIZE).max(top + 40.0) + sizes::MARGIN,
            scale: style.scale(),
            paper: theme.paper,
            title: self.title.clone(),
            description: self.description(),
            shapes,
        }
    }

    fn description(&self) -> String {
        let strongest = self.values.indexed_iter().filter(|(_, value)| value.is_finite());
        let strongest = strongest.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        let said = strongest.map(|((row, column), value)| {
            let name = |names: &[String], index: usize| names.get(index).cloned().unwrap_or_default();
            format!(" The strongest is {}, {}: {}.", name(&self.rows, row), name(&self.columns, column), number(*value))
        });
        format!("A table of {} rows and {} columns.{}", self.rows.len(), self.columns.len(), said.unwrap_or_default())
    }
}

/// What the colours from the `largest` to the `least` mean.
fn bar(shapes: &mut Vec<Shape>, theme: &Theme, (largest, least): (f64, f64), corner: Point, height: f64, name: &str) {
    let at = Point { x: corner.x, y: corner.y - 4.0 };
    shapes.push(text(at, Anchor::Start, sizes::SMALL_SIZE, theme.faint_ink, name.to_owned()));
    let step = height / BAR_STEPS as f64;
    let end = if least < 0.0 { -1.0 } else { 0.0 };
    for index in 0..BAR_STEPS {
        let share = 1.0 + (end - 1.0) * (index as f64 + 0.5) / BAR_STEPS as f64;
        let fill = colour(share, 1.0, theme);
        shapes.push(rectangle(corner.x, corner.y + step * index as f64, BAR_WIDTH, step, fill));
    }
    shapes.push(frame(corner.x, corner.y, BAR_WIDTH, height, theme.faint_ink));
    let mut marks = vec![(0.0, largest), (1.0, least)];
    if least < 0.0 {
        marks.insert(1, (0.5, 0.0));
    }
    for (place, value) in marks {
        let at = Point { x: corner.x + BAR_WIDTH + 3.0, y: corner.y + place * height + 2.4 };
        shapes.push(text(at, Anchor::Start, sizes::SMALL_SIZE, theme.ink, number(value)));
    }
}

/// Pale near 0, the theme's full colours at the largest; what is no number has the colour of rules.
fn colour(value: f64, largest: f64, theme: &Theme) -> Colour {
    if !value.is_finite() {
        return theme.rule;
    }
    let share = if largest > 0.0 { (value.abs() / largest).min(1.0) } else { 0.0 };
    let full = if value < 0.0 { theme.negative } else { theme.positive };
    full.on(theme.paper, share)
}

fn number(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value:.2}") }
}

fn text(at: Point, anchor: Anchor, size: f64, colour: Colour, words: String) -> Shape {
    Shape::Text { at, anchor, size, bold: false, colour, words }
}

fn rectangle(x: f64, y: f64, width: f64, height: f64, fill: Colour) -> Shape {
    Shape::Rectangle { x, y, width, height, corner: 0.0, fill, border: None }
}

fn frame(x: f64, y: f64, width: f64, height: f64, colour: Colour) -> Shape {
    let corners = [(x + width, y), (x + width, y + height), (x, y + height), (x, y)];
    let pieces = corners.map(|(x, y)| Piece::Line(Point { x, y })).to_vec();
    Shape::Stroke { start: Point { x, y }, pieces, colour, width: 0.6, dashes: None }
}
