//! `penjing sae train`: a dictionary of a site's activations over a text.

use super::Ended;
use super::progress::Progress;
use super::resources::Resources;
use super::results::Results;
use super::sae::described;
use super::term::{Usage, make_folder, note, print, print_json};
use super::texts::Reading;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use penjing::circuit::file::write_atomically;
use penjing::dictionary::{Architecture, native};
use penjing::inside::sae;
use penjing::inside::sae::metrics::Density;
use penjing::inside::sae::train::{self, Moment, Options, Trained};
use penjing::model::load_with;
use penjing::render::histogram;
use penjing::render::response::{self, Marks};
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::task::Split;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Train {
    #[command(flatten)]
    reading: Reading,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    /// Where it reads, one vector at each position: L2, L2.mlp, L2.attn, L2.N*
    #[arg(long, value_name = "SITE")]
    site: String,
    /// relu, topk, batch-topk, jumprelu, gated or matryoshka
    #[arg(long, default_value = "topk", value_parser = architecture_parser())]
    architecture: Architecture,
    /// How many features (default: four times the width of the site)
    #[arg(long, value_name = "N")]
    features: Option<usize>,
    /// Active features of a token: topk, batch-topk, matryoshka (default: an eighth of the width of the site, 32 at most)
    #[arg(long, value_name = "K")]
    k: Option<usize>,
    /// Weight of the penalty that makes features few: relu, gated (L1), jumprelu (L0)
    #[arg(long, alias = "l1", value_name = "WEIGHT", allow_negative_numbers = true)]
    sparsity: Option<f64>,
    /// Training tokens; those of the text are used again and again
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    tokens: usize,
    /// Tokens of a step
    #[arg(long, default_value_t = 256, value_name = "N")]
    batch: usize,
    /// Of Adam (default: 2e-4/√(features/16384))
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// A feature is dead that was active on none of so many tokens (default: a tenth of all)
    #[arg(long, value_name = "N")]
    dead_after: Option<usize>,
    #[command(flatten)]
    resources: Resources,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file that is written
    #[arg(long, default_value = "dictionary.safetensors", value_name = "FILE")]
    out: PathBuf,
    /// Folder for sae-training.svg, sae-density.svg and sae.json
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Colours of the figures: paper, dark, colour-blind-safe or greyscale
    #[arg(long, default_value = "paper", value_name = "THEME")]
    theme: String,
}

/// Parses the name of an architecture.
fn architecture_parser() -> impl TypedValueParser<Value = Architecture> {
    let names = PossibleValuesParser::new(Architecture::ALL.map(Architecture::name));
    let find = |name: String| Architecture::ALL.into_iter().find(|one| one.name() == name);
    names.map(move |name| find(name).unwrap_or(Architecture::TopK))
}

pub fn run(command: &Train, as_json: bool) -> anyhow::Result<Ended> {
    let style = super::sae_eval::style(&command.theme)?;
    command.check()?;
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let (_, width) = sae::site(&command.site, &loaded.model.spec).map_err(penjing::Error::from)?;
    let (corpus, _) = command.reading.corpus(&loaded, (Split::Train, command.seed))?;
    if let Some(folder) = &command.figures {
        make_folder(folder)?;
    }
    let options = Options {
        architecture: command.architecture,
        site: command.site.clone(),
        features: command.features.unwrap_or(4 * width),
        k: command.k.unwrap_or((width / 8).clamp(1, 32)),
        sparsity: command.sparsity,
        tokens: command.tokens,
        batch: command.batch,
        learning_rate: command.learning_rate,
        dead_after: command.dead_after,
        seed: command.seed,
    };
    let progress = Progress::bar("training");
    let told = &mut |share: f64, moment: Option<&Moment>| {
        progress.set(share);
        if let Some(moment) = moment {
            progress.say(&format!("FVU {:.3}, L0 {:.1}", moment.fvu, moment.l0));
        }
    };
    let text = (&corpus, command.reading.source());
    let trained = train::train((&loaded.model, &loaded.id), (text.0, &text.1), &options, told);
    drop(progress);
    let trained = trained.map_err(penjing::Error::from)?;
    let bytes = native::to_bytes(&trained.dictionary, &trained.check).map_err(penjing::Error::from)?;
    write_atomically(&command.out, &bytes).map_err(penjing::Error::from)?;
    say(command, &trained, &style, as_json)
}

fn say(command: &Train, trained: &Trained, style: &Style, as_json: bool) -> anyhow::Result<Ended> {
    let record = &trained.dictionary.record;
    let document = json!({
        "schema": "penjing.sae-train/1",
        "file": command.out,
        "dictionary": record,
        "reconstruction": trained.reconstruction,
        "density": trained.density,
        "history": trained.history,
    });
    if let Some(folder) = &command.figures {
        let mut results = Results::new(folder, "sae", &document)?;
        results.picture("sae-training.svg", &training(&trained.history, style))?;
        results.picture("sae-density.svg", &density(&trained.density, style))?;
        results.page("A dictionary, trained", &described(record).to_string())?;
    }
    if let Some(training) = record.training.as_ref().filter(|training| training.outliers > 0) {
        note(&format!("{} positions were left out: more than ten times as long as the median", training.outliers));
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&format!("{}\n\n{}", described(record), command.out.display()))?;
    Ok(Ended::Done)
}

/// FVU, L0 and the share of dead features against tokens, side by side.
fn training(history: &[Moment], style: &Style) -> Scene {
    let panel = |name: &str, of: fn(&Moment) -> f64| {
        let points: Vec<_> =
            history.iter().map(|moment| (moment.tokens as f64 / 1e6, of(moment), [f64::NAN; 2])).collect();
        response::measured(&points, None, &Marks::default(), ["million tokens", name], style)
    };
    let left = panel("FVU", |moment| moment.fvu).beside(panel("L0", |moment| moment.l0), 12.0);
    left.beside(panel("dead share", |moment| moment.dead), 12.0)
}

/// How often features are active.
pub fn density(density: &Density, style: &Style) -> Scene {
    const BINS: f64 = 4.0;
    let dead = density.frequency.iter().filter(|frequency| **frequency == 0.0).count();
    let never = format!("{dead} of {} are never active", density.frequency.len());
    let names = ["share of tokens", "features"];
    histogram::histogram(&density.histogram(BINS), 1.0 / BINS, names, &never, style)
}

impl Train {
    /// What clap cannot see.
    fn check(&self) -> anyhow::Result<()> {
        let bad = |message: &str, hint: &str| -> anyhow::Result<()> {
            Err(Usage { message: message.into(), hint: hint.into() }.into())
        };
        let positive = |number: Option<f64>| number.is_none_or(|number| number.is_finite() && number > 0.0);
        if self.features == Some(0) || self.tokens == 0 || self.batch == 0 {
            return bad("no features, no tokens or an empty batch train nothing", "leave them out, or raise them");
        }
        if !positive(self.learning_rate) || !self.sparsity.is_none_or(|weight| weight.is_finite() && weight >= 0.0) {
            return bad("a learning rate is above 0, and a weight not below", "leave them out");
        }
        Ok(())
    }
}
