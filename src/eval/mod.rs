//! Runs circuits and measures how faithful, complete and minimal they are.

pub mod areas;
pub mod baseline;
pub mod bench;
pub mod bootstrap;
pub mod curve;
pub mod division;
pub mod evidence;
pub mod hypotheses;
pub mod mib;
pub mod needless;

pub use bench::{Bench, Outcome};
pub use evidence::{Evidence, evidence};
