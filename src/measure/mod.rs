//! Prompt pairs through the model: batches with a shared prefix, the metric of each pair, and what every node writes.

pub mod batch;
pub mod circuit;
pub mod constants;
pub mod constants_file;
pub mod memory;
pub mod metric;
pub mod optimal;
pub mod origin;
pub mod sources;

pub use batch::{Batch, batches};
pub use constants::Constants;
