//! Runs circuits and measures how faithful, complete and minimal they are.

pub mod baseline;
pub mod bootstrap;
pub mod evidence;
pub mod run;

pub use evidence::{Evidence, evidence};
pub use run::{Bench, Outcome};
