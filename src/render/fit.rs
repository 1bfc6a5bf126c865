//! How much of a circuit is drawn so that the figure fits a width: everything, if it can be; else with the inputs of heads as
//! one; else the strongest edges only, between single heads or, where these would show less than most of the circuit, between
//! layers of heads. Text never shrinks.

use super::figure::Figure;
use super::layout::{Rows, layout, least_width};
use super::picture::{Content, Detail, Picture};
use super::style::{Branches, Heads, Style};

/// The share of all |score| that single heads have to show.
const MOST_OF_IT: f64 = 0.75;

/// The figure of a circuit in a style.
pub fn figure(content: &Content, style: &Style) -> Figure {
    let rows = Rows::Near(style.height_in_points());
    let asked = Detail {
        branches: style.branches.unwrap_or(Branches::Separate),
        heads: style.heads.unwrap_or(Heads::Each),
        roles: style.roles,
        least_share: style.least_share,
        ..Detail::FULL
    };
    let Some(width) = style.width_in_points() else {
        return layout(&Picture::new(content, asked), rows, None);
    };
    let draw = |detail: Detail| {
        let picture = Picture::new(content, detail);
        let possible = least_width(&picture) <= width;
        possible.then(|| layout(&picture, rows, Some(width))).filter(|figure| figure.width <= width)
    };
    let merged = Detail { branches: style.branches.unwrap_or(Branches::Merged), ..asked };
    if let Some(figure) = draw(asked).or_else(|| draw(merged)) {
        return figure;
    }
    let heads = match style.heads {
        Some(heads) => vec![heads],
        None => vec![Heads::Each, Heads::ByLayer],
    };
    let mut best: Option<Figure> = None;
    for heads in heads {
        if best.as_ref().is_some_and(|best| 1.0 - best.left_out.share >= MOST_OF_IT) {
            break;
        }
        let strongest = strongest(Detail { heads, ..merged }, content.mask.count(), &draw);
        best = match (best, strongest) {
            (Some(best), Some(other)) if other.left_out.share >= best.left_out.share => Some(best),
            (best, other) => other.or(best),
        };
    }
    // Not even the two ends fit: the figure is wider than asked.
    best.unwrap_or_else(|| layout(&Picture::new(content, Detail { most: 1, ..merged }), rows, Some(width)))
}

/// The figure with the most links that fits, by bisection.
fn strongest(detail: Detail, links: usize, draw: &dyn Fn(Detail) -> Option<Figure>) -> Option<Figure> {
    let (mut low, mut high, mut best) = (0, links + 1, None);
    while low + 1 < high {
        let most = (low + high) / 2;
        match draw(Detail { most, ..detail }) {
            Some(figure) => (low, best) = (most, Some(figure)),
            None => high = most,
        }
    }
    best
}
