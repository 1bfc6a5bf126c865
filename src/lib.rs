//! penjing finds *which* attention heads and MLPs of a language model do a task.
//!
//! Data flows one way, and so do imports:
//!
//! ```text
//! task ─► dataset ─► model ─► graph ─► score ─► select ─► evaluate ─► render ─► compare
//! TOML    pairs      tensors  petgraph  Array2   circuit   report      figures  tables
//! ```
//!
//! 1. [`task`] reads a TOML file and expands it into clean and corrupt prompt pairs.
//! 2. [`dataset`] tokenises the pairs and checks that they can be patched token by token.
//! 3. [`model`] is one forward pass with named [`model::site::Site`]s; a [`model::tap::Tap`] reads and writes them,
//!    and [`intervene`] turns the written edit grammar into taps.
//! 4. [`graph`] is the model seen as sources, destination slots and edges.
//! 5. [`score`] gives every edge (or node, or neuron) a number; [`measure`] runs the pairs for it and for evaluation.
//! 6. [`circuit`] selects and prunes edges.
//! 7. [`eval`] runs a circuit and measures how faithful, complete and minimal it is; [`statistics`] is the arithmetic of what
//!    chance could have done.
//! 8. [`roles`] measures what the nodes of a circuit do.
//!    [`dictionary`] holds sparse autoencoders, and [`features`] finds circuits of their features.
//!    [`inside`] looks at one prompt; [`patching`] exchanges values between clean and corrupt runs.
//! 9. [`render`] draws figures for papers and files for other tools; [`report`] makes the page to explore.
//! 10. [`compare`] tells what circuits have in common.
//!
//! [`parity`] holds all of it against numbers that other implementations wrote down, and [`truth`] has models whose circuit is
//! known.
//!
//! `score`, `eval`, [`roles`], [`discover`], [`dictionary`] and the tensor side of `model` and `intervene` need libtorch and sit behind the default
//! feature `torch`; everything else builds without it.

pub mod ablation;
pub mod circuit;
pub mod compare;
pub mod dataset;
#[cfg(feature = "torch")]
pub mod dictionary;
#[cfg(feature = "torch")]
pub mod discover;
pub mod error;
#[cfg(feature = "torch")]
pub mod eval;
#[cfg(feature = "torch")]
pub mod features;
pub mod graph;
pub mod identity;
#[cfg(feature = "torch")]
pub mod inside;
pub mod intervene;
#[cfg(feature = "torch")]
pub mod measure;
pub mod metric;
pub mod model;
#[cfg(feature = "torch")]
pub mod parity;
#[cfg(feature = "torch")]
pub mod patching;
pub mod render;
pub mod report;
#[cfg(feature = "torch")]
pub mod roles;
#[cfg(feature = "torch")]
pub mod score;
pub mod shard;
pub mod spans;
pub mod statistics;
pub mod task;
pub mod tokenizer;
#[cfg(feature = "torch")]
pub mod truth;

pub use error::Error;
