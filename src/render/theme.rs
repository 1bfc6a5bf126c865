//! The paper theme: sizes in points, colours, and what text measures.
//!
//! Blue and orange differ for every kind of colour blindness, and in grey by lightness; the sign is also in the shape of an
//! edge's head (arrow or bar), and the branch of a head's input in the dash pattern and the place where the edge enters.

use crate::model::spec::Branch;

pub const FONTS: &str = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif";
pub const TITLE_SIZE: f64 = 10.0;
pub const LABEL_SIZE: f64 = 8.0;
/// The least size used: 7 pt is what journals ask for.
pub const SMALL_SIZE: f64 = 7.0;

pub const INK: &str = "#1c2330";
pub const FAINT_INK: &str = "#69707d";
pub const RULE: &str = "#e3e6eb";
pub const PAPER: &str = "#ffffff";
pub const MLP_FILL: &str = "#e9ecf1";

type Colour = [u8; 3];
const POSITIVE: Colour = [0x0b, 0x4f, 0x9c];
const NEGATIVE: Colour = [0xe8, 0x6a, 0x10];
/// Edges of a circuit without scores.
const UNSCORED: Colour = [0x5a, 0x62, 0x70];

pub const MARGIN: f64 = 6.0;
pub const HEAD_HEIGHT: f64 = 22.0;
pub const MLP_HEIGHT: f64 = 14.0;
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

const WIDEST: f64 = 3.0;
const THINNEST: f64 = 0.6;

/// The stroke of an edge whose |score| is this share of the largest: its square grows with the score.
pub fn stroke(strength: f64) -> f64 {
    (WIDEST * strength.sqrt()).max(THINNEST)
}

/// Weak edges are pale.
pub fn colour(score: f32, strength: f64, scored: bool) -> String {
    let full = match score {
        _ if !scored => UNSCORED,
        score if score < 0.0 => NEGATIVE,
        _ => POSITIVE,
    };
    let share = 0.42 + 0.58 * strength.sqrt();
    let [red, green, blue] = full.map(|channel| (255.0 - (255.0 - f64::from(channel)) * share).round() as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
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
