//! Where heads look on one prompt: a small square table for each, queries down, keys across.

use super::figure::Point;
use super::picture::Content;
use super::scene::{Anchor, Scene, Shape};
use super::sizes::{self, MARGIN, text_width};
use super::style::Style;
use crate::circuit::report::Card;
use crate::graph::Node;

/// Squares in a row.
const ACROSS: usize = 3;
const CELL: f64 = 8.0;
const GAP: f64 = 16.0;

/// The heads with the most |score| in a circuit, with their first pattern.
pub fn strongest<'a>(content: &Content, cards: &'a [Card], most: usize) -> Vec<(String, &'a [Vec<f32>])> {
    let size = |node: Node| {
        let source = content.graph.source(node);
        let row = source.map(|source| {
            content.mask.0.row(source.0).iter().zip(content.scores.values.row(source.0)).fold(
                0.0,
                |sum, (kept, score)| if *kept && score.is_finite() { sum + f64::from(score.abs()) } else { sum },
            )
        });
        row.unwrap_or(0.0)
    };
    let mut heads: Vec<(f64, String, &[Vec<f32>])> = cards
        .iter()
        .filter_map(|card| {
            let role = card.role.as_ref().map(|[role, _]| format!(", {role}")).unwrap_or_default();
            Some((size(card.node), format!("{}{role}", card.node), card.patterns.first()?.as_slice()))
        })
        .collect();
    heads.sort_by(|a, b| b.0.total_cmp(&a.0));
    heads.into_iter().take(most).map(|(_, name, pattern)| (name, pattern)).collect()
}

/// The squares side by side, tokens beside the first of each row.
pub fn scene(heads: &[(String, &[Vec<f32>])], tokens: &[String], style: &Style) -> Scene {
    let theme = &style.theme;
    let words: Vec<&str> = tokens.iter().map(|token| token.trim()).collect();
    let wide = words.iter().map(|word| text_width(word, sizes::SMALL_SIZE)).fold(0.0, f64::max);
    let (left, side) = (MARGIN + wide + 4.0, CELL * tokens.len() as f64);
    let mut shapes = Vec::new();
    let mut text = |at: Point, anchor: Anchor, words: String, faint: bool| {
        let colour = if faint { theme.faint_ink } else { theme.ink };
        shapes.push(Shape::Text { at, anchor, size: sizes::SMALL_SIZE, bold: false, colour, words });
    };
    let place = |index: usize| Point {
        x: left + (index % ACROSS) as f64 * (side + GAP),
        y: MARGIN + (index / ACROSS) as f64 * (side + GAP) + sizes::SMALL_SIZE + 3.0,
    };
    for (index, (name, _)) in heads.iter().enumerate() {
        let Point { x, y } = place(index);
        text(Point { x, y: y - 3.0 }, Anchor::Start, name.clone(), false);
        if index % ACROSS == 0 {
            for (row, word) in words.iter().enumerate() {
                let y = y + CELL * (row as f64 + 0.5) + 2.4;
                text(Point { x: left - 3.0, y }, Anchor::End, (*word).to_owned(), true);
            }
        }
    }
    for (index, (name, pattern)) in heads.iter().enumerate() {
        let corner = place(index);
        for (query, row) in pattern.iter().enumerate() {
            for (key, share) in row.iter().enumerate() {
                let at = |length: f64, step: usize| length + CELL * step as f64;
                let fill = theme.positive.on(theme.rule, f64::from(*share).clamp(0.0, 1.0));
                let (x, y) = (at(corner.x, key), at(corner.y, query));
                let (width, height) = (CELL - 0.6, CELL - 0.6);
                let cell = Shape::Rectangle { x, y, width, height, corner: 0.0, fill, border: None };
                let of = |index: usize| words.get(index).copied().unwrap_or_default();
                let name = format!("{name}: {} to {} {share:.2}", of(query), of(key));
                shapes.push(Shape::Group { name, shapes: vec![cell] });
            }
        }
    }
    let rows = heads.len().div_ceil(ACROSS).max(1) as f64;
    let named = heads.iter().enumerate().map(|(index, (name, _))| place(index).x + text_width(name, sizes::SMALL_SIZE));
    Scene {
        width: named.fold(left + heads.len().min(ACROSS) as f64 * (side + GAP) - GAP, f64::max) + MARGIN,
        height: MARGIN + rows * (side + GAP) + MARGIN,
        scale: style.scale(),
        paper: theme.paper,
        title: "Attention".into(),
        description: format!("Where {} heads look on the prompt: {}", heads.len(), tokens.concat()),
        shapes,
    }
}
