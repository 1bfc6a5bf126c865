//! Colours.
//!
//! In every theme the sign of an edge is also in the shape of its head (arrow or bar), and the branch of a head's input in the
//! dash pattern and the place where the edge enters, so that nothing is told by colour alone.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Colour(pub [u8; 3]);

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Colour([red, green, blue]) = self;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl Colour {
    /// `share` of this colour on another.
    pub fn on(self, ground: Colour, share: f64) -> Colour {
        let mix = |index: usize| {
            let (over, under) = (f64::from(self.0[index]), f64::from(ground.0[index]));
            (under + (over - under) * share).round() as u8
        };
        Colour([0, 1, 2].map(mix))
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Theme {
    pub name: &'static str,
    pub paper: Colour,
    pub ink: Colour,
    pub faint_ink: Colour,
    pub rule: Colour,
    pub mlp_fill: Colour,
    /// Edges that help, that work against the task, and of a circuit without scores.
    pub positive: Colour,
    pub negative: Colour,
    pub unscored: Colour,
    /// How much of its colour the weakest edge has.
    pub palest: f64,
}

/// Blue and orange differ for every kind of colour blindness, and in grey by lightness.
pub const PAPER: Theme = Theme {
    name: "paper",
    paper: Colour([0xff, 0xff, 0xff]),
    ink: Colour([0x1c, 0x23, 0x30]),
    faint_ink: Colour([0x5f, 0x66, 0x73]),
    rule: Colour([0xe3, 0xe6, 0xeb]),
    mlp_fill: Colour([0xe9, 0xec, 0xf1]),
    positive: Colour([0x0b, 0x4f, 0x9c]),
    negative: Colour([0xe8, 0x6a, 0x10]),
    unscored: Colour([0x5a, 0x62, 0x70]),
    palest: 0.42,
};

const DARK: Theme = Theme {
    name: "dark",
    paper: Colour([0x12, 0x16, 0x1d]),
    ink: Colour([0xe8, 0xeb, 0xf0]),
    faint_ink: Colour([0x9a, 0xa3, 0xb2]),
    rule: Colour([0x2a, 0x31, 0x3c]),
    mlp_fill: Colour([0x28, 0x2f, 0x3a]),
    positive: Colour([0x6c, 0xb4, 0xff]),
    negative: Colour([0xff, 0x9a, 0x4d]),
    unscored: Colour([0xa3, 0xac, 0xba]),
    palest: 0.5,
};

/// Blue and vermilion of Okabe and Ito's palette, for figures beside others in that palette.
const COLOUR_BLIND_SAFE: Theme = Theme {
    name: "colour-blind-safe",
    positive: Colour([0x00, 0x72, 0xb2]),
    negative: Colour([0xd5, 0x5e, 0x00]),
    palest: 0.55,
    ..PAPER
};

const GREYSCALE: Theme = Theme {
    name: "greyscale",
    ink: Colour([0x14, 0x14, 0x14]),
    faint_ink: Colour([0x60, 0x60, 0x60]),
    rule: Colour([0xe2, 0xe2, 0xe2]),
    mlp_fill: Colour([0xea, 0xea, 0xea]),
    positive: Colour([0x14, 0x14, 0x14]),
    negative: Colour([0x7d, 0x7d, 0x7d]),
    unscored: Colour([0x55, 0x55, 0x55]),
    palest: 0.6,
    ..PAPER
};

pub const THEMES: [Theme; 4] = [PAPER, DARK, COLOUR_BLIND_SAFE, GREYSCALE];

impl Theme {
    pub fn named(name: &str) -> Option<Theme> {
        THEMES.into_iter().find(|theme| theme.name == name)
    }

    /// Weak edges are pale.
    pub fn of_edge(&self, score: f32, strength: f64, scored: bool) -> Colour {
        let full = match score {
            _ if !scored => self.unscored,
            score if score < 0.0 => self.negative,
            _ => self.positive,
        };
        full.on(self.paper, self.palest + (1.0 - self.palest) * strength.sqrt())
    }
}
