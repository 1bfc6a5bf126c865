//! Lengths in points at the usual size of text, and what text measures.

use crate::model::spec::Branch;

pub const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
pub const TITLE_SIZE: f64 = 10.0;
pub const LABEL_SIZE: f64 = 8.0;
/// The least size used: 7 pt is what journals ask for.
pub const SMALL_SIZE: f64 = 7.0;

pub const MARGIN: f64 = 6.0;
pub const HEAD_HEIGHT: f64 = 22.0;
/// Of a head whose inputs are drawn as one.
pub const LOW_HEAD_HEIGHT: f64 = 14.0;
pub const MLP_HEIGHT: f64 = 14.0;
/// The line of a role.
pub const ROLE_HEIGHT: f64 = 8.0;
pub const END_HEIGHT: f64 = 15.0;
/// A third of the narrowest head: one of its three ports.
pub const PORT_WIDTH: f64 = 11.0;
/// Between the tips of two edges that enter the same port.
pub const TIP_SPACING: f64 = 4.4;
pub const NODE_GAP: f64 = 10.0;
pub const NODE_LANE_GAP: f64 = 6.0;
pub const LANE_GAP: f64 = 4.5;
/// Between the strands of one lane.
pub const STRAND_GAP: f64 = 1.0;
pub const ARROW_LENGTH: f64 = 4.6;
/// The least height of the gap between two rows: an arrow and room to bend.
pub const LEAST_GAP: f64 = 10.0;

const WIDEST: f64 = 3.0;
const THINNEST: f64 = 0.6;

/// Points in a millimetre.
pub const MILLIMETRE: f64 = 72.0 / 25.4;

/// The stroke of an edge whose |score| is this share of the largest: its square grows with the score.
pub fn stroke(strength: f64) -> f64 {
    (WIDEST * strength.sqrt()).max(THINNEST)
}

/// The dash pattern of an edge of this width: query dashed, key dotted, everything else solid.
pub fn dashes(branch: Option<Branch>, width: f64) -> Option<[f64; 2]> {
    let unit = width.max(0.9);
    match branch {
        Some(Branch::Query) => Some([2.2 + 1.6 * unit, 1.3 + 0.7 * unit]),
        Some(Branch::Key) => Some([0.4 + 0.7 * unit, 0.7 + 0.7 * unit]),
        Some(Branch::Value) | None => None,
    }
}

/// The width of a text in points: Helvetica's, with a tenth to spare for the fonts that stand in for it.
pub fn text_width(text: &str, size: f64) -> f64 {
    let thousandths: u32 = text.chars().map(advance).sum();
    f64::from(thousandths) * size * 1.1 / 1000.0
}

/// Advance widths of Helvetica in thousandths of the size.
fn advance(character: char) -> u32 {
    match character {
        'i' | 'j' | 'l' => 222,
        '\'' => 191,
        '|' => 260,
        ' ' | '!' | ',' | '.' | '/' | ':' | ';' | 'I' | '[' | ']' | '\\' | 'f' | 't' => 278,
        '(' | ')' | '-' | '`' | 'r' | '{' | '}' => 333,
        '"' | '*' => 389,
        'J' | 'c' | 'k' | 's' | 'v' | 'x' | 'y' | 'z' => 500,
        'F' | 'T' | 'Z' | '+' | '<' | '=' | '>' | '~' | '^' => 611,
        'A' | 'B' | 'E' | 'K' | 'P' | 'S' | 'V' | 'X' | 'Y' | '&' => 667,
        'C' | 'D' | 'H' | 'N' | 'R' | 'U' | 'w' => 722,
        'G' | 'O' | 'Q' => 778,
        'M' | 'm' => 833,
        '%' | 'W' => 944,
        '@' => 1015,
        character if character.is_ascii() => 556,
        character if character < '\u{1100}' => 700,
        _ => 1000,
    }
}

/// Breaks a text into lines at spaces.
pub fn wrap(words: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size) <= width => {
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
    fn long_titles_are_wrapped() {
        let lines = wrap("indirect object identification in a model with a very long name", 10.0, 150.0);
        assert!(lines.len() > 1);
        for line in &lines {
            assert!(text_width(line, 10.0) <= 150.0, "{line}");
        }
    }
}
