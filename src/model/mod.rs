//! The model: one forward pass with named sites.

pub mod site;
pub mod spec;
#[cfg(feature = "torch")]
pub mod tap;
