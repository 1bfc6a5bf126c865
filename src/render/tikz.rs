//! TikZ: every shape of a scene as a command, for `\input` into a LaTeX paper that loads the package `tikz`.

use super::figure::Point;
use super::scene::{Anchor, Piece, Scene, Shape};
use super::svg::number;
use super::theme::Colour;
use std::collections::BTreeSet;
use std::fmt::Write;

pub fn draw(scene: &Scene) -> String {
    let mut out =
        String::from("% \\usepackage{tikz} in the preamble, then \\input this file where the figure is to stand.\n");
    let scale = number(scene.scale);
    let _ = writeln!(
        out,
        "\\begin{{tikzpicture}}[x={scale}bp, y=-{scale}bp, inner sep=0pt, outer sep=0pt, line cap=butt, line join=miter]"
    );
    let mut colours = BTreeSet::from([scene.paper]);
    scene.shapes.iter().for_each(|shape| collect(shape, &mut colours));
    for colour in &colours {
        let _ = writeln!(out, "\\definecolor{{{}}}{{HTML}}{{{}}}", name(*colour), &name(*colour)[2..]);
    }
    let corner = Point { x: scene.width, y: scene.height };
    let _ = writeln!(out, "\\path[fill={}] (0,0) rectangle {};", name(scene.paper), pair(corner));
    for shape in &scene.shapes {
        command(&mut out, shape, scene.scale);
    }
    out.push_str("\\end{tikzpicture}%\n");
    out
}

fn collect(shape: &Shape, colours: &mut BTreeSet<Colour>) {
    match shape {
        Shape::Stroke { colour, .. } | Shape::Text { colour, .. } | Shape::Polygon { fill: colour, .. } => {
            colours.insert(*colour);
        }
        Shape::Rectangle { fill, border, .. } => colours.extend([Some(*fill), *border].into_iter().flatten()),
        Shape::Group { shapes, .. } => shapes.iter().for_each(|shape| collect(shape, colours)),
    }
}

fn command(out: &mut String, shape: &Shape, scale: f64) {
    let length = |value: f64| format!("{}bp", number(value * scale));
    let _ = match shape {
        Shape::Stroke { start, pieces, colour, width, dashes } => {
            let dashes = dashes
                .map(|[on, off]| format!(", dash pattern=on {} off {}", length(on), length(off)))
                .unwrap_or_default();
            let mut path = pair(*start);
            for piece in pieces {
                path += &match *piece {
                    Piece::Line(to) => format!(" -- {}", pair(to)),
                    Piece::Curve(first, second, to) => {
                        format!(" .. controls {} and {} .. {}", pair(first), pair(second), pair(to))
                    }
                };
            }
            writeln!(out, "\\draw[{}, line width={}{dashes}] {path};", name(*colour), length(*width))
        }
        Shape::Polygon { points, fill } => {
            let points: Vec<String> = points.iter().map(|point| pair(*point)).collect();
            writeln!(out, "\\fill[{}] {} -- cycle;", name(*fill), points.join(" -- "))
        }
        Shape::Rectangle { x, y, width, height, corner, fill, border } => {
            let border =
                border.map(|ink| format!(", draw={}, line width={}", name(ink), length(0.8))).unwrap_or_default();
            let [low, high] = [(*x, *y), (x + width, y + height)].map(|(x, y)| pair(Point { x, y }));
            let fill = name(*fill);
            writeln!(out, "\\path[fill={fill}{border}, rounded corners={}] {low} rectangle {high};", length(*corner))
        }
        Shape::Text { at, anchor, size, bold, colour, words } => {
            let anchor = match anchor {
                Anchor::Start => "base west",
                Anchor::Middle => "base",
                Anchor::End => "base east",
            };
            let bold = if *bold { "\\bfseries" } else { "" };
            let (size, skip) = (length(*size), length(size * 1.2));
            let font = format!("\\fontsize{{{size}}}{{{skip}}}\\selectfont\\sffamily{bold}");
            let (at, words) = (pair(*at), escape(words));
            writeln!(out, "\\node[anchor={anchor}, text={}, font={font}] at {at} {{{words}}};", name(*colour))
        }
        Shape::Group { name, shapes } => {
            let _ = writeln!(out, "% {}", name.replace(|c: char| c.is_control(), " "));
            shapes.iter().for_each(|shape| command(out, shape, scale));
            Ok(())
        }
    };
}

/// TeX's name of a colour: letters that do not meet a name of the document, then its hexadecimal digits.
fn name(colour: Colour) -> String {
    format!("pj{}", colour.to_string().trim_start_matches('#').to_uppercase())
}

fn pair(point: Point) -> String {
    format!("({},{})", number(point.x), number(point.y))
}

/// A text for TeX, whatever the font encoding.
fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '"' => escaped.push_str("\textquotedbl{}"),
            '-' => escaped.push_str("{-}"),
            '{' | '}' | '$' | '&' | '#' | '_' | '%' => {
                escaped.push('\\');
                escaped.push(character);
            }
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}
