//! Faithfulness against size, and how scores are distributed.

use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes::{self, MARGIN, text_width};
use super::style::Style;
use super::theme::Colour;
use crate::circuit::report::Stop;

/// The inside of a chart in points, where no width is asked for.
const WIDTH: f64 = 200.0;
pub(super) const HEIGHT: f64 = 110.0;

/// How values lie on the horizontal axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Across {
    /// In powers of ten.
    Powers,
    Even,
}

/// A chart with its axes; the vertical one is even.
pub(super) struct Chart<'a> {
    across: Across,
    style: &'a Style,
    pub shapes: Vec<Shape>,
    pub left: f64,
    pub inner: f64,
    /// Both ends, or their logarithms.
    x: [f64; 2],
    pub y: [f64; 2],
}

impl Across {
    fn place(self, x: f64) -> f64 {
        match self {
            Across::Powers => x.log10(),
            Across::Even => x,
        }
    }
}

impl<'a> Chart<'a> {
    pub fn new(
        style: &'a Style,
        (across, x): (Across, [f64; 2]),
        y: [f64; 2],
        y_ticks: &[f64],
        names: [&str; 2],
    ) -> Chart<'a> {
        let labels: Vec<String> = y_ticks.iter().map(ToString::to_string).collect();
        let wide = labels.iter().map(|label| text_width(label, sizes::SMALL_SIZE)).fold(0.0, f64::max);
        let left = MARGIN + wide + 5.0;
        let inner = style.width_in_points().map_or(WIDTH, |width| (width - left - 2.0 * MARGIN).max(40.0));
        // Both ends apart, whatever was measured.
        let spread = |[low, high]: [f64; 2]| if high > low { [low, high] } else { [low - 0.5, high + 0.5] };
        let x = spread(x.map(|end| across.place(end)));
        let mut chart = Chart { across, style, shapes: Vec::new(), left, inner, x, y: spread(y) };
        let (ink, faint, rule) = (style.theme.ink, style.theme.faint_ink, style.theme.rule);
        for (tick, label) in y_ticks.iter().zip(labels) {
            let y = chart.y(*tick);
            chart.line(vec![Point { x: left, y }, Point { x: left + inner, y }], rule, 0.7, None);
            chart.text(Point { x: left - 3.0, y: y + 2.4 }, Anchor::End, ink, label);
        }
        let bottom = chart.bottom();
        chart.line(vec![Point { x: left, y: bottom }, Point { x: left + inner, y: bottom }], faint, 0.7, None);
        if !names[1].is_empty() {
            let first = Point { x: MARGIN, y: MARGIN + sizes::SMALL_SIZE - 1.0 };
            chart.text(first, Anchor::Start, faint, names[1].to_owned());
        }
        let below = Point { x: left + inner / 2.0, y: bottom + 2.6 * sizes::SMALL_SIZE };
        chart.text(below, Anchor::Middle, faint, names[0].to_owned());
        chart
    }

    pub fn bottom(&self) -> f64 {
        MARGIN + 2.0 * sizes::SMALL_SIZE + HEIGHT
    }

    pub fn at(&self, x: f64, y: f64) -> Point {
        let share = (self.across.place(x) - self.x[0]) / (self.x[1] - self.x[0]);
        Point { x: self.left + share * self.inner, y: self.y(y) }
    }

    pub fn y(&self, value: f64) -> f64 {
        self.bottom() - HEIGHT * (value - self.y[0]) / (self.y[1] - self.y[0])
    }

    pub fn x_label(&mut self, x: f64, label: String) {
        let at = Point { x: self.at(x, self.y[0]).x, y: self.bottom() + sizes::SMALL_SIZE + 1.5 };
        self.text(at, Anchor::Middle, self.style.theme.ink, label);
    }

    pub fn text(&mut self, at: Point, anchor: Anchor, colour: Colour, words: String) {
        self.shapes.push(Shape::Text { at, anchor, size: sizes::SMALL_SIZE, bold: false, colour, words });
    }

    pub fn line(&mut self, points: Vec<Point>, colour: Colour, width: f64, dashes: Option<[f64; 2]>) {
        if let Some((&start, rest)) = points.split_first() {
            let pieces = rest.iter().map(|&point| Piece::Line(point)).collect();
            self.shapes.push(Shape::Stroke { start, pieces, colour, width, dashes });
        }
    }

    /// Where its shapes end: width and height.
    pub fn size(&self) -> [f64; 2] {
        [self.left + self.inner + 2.0 * MARGIN, self.bottom() + 2.6 * sizes::SMALL_SIZE + MARGIN]
    }

    pub fn scene(self, title: &str, description: String) -> Scene {
        let [width, height] = self.size();
        Scene {
            width,
            height,
            scale: self.style.scale(),
            paper: self.style.theme.paper,
            title: title.to_owned(),
            description,
            shapes: self.shapes,
        }
    }
}

