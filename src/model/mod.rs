//! The model: one forward pass with named sites.
//!
//! [`spec`] and [`site`] are plain data. The tensor half is a [`Model`] (weights and [`Model::forward`]), read from a
//! folder by [`load`] and seen through [`tap::Tap`]s.

pub mod hub;
#[cfg(feature = "hub")]
pub mod pull;
pub mod rules;
pub mod site;
pub mod spec;

#[cfg(feature = "torch")]
mod attention;
#[cfg(feature = "torch")]
mod build;
#[cfg(feature = "torch")]
pub mod embedded;
#[cfg(feature = "torch")]
pub mod family;
#[cfg(feature = "torch")]
mod forward;
#[cfg(feature = "torch")]
mod grid;
#[cfg(feature = "torch")]
pub mod load;
#[cfg(feature = "torch")]
pub mod safetensors;
#[cfg(feature = "torch")]
pub mod tap;
#[cfg(feature = "torch")]
pub mod weights;

#[cfg(feature = "torch")]
pub use forward::{KeepPast, Pass, Past, Read, Start};
#[cfg(feature = "torch")]
pub use load::{Dtype, LoadOptions, Loaded, ModelError, load, load_with};
pub use rules::Rules;
#[cfg(feature = "torch")]
pub use weights::Model;
