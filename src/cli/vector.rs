//! `penjing vector make` and `show`: directions from two sets of prompts.

use super::Ended;
use super::options::BosArgument;
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, print, print_json};
use super::texts;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use penjing::circuit::file::write_atomically;
use penjing::inside::prompt;
use penjing::inside::vectors::{self, Encoded, VectorV1};
use penjing::intervene::parse;
use penjing::model::{Loaded, load_with};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub enum VectorCommand {
    /// The difference of means of a site over two sets of prompts
    Make(Box<Make>),
    /// What a vector file holds
    Show {
        /// A file that `penjing vector make` wrote
        file: PathBuf,
    },
}

#[derive(Args)]
pub struct Make {
    /// Where it is read, one place: L3, L2.mlp, L4:-1 (default position: the last)
    #[arg(long, value_name = "SITE[:POS]")]
    site: String,
    /// Prompts on the side that the vector points to, one a line; `\n` stands for a line feed
    #[arg(long, value_name = "FILE", requires = "negative", conflicts_with = "task")]
    positive: Option<PathBuf>,
    /// Prompts on the other side, one a line
    #[arg(long, value_name = "FILE")]
    negative: Option<PathBuf>,
    /// Take the clean prompts of a task as positive and its corrupt ones as negative
    #[arg(long, value_name = "TASK", required_unless_present = "positive")]
    task: Option<String>,
    /// How many pairs of the task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pairs: usize,
    /// Which of the task's corruptions (default: its first)
    #[arg(long, value_name = "NAME")]
    corruption: Option<String>,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    #[arg(long, value_enum, default_value = "auto")]
    bos: BosArgument,
    #[command(flatten)]
    resources: Resources,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file that is written
    #[arg(long, default_value = "vector.safetensors", value_name = "FILE")]
    out: PathBuf,
}

pub fn run(command: &VectorCommand, as_json: bool) -> anyhow::Result<Ended> {
    match command {
        VectorCommand::Make(command) => make(command, as_json),
        VectorCommand::Show { file } => show(file, as_json),
    }
}

fn make(command: &Make, as_json: bool) -> anyhow::Result<Ended> {
    let address = parse::address(&command.site).map_err(penjing::Error::from)?;
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let [positive, negative] = command.prompts()?;
    let encode = |texts: &[String]| -> Result<Vec<Encoded>, penjing::Error> {
        texts.iter().map(|text| encode(command, &loaded, text)).collect()
    };
    let (positive, negative) = (encode(&positive)?, encode(&negative)?);
    let progress = Progress::bar("reading prompts");
    let made = vectors::make(&loaded.model, &loaded.id, &address, [&positive, &negative], command.seed, &mut |share| {
        progress.set(share);
    });
    drop(progress);
    let made = made.map_err(penjing::Error::from)?;
    write_atomically(&command.out, &vectors::to_bytes(&made)?).map_err(penjing::Error::from)?;
    say(&made.record, &command.out, as_json)
}

fn encode(command: &Make, loaded: &Loaded, text: &str) -> Result<Encoded, penjing::Error> {
    Ok(prompt::encode(text, &loaded.tokenizer, &loaded.model.spec, command.bos.or(None), 0)?)
}

impl Make {
    /// Positive and negative texts.
    fn prompts(&self) -> anyhow::Result<[Vec<String>; 2]> {
        if let Some(name) = &self.task {
            let pairs = texts::pairs(name, self.pairs, self.seed, self.corruption.as_ref())?;
            let side =
                |of: fn(&penjing::task::PromptPair) -> &String| pairs.iter().map(|pair| of(pair).clone()).collect();
            return Ok([side(|pair| &pair.clean), side(|pair| &pair.corrupt)]);
        }
        let lines = |path: &Option<PathBuf>| texts::prompts(path.as_deref().unwrap_or(Path::new("")));
        Ok([lines(&self.positive)?, lines(&self.negative)?])
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
        print_json(&json!({ "file": file, "vector": record }))?;
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
    table.add_row([
        "AUROC",
        &match record.auroc {
            Some([own, random]) => format!(
                "{own:.3} on {test_positive} and {test_negative} prompts that did not make it; a random direction {random:.3}"
            ),
            None => "not measured: fewer than four prompts of a kind".to_owned(),
        },
    ]);
    print(&format!("{table}\n\n{}", file.display()))?;
    Ok(Ended::Done)
}
