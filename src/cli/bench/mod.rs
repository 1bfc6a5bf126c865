//! `penjing bench`: how good methods are at finding circuits.

mod curve;
mod curve_text;
mod stability;
mod stability_runs;
mod stability_text;
mod tests;
mod truth;
mod truth_tables;

use super::Ended;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// How faithful the circuits of methods are at ten sizes: the curves of the MIB benchmark, CPR and CMD
    Curve(Box<curve::Curve>),
    /// Whether edges selected on other pairs, templates and seeds, under other ablations and corruptions, are the same
    Stability(Box<stability::Stability>),
    /// How often the tests of a circuit are right, on compiled models
    Tests(tests::Tests),
    /// How well methods find the circuits of compiled models, which are known
    Truth(truth::Truth),
}

pub fn run(command: &BenchCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        BenchCommand::Curve(command) => curve::run(command, as_json),
        BenchCommand::Stability(command) => stability::run(command, as_json),
        BenchCommand::Tests(command) => tests::run(command, as_json),
        BenchCommand::Truth(command) => truth::run(command, as_json),
    }
}
