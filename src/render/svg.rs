//! SVG: the figure with its caption above and a legend below. Every text is escaped, every number has two decimals at most.

use super::Caption;
use super::figure::{Figure, FigureEdge, FigureNode, Step};
use super::legend::legend;
use super::theme;
use crate::graph::Node;
use std::fmt::Write;

/// Narrower figures are centred in this width, so that caption and legend have room.
const LEAST_WIDTH: f64 = 200.0;

pub(super) fn draw(figure: &Figure, caption: &Caption) -> String {
    let width = figure.width.max(LEAST_WIDTH);
    let inner = width - 2.0 * theme::MARGIN;
    let mut above = String::new();
    let mut top = 0.0;
    for (words, size, colour, bold) in [
        (&caption.title, theme::TITLE_SIZE, theme::INK, true),
        (&caption.subtitle, theme::LABEL_SIZE, theme::FAINT_INK, false),
    ] {
        for line in wrap(words, size, inner) {
            top += size * 1.3;
            let weight = if bold { " font-weight=\"bold\"" } else { "" };
            let line = text(theme::MARGIN, top + 2.0, size, colour, "start", &line);
            above.push_str(&line.replacen("<text", &format!("<text{weight}"), 1));
        }
    }
    if top > 0.0 {
        top += 4.0;
    }
    let legend_top = top + figure.height + 2.0;
    let (legend_height, legend) = legend(figure, theme::MARGIN, legend_top, inner);
    let height = legend_top + legend_height + theme::MARGIN;

    let mut out = String::new();
    let (w, h) = (number(width), number(height));
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}pt\" height=\"{h}pt\" viewBox=\"0 0 {w} {h}\" \
         role=\"img\" font-family=\"{}\">",
        theme::FONTS
    );
    let _ = writeln!(out, "<title>{}</title>", escape(&title(caption)));
    let _ = writeln!(out, "<desc>{}</desc>", escape(&description(figure, caption)));
    let _ = writeln!(out, "<rect width=\"{w}\" height=\"{h}\" fill=\"{}\"/>", theme::PAPER);
    out.push_str(&above);
    let shift = (number((width - figure.width) / 2.0), number(top));
    let _ = writeln!(out, "<g transform=\"translate({} {})\">", shift.0, shift.1);
    layers(&mut out, figure);
    for edge in &figure.edges {
        let score = if figure.largest > 0.0 { format!(" {:+.4}", edge.score) } else { String::new() };
        let shape = edge_shape(edge, figure.largest > 0.0, true);
        let _ = writeln!(out, "<g><title>{}{score}</title>{shape}</g>", escape(&edge.name));
    }
    for node in &figure.nodes {
        node_shape(&mut out, node);
    }
    out.push_str("</g>\n");
    out.push_str(&legend);
    out.push_str("</svg>\n");
    out
}

fn title(caption: &Caption) -> String {
    if caption.title.is_empty() { "Circuit".into() } else { caption.title.clone() }
}

/// What a reader who cannot see the figure is told.
fn description(figure: &Figure, caption: &Caption) -> String {
    let nodes: Vec<&str> = figure.nodes.iter().map(|node| node.label.as_str()).collect();
    let edges = figure.edges.len();
    let strongest: Vec<&str> = figure.edges.iter().rev().take(3).map(|edge| edge.name.as_str()).collect();
    let mut said = format!("A circuit of {edges} edges between {}.", nodes.join(", "));
    if figure.largest > 0.0 && !strongest.is_empty() {
        let _ = write!(said, " The strongest are {}.", strongest.join(", "));
    }
    if !caption.subtitle.is_empty() {
        let _ = write!(said, " {}", caption.subtitle);
    }
    said
}

fn layers(out: &mut String, figure: &Figure) {
    for pair in figure.layers.windows(2) {
        let y = number((pair[0].span.0 + pair[1].span.1) / 2.0);
        let (from, to) = (number(theme::MARGIN), number(figure.width - theme::MARGIN));
        let _ = writeln!(out, "<path d=\"M{from} {y}H{to}\" stroke=\"{}\" stroke-width=\"0.7\"/>", theme::RULE);
    }
    for layer in &figure.layers {
        out.push_str(&text(theme::MARGIN, layer.y + 2.5, theme::SMALL_SIZE, theme::FAINT_INK, "start", &layer.text));
    }
}

