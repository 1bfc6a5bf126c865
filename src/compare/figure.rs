//! Circuits side by side, with their rows at the same relative depth. Nodes that do the same in all of them have a letter.

use super::{Compared, Pair};
use crate::graph::Node;
use crate::render::figure::{Figure, Point};
use crate::render::layout::{Rows, layout, least_height_by_depth};
use crate::render::picture::{Detail, Picture};
use crate::render::scene::{Anchor, Scene, Shape};
use crate::render::sizes;
use crate::render::style::{Branches, Heads, Style};
use std::collections::BTreeMap;

/// Between two figures.
const APART: f64 = 18.0;

/// One scene of all circuits from left to right.
pub fn side_by_side(all: &[Compared], pairs: &[Pair], style: &Style) -> Scene {
    let letters = letters(pairs);
    let detail = Detail {
        branches: style.branches.unwrap_or(Branches::Merged),
        heads: style.heads.unwrap_or(Heads::Each),
        roles: style.roles,
        least_share: style.least_share,
        ..Detail::FULL
    };
    let pictures: Vec<Picture> = all
        .iter()
        .enumerate()
        .map(|(index, compared)| {
            let mut picture = Picture::new(&compared.content(), detail);
            for shown in &mut picture.boxes {
                if let Some(letter) = shown.nodes.first().and_then(|node| letters.get(&(index, name(*node)))) {
                    shown.label = format!("{} {letter}", shown.label);
                }
            }
            picture
        })
        .collect();
    let height = pictures.iter().map(least_height_by_depth).fold(0.0, f64::max);
    let figures: Vec<Figure> = pictures.iter().map(|picture| layout(picture, Rows::ByDepth(height), None)).collect();
    let mut shapes = Vec::new();
    let (mut left, mut tallest) = (0.0, 0.0f64);
    let top = 2.0 * sizes::LABEL_SIZE;
    for (figure, compared) in figures.iter().zip(all) {
        let name = compared.name.clone();
        let room = sizes::text_width(&name, sizes::LABEL_SIZE) + 2.0 * sizes::MARGIN;
        let scene = Scene::of_figure(figure, style, figure.width.max(room));
        shapes.push(Shape::Text {
            at: Point { x: left + sizes::MARGIN, y: sizes::LABEL_SIZE + sizes::MARGIN },
            anchor: Anchor::Start,
            size: sizes::LABEL_SIZE,
            bold: true,
            colour: style.theme.ink,
            words: name,
        });
        shapes.extend(scene.shapes.into_iter().map(|shape| shape.moved(left, top)));
        left += scene.width + APART;
        tallest = tallest.max(scene.height);
    }
    let mut height = top + tallest;
    if !letters.is_empty() && style.legend {
        let words = if all.len() == 2 { "both" } else { "neighbours" };
        let words = format!(
            "Equal letters: heads and MLPs of {words} that do most alike, by relative depth and by where their effect comes from and goes."
        );
        for line in sizes::wrap(&words, sizes::SMALL_SIZE, left - APART - 2.0 * sizes::MARGIN) {
            shapes.push(Shape::Text {
                at: Point { x: sizes::MARGIN, y: height + sizes::SMALL_SIZE },
                anchor: Anchor::Start,
                size: sizes::SMALL_SIZE,
                bold: false,
                colour: style.theme.ink,
                words: line,
            });
            height += 1.4 * sizes::SMALL_SIZE;
        }
        height += sizes::MARGIN;
    }
    let names: Vec<&str> = all.iter().map(|compared| compared.name.as_str()).collect();
    Scene {
        width: left - APART,
        height,
        scale: style.scale(),
        paper: style.theme.paper,
        title: names.join(", "),
        description: format!("The circuits {} side by side.", names.join(", ")),
        shapes,
    }
}

/// The letter of each matched node by circuit and name, handed on from neighbour to neighbour.
fn letters(pairs: &[Pair]) -> BTreeMap<(usize, String), String> {
    let mut letters = BTreeMap::new();
    let mut given = 0;
    for Pair { places: [first, second], matching, .. } in pairs {
        if first + 1 != *second {
            continue;
        }
        for pair in &matching.pairs {
            let letter = letters.entry((*first, name(pair.a))).or_insert_with(|| {
                given += 1;
                letter(given - 1)
            });
            let letter = letter.clone();
            letters.insert((*second, name(pair.b)), letter);
        }
    }
    letters
}

fn name(node: Node) -> String {
    node.to_string()
}

/// A to Z, then AA and so on.
fn letter(mut index: usize) -> String {
    let mut letters = String::new();
    loop {
        letters.insert(0, char::from(b'A' + (index % 26) as u8));
        match (index / 26).checked_sub(1) {
            Some(next) => index = next,
            None => return letters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_on_after_z() {
        let found: Vec<String> = [0, 25, 26, 27, 51, 52, 701, 702].map(letter).to_vec();
        assert_eq!(found, ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]);
    }
}
