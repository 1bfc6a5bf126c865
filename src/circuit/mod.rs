//! A circuit: the edges of a model that are kept when all others are ablated.
//!
//! [`select`] takes edges by their scores, [`prune`] drops those that lead nowhere, [`report`] holds what evaluation found,
//! and [`file`](mod@file), [`scores_file`] and [`eap_json`] are the files.

pub mod eap_json;
pub mod file;
pub mod prune;
pub mod report;
pub mod scores_file;
pub mod select;

pub use crate::graph::mask::EdgeMask;