/// The stroke on a white border, which keeps crossing edges apart, and the head: an arrow, or a bar for a negative score.
pub(super) fn edge_shape(edge: &FigureEdge, scored: bool, head: bool) -> String {
    let negative = scored && edge.score < 0.0;
    let colour = theme::colour(edge.score, edge.strength, scored);
    let tip = edge.tip();
    let stop = match (head, negative) {
        (false, _) => 0.0,
        (true, true) => 1.2,
        (true, false) => theme::ARROW_LENGTH - 1.0,
    };
    let mut path = format!("M{} {}", number(edge.start.x), number(edge.start.y));
    let mut here = edge.start;
    for (index, step) in edge.steps.iter().enumerate() {
        let last = index + 1 == edge.steps.len();
        match *step {
            Step::Line(to) => {
                let _ = write!(path, "V{}", number(if last { to.y + stop } else { to.y }));
            }
            Step::Curve(to) => {
                let middle = number((here.y + to.y) / 2.0);
                let (x, y) = (number(to.x), number(to.y));
                let _ = write!(path, "C{} {middle} {x} {middle} {x} {y}", number(here.x));
            }
        }
        here = step.end();
    }
    let width = number(edge.width);
    let border = number(edge.width + 1.4);
    let dashes = theme::dashes(edge.branch, edge.width)
        .map(|[on, off]| format!(" stroke-dasharray=\"{} {}\"", number(on), number(off)))
        .unwrap_or_default();
    let mut shape = format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{border}\"/>\
         <path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dashes}/>",
        theme::PAPER
    );
    let half = (1.25 + 0.3 * edge.width).min(2.1);
    let (left, right) = (number(tip.x - half), number(tip.x + half));
    match (head, negative) {
        (false, _) => {}
        (true, true) => {
            let _ = write!(
                shape,
                "<path d=\"M{left} {y}H{right}\" stroke=\"{colour}\" stroke-width=\"1.3\"/>",
                y = number(tip.y + 1.1)
            );
        }
        (true, false) => {
            let base = number(tip.y + theme::ARROW_LENGTH);
            let (x, y) = (number(tip.x), number(tip.y + 0.4));
            let _ = write!(shape, "<path d=\"M{left} {base}L{x} {y}L{right} {base}Z\" fill=\"{colour}\"/>");
        }
    }
    shape
}

fn node_shape(out: &mut String, node: &FigureNode) {
    let (fill, ink, corner) = match node.node {
        Node::Head(..) => (theme::PAPER, theme::INK, 3.5),
        Node::Mlp(_) => (theme::MLP_FILL, theme::INK, 1.5),
        Node::Input | Node::Logits => (theme::INK, theme::PAPER, node.height / 2.0),
    };
    let _ = writeln!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"{}\" fill=\"{fill}\" stroke=\"{}\" stroke-width=\"0.8\"/>",
        number(node.x - node.width / 2.0),
        number(node.y - node.height / 2.0),
        number(node.width),
        number(node.height),
        number(corner),
        theme::INK
    );
    let baseline = if node.ports.is_empty() { node.y + 2.8 } else { node.y - 1.8 };
    out.push_str(&text(node.x, baseline, theme::LABEL_SIZE, ink, "middle", &node.label));
    for (branch, x) in &node.ports {
        let y = node.y + node.height / 2.0 - 2.6;
        out.push_str(&text(*x, y, theme::SMALL_SIZE, theme::FAINT_INK, "middle", &branch.to_string()));
    }
}

pub(super) fn text(x: f64, y: f64, size: f64, colour: &str, anchor: &str, words: &str) -> String {
    let (x, y, size) = (number(x), number(y), number(size));
    format!(
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{}</text>\n",
        escape(words)
    )
}

/// At most two decimals, and no minus before a zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

fn escape(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for character in words.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML 1.0 has no way to write other control characters.
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

/// Breaks a text into lines at spaces.
fn wrap(words: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if theme::text_width(&format!("{line} {word}"), size) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
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

    #[test]
    fn long_titles_are_wrapped() {
        let lines = wrap("indirect object identification in a model with a very long name", 10.0, 150.0);
        assert!(lines.len() > 1);
        for line in &lines {
            assert!(theme::text_width(line, 10.0) <= 150.0, "{line}");
        }
    }
}
