//! How many things have which size: bars over powers of ten.

use super::chart::{Across, Chart};
use super::figure::Point;
use super::scene::{Anchor, Scene, Shape};
use super::sizes::{MARGIN, SMALL_SIZE};
use super::style::Style;

/// Bars `(logarithm to base 10 of the left end, count)`, each `step` wide in it; `note` stands above.
pub fn histogram(bars: &[(f64, usize)], step: f64, [across, counted]: [&str; 2], note: &str, style: &Style) -> Scene {
    let most = bars.iter().map(|bar| bar.1).max().unwrap_or(0).max(1) as f64;
    let (first, last) = (bars.first().map_or(-1.0, |bar| bar.0), bars.last().map_or(0.0, |bar| bar.0 + step));
    let ends = [first, last].map(|power| 10f64.powf(power));
    let ticks = if most < 2.0 { vec![0.0, most] } else { vec![0.0, (most / 2.0).floor(), most] };
    let mut chart = Chart::new(style, (Across::Powers, ends), [0.0, most], &ticks, [across, counted]);
    for &(left, count) in bars.iter().filter(|bar| bar.1 > 0) {
        let [from, to] = [left, left + step].map(|power| 10f64.powf(power));
        let corners = [(from, 0.0), (from, count as f64), (to, count as f64), (to, 0.0)];
        let points: Vec<Point> = corners.into_iter().map(|(x, y)| chart.at(x, y)).collect();
        chart
            .shapes
            .push(Shape::Polygon { points: points.clone(), fill: style.theme.positive.on(style.theme.paper, 0.3) });
        chart.line(points, style.theme.positive, 0.8, None);
    }
    for power in first.ceil() as i32..=last.floor() as i32 {
        let label = if (-3..=3).contains(&power) { 10f64.powi(power).to_string() } else { format!("1e{power}") };
        chart.x_label(10f64.powi(power), label);
    }
    let at = Point { x: chart.left + chart.inner, y: MARGIN + SMALL_SIZE - 1.0 };
    chart.text(at, Anchor::End, style.theme.faint_ink, note.to_owned());
    chart.scene(counted, format!("{counted} by {across}. {note}"))
}