/// Faithfulness of circuits of growing size with its intervals; `found`: the edges of the circuit, `random`: the mean
/// faithfulness of random circuits of its size.
pub fn curve(stops: &[Stop], found: usize, random: Option<f64>, style: &Style) -> Scene {
    let theme = &style.theme;
    let sizes_of: Vec<f64> = stops.iter().map(|stop| stop.mask.count().max(1) as f64).collect();
    let ends = [sizes_of.iter().copied().fold(f64::INFINITY, f64::min), sizes_of.iter().copied().fold(1.0, f64::max)];
    let all = stops.iter().flat_map(|stop| [stop.faithfulness, stop.interval[0], stop.interval[1]]).chain(random);
    let finite: Vec<f64> = all.filter(|value| value.is_finite()).collect();
    let low = finite.iter().copied().fold(0.0, f64::min);
    let high = finite.iter().copied().fold(1.0, f64::max);
    let ends = if ends[0].is_finite() { ends } else { [1.0, 10.0] };
    let mut chart = Chart::new(style, (Across::Powers, ends), [low, high], &[0.0, 0.5, 1.0], ["edges", "faithfulness"]);
    let ends_of = |side: usize| -> Vec<Point> {
        let point = |(stop, size): (&Stop, &f64)| chart.at(*size, stop.interval[side]);
        stops.iter().zip(&sizes_of).filter(|(stop, _)| stop.interval[side].is_finite()).map(point).collect()
    };
    let (below, mut band) = (ends_of(0), ends_of(1));
    band.extend(below.into_iter().rev());
    chart.shapes.push(Shape::Polygon { points: band, fill: theme.positive.on(theme.paper, 0.16) });
    let measured = stops.iter().zip(&sizes_of).filter(|(stop, _)| stop.faithfulness.is_finite());
    let points: Vec<Point> = measured.map(|(stop, size)| chart.at(*size, stop.faithfulness)).collect();
    chart.line(points, theme.positive, 1.4, None);
    if let Some(random) = random.filter(|random| random.is_finite()) {
        let y = chart.y(random);
        let [from, to] = [chart.left, chart.left + chart.inner].map(|x| Point { x, y });
        chart.line(vec![from, to], theme.faint_ink, 0.8, Some([3.0, 2.0]));
        let words = "random circuits of its size".to_owned();
        chart.text(Point { x: to.x, y: y - 3.0 }, Anchor::End, theme.faint_ink, words);
    }
    if let Some(stop) = stops.iter().find(|stop| stop.mask.count() == found) {
        let Point { x, y } = chart.at(found.max(1) as f64, stop.faithfulness);
        let ring = [(x - 2.4, y), (x, y - 2.4), (x + 2.4, y), (x, y + 2.4)].map(|(x, y)| Point { x, y }).to_vec();
        chart.shapes.push(Shape::Polygon { points: ring, fill: theme.ink });
    }
    let mut right = f64::NEG_INFINITY;
    for size in &sizes_of {
        let (label, x) = (size.to_string(), chart.at(*size, 0.0).x);
        let half = text_width(&label, sizes::SMALL_SIZE) / 2.0;
        if x - half > right + 2.0 {
            chart.x_label(*size, label);
            right = x + half;
        }
    }
    let said = stops.iter().map(|stop| format!("{} edges {:.2}", stop.mask.count(), stop.faithfulness));
    chart.scene("Faithfulness against size", format!("Faithfulness of {}.", said.collect::<Vec<_>>().join(", ")))
}

