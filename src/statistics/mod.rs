//! Arithmetic of evidence, on plain numbers: resampling, intervals, tests. Nothing here runs a model.

pub mod binomial;
pub mod holm;
pub mod hsic;
pub mod interval;
pub mod means;
pub mod resample;
