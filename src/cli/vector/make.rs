//! `penjing vector make`: a direction, by any of the methods.

use super::in_context::{self, InContext};
use super::say;
use super::sets::{Reader, Sets};
use crate::cli::Ended;
use crate::cli::progress::Progress;
use crate::cli::term::Usage;
use clap::Args;
use penjing::circuit::file::write_atomically;
use penjing::inside::vectors::{self, Method};
use penjing::intervene::parse;
use penjing::task::Split;
use std::path::PathBuf;

#[derive(Args)]
pub struct Make {
    #[arg(long, value_enum, default_value = "mean-difference")]
    pub method: MethodArgument,
    /// Where it is read, one place: L3, L2.mlp, L4:-1 (default position: the last); not for function, task and contrast
    #[arg(long, value_name = "SITE[:POS]")]
    site: Option<String>,
    /// With --method pca: take the mean of the differences away first
    #[arg(long)]
    centred: bool,
    #[command(flatten)]
    pub sets: Sets,
    #[command(flatten)]
    pub in_context: InContext,
    #[command(flatten)]
    pub reader: Reader,
    /// The file that is written
    #[arg(long, default_value = "vector.safetensors", value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum MethodArgument {
    /// The difference of the means of two sets of prompts
    MeanDifference,
    /// The first principal component of the differences of pairs
    Pca,
    /// The normal of a logistic regression
    Probe,
    /// The difference of means through the inverse of the covariance within the sets
    MassMean,
    /// What the heads that carry a relation write, from pairs of words (--examples, or the facts of --task)
    Function,
    /// The state after examples of a relation, to replace that of a prompt without, from pairs of words
    Task,
    /// The difference of the states after examples of a relation and after the same under other --labels
    Contrast,
}

pub fn run(command: &Make, as_json: bool) -> anyhow::Result<Ended> {
    let usage = |message: &str, hint: &str| -> anyhow::Error {
        Usage { message: message.to_owned(), hint: hint.to_owned() }.into()
    };
    let method = match command.method {
        MethodArgument::MeanDifference => Some(Method::MeanDifference),
        MethodArgument::Pca => Some(Method::Pca { centred: command.centred }),
        MethodArgument::Probe => Some(Method::Probe),
        MethodArgument::MassMean => Some(Method::MassMean),
        MethodArgument::Function | MethodArgument::Task | MethodArgument::Contrast => None,
    };
    if command.centred && command.method != MethodArgument::Pca {
        return Err(usage("--centred is about principal components", "say --method pca"));
    }
    let Some(method) = method else {
        if command.site.is_some() {
            let hint = "leave out --site: the layer is chosen on words that did not make the vector";
            return Err(usage("this method has no --site", hint));
        }
        return in_context::run(command, as_json);
    };
    if command.in_context.examples.is_some() {
        let hint = "say --method function, task or contrast, or give --positive and --negative";
        return Err(usage("--examples are for other methods", hint));
    }
    let site =
        command.site.as_deref().ok_or_else(|| usage("there is no --site", "say where to read, such as --site L2"))?;
    let address = parse::address(site).map_err(penjing::Error::from)?;
    let texts = command.sets.prompts(Split::Train, command.reader.seed)?;
    let loaded = command.reader.load()?;
    let [positive, negative] =
        [command.reader.encode(&texts[0], &loaded, 0)?, command.reader.encode(&texts[1], &loaded, 0)?];
    let progress = Progress::bar("reading prompts");
    let (model, both) = (&loaded.model, [&positive[..], &negative[..]]);
    let mut follow = |share: f64| progress.set(share);
    let made = vectors::make_by(method, model, &loaded.id, &address, both, command.reader.seed, &mut follow);
    drop(progress);
    let made = made.map_err(penjing::Error::from)?;
    write_atomically(&command.out, &vectors::to_bytes(&made)?).map_err(penjing::Error::from)?;
    say(&made.record, &command.out, as_json)
}