/// How many scores have which size: a step for each third of a power of ten, those above and below 0 apart.
pub fn distribution(scores: &[f32], style: &Style) -> Scene {
    const STEPS: f64 = 3.0;
    let sizes: Vec<(f64, bool)> = scores
        .iter()
        .filter(|score| score.is_finite() && **score != 0.0)
        .map(|score| (f64::from(score.abs()), *score > 0.0))
        .collect();
    let bin = |size: f64| (size.log10() * STEPS).floor() as i64;
    let (first, last) =
        sizes.iter().fold((i64::MAX, i64::MIN), |(low, high), (size, _)| (low.min(bin(*size)), high.max(bin(*size))));
    let (first, last) = if sizes.is_empty() { (0, 0) } else { (first.max(last - 30), last) };
    let mut counts = vec![[0usize; 2]; (last - first + 1) as usize];
    for (size, positive) in &sizes {
        counts[(bin(*size).max(first) - first) as usize][usize::from(!positive)] += 1;
    }
    let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
    let edge = |bin: i64| 10f64.powf(bin as f64 / STEPS);
    let ticks = [0.0, (most / 2) as f64, most as f64];
    let ticks = if most < 2 { &ticks[..1] } else { &ticks[..] };
    let mut chart = Chart::new(
        style,
        (Across::Powers, [edge(first), edge(last + 1)]),
        [0.0, most as f64],
        ticks,
        ["|score|", "edges"],
    );
    for (side, colour) in [style.theme.positive, style.theme.negative].into_iter().enumerate() {
        let steps = counts.iter().enumerate().flat_map(|(index, count)| {
            let bin = first + index as i64;
            [chart.at(edge(bin), count[side] as f64), chart.at(edge(bin + 1), count[side] as f64)]
        });
        let steps: Vec<Point> = steps.collect();
        let dashes = if side == 1 { Some([3.0, 1.6]) } else { None };
        chart.line(steps, colour, 1.2, dashes);
    }
    for power in (first as f64 / STEPS).ceil() as i64..=((last + 1) as f64 / STEPS).floor() as i64 {
        chart.x_label(
            10f64.powi(power as i32),
            if (-3..=3).contains(&power) { format!("{}", 10f64.powi(power as i32)) } else { format!("1e{power}") },
        );
    }
    let none = scores.len() - sizes.len();
    let words = format!("solid: helps; dashed: works against; {none} are 0");
    let at = Point { x: chart.left + chart.inner, y: MARGIN + sizes::SMALL_SIZE - 1.0 };
    chart.text(at, Anchor::End, style.theme.faint_ink, words);
    chart.scene("Scores", format!("The sizes of {} scores, {none} of which are 0.", scores.len()))
}

/// Something followed from place to place.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    pub name: String,
    /// 0 or more, one a place.
    pub values: Vec<f64>,
}

/// Lines over places such as layers.
pub fn traces(places: &[String], lines: &[Line], value_name: &str, style: &Style) -> Scene {
    let theme = &style.theme;
    let last = places.len().saturating_sub(1) as f64;
    let axis = (Across::Even, [0.0, last]);
    let highest = lines.iter().flat_map(|line| &line.values).copied().filter(|value| value.is_finite());
    // Shares are shown on the whole of their range.
    let top = round_above(highest.fold(0.6, f64::max));
    let mut chart = Chart::new(style, axis, [0.0, top], &[0.0, top / 2.0, top], ["after", value_name]);
    let looks = [
        (theme.positive, None),
        (theme.negative, Some([4.0, 2.0])),
        (theme.ink, Some([1.2, 1.6])),
        (theme.faint_ink, Some([6.0, 1.6])),
    ];
    let (mut x, y) = (chart.left + chart.inner, MARGIN + sizes::SMALL_SIZE - 1.0);
    for (index, line) in lines.iter().enumerate().rev() {
        let (colour, dashes) = looks[index % looks.len()];
        let points = line.values.iter().enumerate().filter(|(_, value)| value.is_finite());
        let points: Vec<Point> = points.map(|(place, value)| chart.at(place as f64, *value)).collect();
        chart.line(points, colour, 1.4, dashes);
        // Names from right to left, each with a piece of its line.
        chart.text(Point { x, y }, Anchor::End, theme.ink, line.name.clone());
        x -= text_width(&line.name, sizes::SMALL_SIZE) + 3.0;
        chart.line(vec![Point { x: x - 14.0, y: y - 2.4 }, Point { x, y: y - 2.4 }], colour, 1.4, dashes);
        x -= 22.0;
    }
    let mut right = f64::NEG_INFINITY;
    for (place, name) in places.iter().enumerate() {
        let (at, half) = (chart.at(place as f64, 0.0).x, text_width(name, sizes::SMALL_SIZE) / 2.0);
        if at - half > right + 2.0 {
            chart.x_label(place as f64, name.clone());
            right = at + half;
        }
    }
    let said = lines.iter().map(|line| format!("{}: {:.2}", line.name, line.values.last().copied().unwrap_or(0.0)));
    chart.scene(value_name, format!("At the last place {}.", said.collect::<Vec<_>>().join(", ")))
}

/// A number above, so round that its half is too; 1 above nothing.
pub(super) fn round_above(high: f64) -> f64 {
    if high <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(high.max(1e-9).log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * power).into_iter().find(|top| *top >= high).unwrap_or(high)
}
