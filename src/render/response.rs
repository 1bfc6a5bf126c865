//! A response against doses, with the values that occur by themselves marked on the axis.

use super::chart::{Across, Chart, HEIGHT, round_above};
use super::figure::Point;
use super::scene::{Anchor, Scene, Shape};
use super::sizes::{self, text_width};
use super::style::Style;
use super::theme::Theme;

/// Where on the axis of doses lie the values that occur by themselves.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Marks {
    /// A dose and what is written beside it.
    pub at: Vec<(f64, String)>,
    /// Doses outside are shaded.
    pub range: Option<[f64; 2]>,
}

/// A response with its interval against doses `(dose, mean, interval)`; `without`: what it is without any.
pub fn response(
    points: &[(f64, f64, [f64; 2])],
    without: Option<f64>,
    marks: &Marks,
    name: &str,
    style: &Style,
) -> Scene {
    measured(points, without, marks, ["dose", name], style)
}

/// Means with intervals against something even: `(place, mean, interval)`, and the names of both axes.
pub fn measured(
    points: &[(f64, f64, [f64; 2])],
    without: Option<f64>,
    marks: &Marks,
    [across, name]: [&str; 2],
    style: &Style,
) -> Scene {
    let theme = &style.theme;
    let values = points.iter().flat_map(|(_, mean, [low, high])| [*mean, *low, *high]).chain(without);
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    let (low, high) = (values.iter().copied().fold(0.0, f64::min), values.iter().copied().fold(0.0, f64::max));
    let top = round_above(high);
    let ends = [points.first().map_or(0.0, |point| point.0), points.last().map_or(1.0, |point| point.0)];
    let mut chart = Chart::new(style, (Across::Even, ends), [low, top], &[0.0, top / 2.0, top], [across, name]);
    draw(marks, ends, &mut chart, theme);
    let side = |side: usize| points.iter().filter(move |point| point.2[side].is_finite());
    let mut band: Vec<Point> = side(1).map(|point| chart.at(point.0, point.2[1])).collect();
    band.extend(side(0).rev().map(|point| chart.at(point.0, point.2[0])));
    chart.shapes.push(Shape::Polygon { points: band, fill: theme.positive.on(theme.paper, 0.16) });
    if let Some(without) = without.filter(|value| value.is_finite()) {
        let y = chart.y(without);
        let ends = [chart.left, chart.left + chart.inner].map(|x| Point { x, y });
        chart.line(ends.to_vec(), theme.faint_ink, 0.8, Some([3.0, 2.0]));
        chart.text(Point { x: ends[1].x, y: y - 3.0 }, Anchor::End, theme.faint_ink, "unedited".into());
    }
    let means = points.iter().filter(|point| point.1.is_finite()).map(|point| chart.at(point.0, point.1));
    let means: Vec<Point> = means.collect();
    chart.line(means, theme.positive, 1.4, None);
    let label = |dose: f64| format!("{dose:.2}").trim_end_matches('0').trim_end_matches('.').to_owned();
    let wide = points.iter().map(|point| text_width(&label(point.0), sizes::SMALL_SIZE)).fold(0.0, f64::max) + 4.0;
    let apart = chart.inner / points.len().saturating_sub(1).max(1) as f64;
    for (dose, ..) in points.iter().step_by((wide / apart).ceil().max(1.0) as usize) {
        chart.x_label(*dose, label(*dose));
    }
    chart.scene(name, format!("{name} against {across}, {} points.", points.len()))
}

/// Marks within the ends of the axis, their names above where they do not meet.
fn draw(marks: &Marks, [first, last]: [f64; 2], chart: &mut Chart, theme: &Theme) {
    let (top, bottom) = (chart.bottom() - HEIGHT, chart.bottom());
    let (faint, shade) = (theme.faint_ink, theme.rule.on(theme.paper, 0.6));
    if let Some([low, high]) = marks.range {
        for [from, to] in [[first, low.min(last)], [high.max(first), last]].into_iter().filter(|[a, b]| b > a) {
            let [x, right] = [from, to].map(|dose| chart.at(dose, chart.y[0]).x);
            let (width, height) = (right - x, bottom - top);
            chart.shapes.push(Shape::Rectangle { x, y: top, width, height, corner: 0.0, fill: shade, border: None });
        }
    }
    // Left of it stands what the axis is called.
    let mut right = chart.left;
    for (dose, name) in marks.at.iter().filter(|(dose, _)| (first..=last).contains(dose)) {
        let x = chart.at(*dose, chart.y[0]).x;
        chart.line(vec![Point { x, y: top }, Point { x, y: bottom }], faint, 0.5, Some([1.2, 1.6]));
        let half = text_width(name, sizes::SMALL_SIZE) / 2.0;
        if x - half > right + 2.0 {
            chart.text(Point { x, y: top - 1.5 }, Anchor::Middle, faint, name.clone());
            right = x + half;
        }
    }
}
