//! Arithmetic of evidence, on plain numbers: resampling, intervals, tests. Nothing here runs a model.

pub mod interval;
pub mod resample;
