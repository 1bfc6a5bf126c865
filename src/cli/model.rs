//! `penjing model`: what models there are, what one is, and whether its numbers are right.

use super::Ended;
use super::inspect::{self, Check, Show};
use clap::Subcommand;

#[derive(Subcommand)]
pub enum ModelCommand {
    /// Show sizes, choices, sites, the graph and the memory that a run needs
    Show(Show),
    /// Compare a model with numbers that another implementation wrote down
    Check(Check),
}

pub fn run(command: &ModelCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        ModelCommand::Show(command) => inspect::show(command, as_json),
        ModelCommand::Check(command) => inspect::check(command, as_json),
    }
}
