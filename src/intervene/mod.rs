//! Probes and edits: the written grammar, the plan it becomes, the taps that run it and the receipt they hand back.
//!
//! ```text
//! "L5.H3:-1 = scale 0" ─► plan::Plan ─► run::PlanTap ─► receipt::Receipt
//!                         text, JSON    forward pass    what was touched
//! ```
//!
//! [`record`], [`run`] and what they stand on need libtorch; the rest is plain data.

pub mod address;
pub mod check;
mod lexer;
pub mod parse;
pub mod plan;
pub mod position;
pub mod receipt;
pub mod slice;

#[cfg(feature = "torch")]
mod action;
#[cfg(feature = "torch")]
mod cells;
#[cfg(feature = "torch")]
pub mod failure;
#[cfg(feature = "torch")]
pub mod features;
#[cfg(feature = "torch")]
pub mod record;
#[cfg(feature = "torch")]
pub mod run;

#[cfg(test)]
mod tests;
