//! `penjing model`: what models there are, what one is, and whether its numbers are right.

use super::Ended;
use super::hub;
use super::inspect::{self, Check, Show};
use clap::Subcommand;

#[derive(Subcommand)]
pub enum ModelCommand {
    /// List the embedded models and those in the local Hugging Face cache
    List,
    /// Show sizes, choices, sites, the graph and the memory that a run needs
    Show(Show),
    /// Compare a model with numbers that another implementation wrote down
    Check(Check),
    /// Download a model into the local Hugging Face cache
    Pull {
        /// org/name or org/name@revision
        name: String,
    },
}

pub fn run(command: &ModelCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        ModelCommand::List => hub::list(as_json),
        ModelCommand::Pull { name } => hub::pull(name, as_json),
        ModelCommand::Show(command) => inspect::show(command, as_json),
        ModelCommand::Check(command) => inspect::check(command, as_json),
    }
}
