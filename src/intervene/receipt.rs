//! What a run touched: proof that an edit or a probe did something.

use super::address::Numbers;
use std::fmt;

/// One entry for each edit and site, in the order of the plan.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Receipt {
    pub entries: Vec<Touched>,
}

/// One site as one edit or probe met it, over the whole batch and all passes.
#[derive(Clone, PartialEq, Debug)]
pub struct Touched {
    /// The edit as text, or `read`.
    pub action: String,
    /// The site, with the heads or neurons concerned: `L5.H3.q`.
    pub site: String,
    /// Token positions, sorted, of any prompt of the batch.
    pub positions: Vec<usize>,
    /// How many numbers were read or written.
    pub values: usize,
    /// How many of them are different afterwards.
    pub changed: usize,
    /// The root of the summed squares of the changes.
    pub l2_change: f64,
    /// The largest change of a single number.
    pub max_change: f64,
}

impl fmt::Display for Touched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Touched { action, site, values, changed, l2_change, max_change, .. } = self;
        let positions = Numbers::compact(&self.positions);
        write!(f, "{action}: {site} at {positions}, {values} values, {changed} changed")?;
        match changed {
            0 => Ok(()),
            _ => write!(f, " by {l2_change:.4} in all and at most {max_change:.4}"),
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.entries.iter().map(Touched::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
