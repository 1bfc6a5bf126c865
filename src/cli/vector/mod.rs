//! `penjing vector`: directions made, chosen, tested, written for other tools.

mod convert;
mod in_context;
mod make;
mod select;
mod sets;
mod test;

use super::Ended;
use super::term::{Usage, print, print_json};
use clap::Subcommand;
use comfy_table::{Table, presets};
use penjing::inside::vectors::{self, VectorV1};
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum VectorCommand {
    /// A direction from two sets of prompts, or from prompts that show a relation
    Make(Box<make::Make>),
    /// The best difference of means among positions and layers, by what it does
    Select(Box<select::Select>),
    /// What a vector does when it is added, subtracted and removed, beside controls
    Test(Box<test::Test>),
    /// Between our own files, GGUF control vectors and JSON lists
    Convert(convert::Convert),
    /// What a vector file holds
    Show {
        /// A file that `penjing vector make` wrote
        file: PathBuf,
    },
}

pub fn run(command: &VectorCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        VectorCommand::Make(command) => make::run(command, as_json),
        VectorCommand::Select(command) => select::run(command, as_json),
        VectorCommand::Test(command) => test::run(command, as_json),
        VectorCommand::Convert(command) => convert::run(command, as_json),
        VectorCommand::Show { file } => show(file, as_json),
    }
}

fn show(file: &Path, as_json: bool) -> anyhow::Result<Ended> {
    let (_, record) = vectors::from_file(file).map_err(penjing::Error::from)?;
    match record {
        Some(record) => say(&record, file, as_json),
        None => {
            let message = format!("{} does not say where its vector comes from", file.display());
            Err(Usage { message, hint: "`penjing vector make` writes files that do".into() }.into())
        }
    }
}

fn say(record: &VectorV1, file: &Path, as_json: bool) -> anyhow::Result<Ended> {
    if as_json {
        print_json(&json!({ "schema": "penjing.vector-file/1", "file": file, "vector": record }))?;
        return Ok(Ended::Done);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let [positive, negative] = record.made_from;
    let [test_positive, test_negative] = record.tested_on;
    table.add_row(["model", &record.model]);
    table.add_row(["site", &record.site]);
    table.add_row(["method", &record.method]);
    table.add_row(["made from", &format!("{positive} positive and {negative} negative prompts")]);
    table.add_row(["length", &format!("{:.3}, where values have {:.3} on average", record.norm, record.usual_norm)]);
    if !record.heads.is_empty() {
        table.add_row(["heads", &record.heads.join(", ")]);
    }
    if let Some([own, random]) = record.auroc {
        let prompts = format!("{test_positive} and {test_negative} prompts that did not make it");
        table.add_row(["AUROC", &format!("{own:.3} on {prompts}; a random direction {random:.3}")]);
    } else if record.heads.is_empty() {
        table.add_row(["AUROC", "not measured: fewer than four prompts of a kind"]);
    }
    if let Some(beside) = &record.mean_difference {
        let auroc = beside.auroc.map_or(String::new(), |auroc| format!("AUROC {auroc:.3}, "));
        table.add_row(["difference of means", &format!("{auroc}cosine with it {:+.3}", beside.cosine)]);
    }
    print(&format!("{table}\n\n{}", file.display()))?;
    Ok(Ended::Done)
}

/// The style of figures in a theme.
fn style(theme: &str) -> anyhow::Result<Style> {
    let found = Theme::named(theme).ok_or_else(|| StyleError::Theme { name: theme.to_owned() });
    Ok(Style { theme: found.map_err(penjing::Error::from)?, ..Style::default() })
}
