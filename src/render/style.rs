//! How a figure is to look.

use super::sizes;
use super::theme::{self, THEMES, Theme};
use crate::error::{Hint, nearest};

/// The usual style: as wide as the circuit wants, everything drawn.
#[derive(Clone, PartialEq, Debug)]
pub struct Style {
    pub theme: Theme,
    /// The width of the figure in millimetres. A circuit that does not fit is simplified until it does; it is never shrunk.
    pub width: Option<f64>,
    /// The most that the figure may be high, in millimetres, where that is possible.
    pub height: Option<f64>,
    /// The size of labels in points; small ones have 7/8 of it.
    pub font_size: f64,
    pub legend: bool,
    /// `None`: as the width allows.
    pub branches: Option<Branches>,
    pub heads: Option<Heads>,
    /// Whether roles are written under names.
    pub roles: bool,
    /// Edges whose |score| is a smaller share of the largest are left out and counted in the legend.
    pub least_share: f64,
}

impl Default for Style {
    fn default() -> Style {
        Style {
            theme: theme::PAPER,
            width: None,
            height: None,
            font_size: sizes::LABEL_SIZE,
            legend: true,
            branches: None,
            heads: None,
            roles: true,
            least_share: 0.0,
        }
    }
}

/// How the inputs of a head are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branches {
    /// Queries, keys and values apart.
    Separate,
    /// As one, with their scores added.
    Merged,
}

/// How heads are drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heads {
    Each,
    /// Those of one layer as one box, with the scores of their edges added.
    ByLayer,
    /// Those of one layer and one role as one box.
    ByRole,
}

/// A style that no figure can have.
#[derive(Debug, thiserror::Error)]
pub enum StyleError {
    #[error("there is no theme `{name}`")]
    Theme { name: String },
    #[error("{what} {value} is not between {least} and {most}")]
    Range { what: &'static str, value: f64, least: f64, most: f64 },
}

impl Hint for StyleError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            StyleError::Theme { name } => match nearest(name, THEMES.map(|theme| theme.name)) {
                Some(theme) => format!("did you mean `{theme}`?"),
                None => format!("the themes are {}", THEMES.map(|theme| theme.name).join(", ")),
            },
            StyleError::Range { what, .. } => match *what {
                "the width" | "the height" => "columns of papers are 80 to 180 mm wide".into(),
                "the font size" => "journals want 7 points or more at print size".into(),
                _ => "0.05 leaves out edges with less than 5 % of the largest |score|".into(),
            },
        })
    }
}

impl Style {
    /// # Errors
    /// [`StyleError`] where a number makes no sense.
    pub fn check(&self) -> Result<(), StyleError> {
        let range = |what: &'static str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(StyleError::Range { what, value, least, most }) }
        };
        range("the width", self.width.unwrap_or(85.0), 40.0, 2000.0)?;
        range("the height", self.height.unwrap_or(85.0), 40.0, 2000.0)?;
        range("the font size", self.font_size, 7.0, 36.0)?;
        range("the least share", self.least_share, 0.0, 1.0)
    }

    /// How much larger than usual everything is.
    pub fn scale(&self) -> f64 {
        self.font_size / sizes::LABEL_SIZE
    }

    /// The width in points at the usual size of text.
    pub(super) fn width_in_points(&self) -> Option<f64> {
        self.width.map(|width| width * sizes::MILLIMETRE / self.scale())
    }

    pub(super) fn height_in_points(&self) -> Option<f64> {
        self.height.map(|height| height * sizes::MILLIMETRE / self.scale())
    }
}
