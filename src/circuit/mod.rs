//! A circuit: the edges of a model that are kept when all others are ablated.
//!
//! [`select`] and [`net_value`] take edges by their scores, [`consistent`] leaves those out whose sign the pairs do not agree on,
//! [`prune`] drops those that lead nowhere, [`report`] holds what evaluation found, and [`file`](mod@file), [`scores_file`], [`shard_file`], [`pair_scores`], [`position_scores`] and [`eap_json`] are the files. [`merge`] puts
//! the parts of a run together.

pub mod consistent;
pub mod eap_json;
pub mod evidence;
pub mod evidence_file;
pub mod file;
pub mod import;
pub mod merge;
pub mod mib;
pub mod net_value;
pub mod nodes;
pub mod pair_scores;
pub mod position_scores;
pub mod prune;
pub mod report;
pub mod report_file;
pub mod roles;
pub mod scores_file;
pub mod select;
pub mod shard_file;
pub mod validity;
pub mod verdict;

pub use crate::graph::mask::EdgeMask;
