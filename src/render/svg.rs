//! SVG: every shape of a scene as an element. Every text is escaped, every number has two decimals at most.

use super::figure::{FigureEdge, Point, Step};
use super::scene::{Anchor, Piece, Scene, Shape};
use super::sizes;
use std::fmt::Write;

pub fn draw(scene: &Scene) -> String {
    let mut out = String::new();
    let [w, h] = [scene.width, scene.height].map(number);
    let [wide, high] = [scene.width, scene.height].map(|length| number(length * scene.scale));
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{wide}pt\" height=\"{high}pt\" viewBox=\"0 0 {w} {h}\" \
         role=\"img\" font-family=\"{}\">",
        sizes::FONTS
    );
    let _ = writeln!(out, "<title>{}</title>", escape(&scene.title));
    let _ = writeln!(out, "<desc>{}</desc>", escape(&scene.description));
    let _ = writeln!(out, "<rect width=\"{w}\" height=\"{h}\" fill=\"{}\"/>", scene.paper);
    for shape in &scene.shapes {
        element(&mut out, shape);
        out.push('\n');
    }
    out.push_str("</svg>\n");
    out
}

fn element(out: &mut String, shape: &Shape) {
    let _ = match shape {
        Shape::Stroke { start, pieces, colour, width, dashes } => {
            let dashes = dashes
                .map(|[on, off]| format!(" stroke-dasharray=\"{} {}\"", number(on), number(off)))
                .unwrap_or_default();
            let (path, width) = (path(*start, pieces), number(*width));
            write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>")
        }
        Shape::Polygon { points, fill } => {
            let points: Vec<String> = points.iter().map(|point| pair(*point)).collect();
            write!(out, "<path d=\"M{}Z\" fill=\"{fill}\"/>", points.join("L"))
        }
        Shape::Rectangle { x, y, width, height, corner, fill, border } => {
            let [x, y, width, height, corner] = [*x, *y, *width, *height, *corner].map(number);
            let border = border.map(|ink| format!(" stroke=\"{ink}\" stroke-width=\"0.8\"")).unwrap_or_default();
            let round = if corner == "0" { String::new() } else { format!(" rx=\"{corner}\"") };
            write!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"{round} fill=\"{fill}\"{border}/>"
            )
        }
        Shape::Text { at, anchor, size, bold, colour, words } => {
            let bold = if *bold { " font-weight=\"bold\"" } else { "" };
            let anchor = match anchor {
                Anchor::Start => "",
                Anchor::Middle => " text-anchor=\"middle\"",
                Anchor::End => " text-anchor=\"end\"",
            };
            let [x, y, size] = [at.x, at.y, *size].map(number);
            let words = escape(words);
            write!(out, "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\"{anchor}{bold}>{words}</text>")
        }
        Shape::Group { name, shapes } => {
            let _ = write!(out, "<g><title>{}</title>", escape(name));
            for shape in shapes {
                element(out, shape);
            }
            write!(out, "</g>")
        }
    };
}

/// The path of an edge, up to its tip.
pub fn path_of(edge: &FigureEdge) -> String {
    let mut here = edge.start;
    let piece = |step: &Step| {
        let middle = (here.y + step.end().y) / 2.0;
        let controls = [here.x, step.end().x].map(|x| Point { x, y: middle });
        here = step.end();
        match *step {
            Step::Line(to) => Piece::Line(to),
            Step::Curve(to) => Piece::Curve(controls[0], controls[1], to),
        }
    };
    path(edge.start, &edge.steps.iter().map(piece).collect::<Vec<_>>())
}

fn path(start: Point, pieces: &[Piece]) -> String {
    let mut path = format!("M{}", pair(start));
    let mut here = start;
    for piece in pieces {
        let _ = match *piece {
            Piece::Line(to) if number(to.x) == number(here.x) => write!(path, "V{}", number(to.y)),
            Piece::Line(to) if number(to.y) == number(here.y) => write!(path, "H{}", number(to.x)),
            Piece::Line(to) => write!(path, "L{}", pair(to)),
            Piece::Curve(first, second, to) => write!(path, "C{} {} {}", pair(first), pair(second), pair(to)),
        };
        here = match *piece {
            Piece::Line(to) | Piece::Curve(_, _, to) => to,
        };
    }
    path
}

fn pair(point: Point) -> String {
    format!("{} {}", number(point.x), number(point.y))
}

/// At most two decimals, and no minus before a zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

/// A text for XML.
pub fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no way to write other control characters, nor these two.
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_and_numbers_short() {
        assert_eq!(escape("a<b> & \"c\"\u{0}\n"), "a&lt;b&gt; &amp; &quot;c&quot;  ");
        for (value, text) in [(0.0, "0"), (-0.001, "0"), (1.5, "1.5"), (-2.126, "-2.13"), (100.0, "100")] {
            assert_eq!(number(value), text);
        }
    }
}
