//! `penjing sae`: `show` says what a dictionary file holds, `convert` writes it for another tool. `train` and `eval` are in files of
//! their own.

use super::Ended;
use super::sae_eval::{self, Eval};
use super::sae_train::{self, Train};
use super::term::{Usage, make_folder, print, print_json, write};
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use penjing::circuit::file::write_atomically;
use penjing::dictionary::{Dictionary, DictionaryV1, TrainingV1, check, file, native, sae_lens, sparsify};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum SaeCommand {
    /// Train a dictionary on the activations of a site
    Train(Box<Train>),
    /// What a dictionary holds: a file of penjing, a folder of SAELens or sparsify, params.npz of Gemma Scope
    Show { file: PathBuf },
    /// What a dictionary keeps of a text: reconstruction by every definition, features, cross-entropy
    Eval(Box<Eval>),
    /// Write a dictionary for another tool, and check that it reconstructs the same
    Convert(Convert),
}

#[derive(Args)]
pub struct Convert {
    file: PathBuf,
    #[arg(long, value_enum)]
    to: Format,
    /// A folder, or for native a file
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Native,
    SaeLens,
    Sparsify,
}

pub fn run(command: &SaeCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        SaeCommand::Train(command) => sae_train::run(command, as_json),
        SaeCommand::Show { file } => show(file, as_json),
        SaeCommand::Eval(command) => sae_eval::run(command, as_json),
        SaeCommand::Convert(command) => convert(command, as_json),
    }
}

fn show(path: &Path, as_json: bool) -> anyhow::Result<Ended> {
    let dictionary = file::read(path).map_err(penjing::Error::from)?;
    if as_json {
        print_json(&json!({ "schema": "penjing.sae-show/1", "file": path, "dictionary": dictionary.record }))?;
    } else {
        print(&format!("{}\n\n{}", described(&dictionary.record), path.display()))?;
    }
    Ok(Ended::Done)
}

/// A record as a table.
pub fn described(record: &DictionaryV1) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let unknown = || "not said".to_owned();
    let architecture = match record.k {
        Some(k) => format!("{}, k = {k}", record.architecture),
        None => record.architecture.to_string(),
    };
    let site = record.site.clone().or_else(|| record.hook.clone()).unwrap_or_else(unknown);
    table.add_row(["model", &record.model.clone().unwrap_or_else(unknown)]);
    table.add_row(["site", &format!("{site}, {} wide", record.width)]);
    table.add_row(["features", &record.features.to_string()]);
    table.add_row(["architecture", &architecture]);
    table.add_row(["input", &record.normalize.to_string()]);
    if let Some(TrainingV1 { text, tokens, text_tokens, fvu, l0, dead, dead_after, .. }) = &record.training {
        table.add_row(["trained on", &format!("{text}: {tokens} tokens, out of {text_tokens}")]);
        table.add_row([
            "then",
            &format!("FVU {fvu:.4}, L0 {l0:.2}, {:.1} % dead after {dead_after} tokens", 100.0 * dead),
        ]);
    }
    table
}

fn convert(command: &Convert, as_json: bool) -> anyhow::Result<Ended> {
    let dictionary = file::read(&command.file).map_err(penjing::Error::from)?;
    let inputs = check::inputs(&dictionary); // [value, width]
    let files = match command.to {
        Format::Native => {
            let bytes = native::to_bytes(&dictionary, &inputs).map_err(penjing::Error::from)?;
            write_atomically(&command.out, &bytes).map_err(penjing::Error::from)?;
            Vec::new()
        }
        Format::SaeLens => sae_lens::files(&dictionary).map_err(penjing::Error::from)?,
        Format::Sparsify => sparsify::files(&dictionary).map_err(penjing::Error::from)?,
    };
    if !files.is_empty() {
        if command.out.is_file() {
            let message = format!("{} is a file", command.out.display());
            return Err(Usage { message, hint: "name a folder: the format has several files".into() }.into());
        }
        make_folder(&command.out)?;
        for (name, bytes) in &files {
            write(&command.out, name, bytes)?;
        }
    }
    let (difference, scale) = read_back(&dictionary, &inputs, &command.out)?;
    if as_json {
        let format = command.to.to_possible_value().map(|value| value.get_name().to_owned());
        print_json(&json!({
            "schema": "penjing.sae-convert/1",
            "file": command.file,
            "to": format,
            "out": command.out,
            "difference": difference,
            "scale": scale,
        }))?;
    } else {
        let out = command.out.display();
        print(&format!(
            "{out} reconstructs the same: values differ by at most {difference:.1e}, of up to {scale:.1e}"
        ))?;
    }
    Ok(Ended::Done)
}

/// How far what was written reconstructs from what was read.
fn read_back(dictionary: &Dictionary, inputs: &tch::Tensor, out: &Path) -> anyhow::Result<(f64, f64)> {
    let written = file::read(out).map_err(penjing::Error::from)?;
    let expected = dictionary.reconstruct(inputs);
    check::check(&written, inputs, &expected, out).map_err(penjing::Error::from)?;
    Ok(check::difference(&expected, &written.reconstruct(inputs)))
}
