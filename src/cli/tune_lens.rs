//! `penjing tune-lens`: trains a tuned lens on a text and measures it, beside the plain lens, on text that did not train it.

use super::Ended;
use super::progress::Progress;
use super::resources::Resources;
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use super::texts::Reading;
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use penjing::circuit::file::write_atomically;
use penjing::inside::store::{Origin, Recorded};
use penjing::inside::tune::{self, Measured, Optimiser, Options};
use penjing::inside::tuned::{TunedLens, TunedLensV1, sites};
use penjing::intervene::slice::site_name;
use penjing::model::load_with;
use penjing::model::spec::Spec;
use penjing::render::chart::{Line, traces};
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct TuneLens {
    #[command(flatten)]
    reading: Reading,
    /// An embedded toy model's name or a Hugging Face folder
    #[arg(long, short, default_value = penjing::model::embedded::DEFAULT, value_name = "MODEL")]
    model: String,
    #[arg(long, default_value_t = 250, value_name = "N")]
    steps: usize,
    /// Tokens of a step (the paper takes 262144)
    #[arg(long, default_value_t = 2048, value_name = "N")]
    tokens: usize,
    /// SGD with Nesterov momentum, or Adam
    #[arg(long, value_enum, default_value = "sgd")]
    optimiser: OptimiserArgument,
    /// Multiplies the rate, which is 0.1 of sgd and 0.001 of adam
    #[arg(long, default_value_t = 1.0, value_name = "R")]
    rate: f64,
    #[arg(long, default_value_t = 1e-3, value_name = "D")]
    weight_decay: f64,
    /// Seed of what is held out and of the order
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    resources: Resources,
    /// The file that is written
    #[arg(long, default_value = "lens.safetensors", value_name = "FILE")]
    out: PathBuf,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for tune-lens.json and tune-lens.svg
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy)]
enum OptimiserArgument {
    Sgd,
    Adam,
}

/// The plain lens and the tuned one, at each place.
type Both = [Vec<Measured>; 2];

pub fn run(command: &TuneLens, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let options = command.options()?;
    let loaded = load_with(&command.model, &command.resources.load_options()?).map_err(penjing::Error::from)?;
    let model = &loaded.model;
    let (corpus, _) = command.reading.corpus(&loaded, (Split::Train, command.seed))?;
    let [train, held] = tune::split(&corpus, command.seed);
    if held.iter().all(|window| window.len() < corpus.lead + 2) {
        let message = format!("{} windows are too few to train on some and measure on others", corpus.windows.len());
        return Err(Usage { message, hint: "give a longer text, or a smaller --window".into() }.into());
    }
    if let Some(folder) = &command.report {
        make_folder(folder)?;
    }
    let progress = Progress::bar("training");
    let lens = tune::train(model, &corpus, &train, &options, &mut |share| progress.set(share))?;
    drop(progress);
    let measured = [TunedLens::zero(model), lens].map(|lens| (tune::measure(model, &corpus, &held, &lens), lens));
    let [(plain, _), (tuned, lens)] = measured;
    if tuned.iter().any(|one| !one.divergence.is_finite()) {
        let message = "the training ran away: the lens says what are no numbers".to_owned();
        return Err(Usage { message, hint: "lower --rate".into() }.into());
    }
    let both = [plain, tuned];
    let record = TunedLensV1 {
        schema: TunedLensV1::SCHEMA.into(),
        origin: Origin::of(model, &loaded.id),
        text: command.reading.source(),
        tokens: train.iter().map(|window| window.len() - corpus.lead).sum(),
        tokens_a_step: options.tokens_a_step,
        steps: options.steps,
        optimiser: if options.optimiser == Optimiser::Sgd { "sgd-nesterov" } else { "adam-amsgrad" }.into(),
        seed: options.seed,
    };
    write_atomically(&command.out, &lens.to_bytes(&record)?).map_err(penjing::Error::from)?;
    let held: usize = held.iter().map(|window| window.len() - corpus.lead).sum();
    let places = places(&model.spec);
    let document = document(&record, &places, &both, held);
    let table = table(&places, &both);
    let text = format!("{}: trained on {} tokens, measured on {held} others", loaded.id, record.tokens);
    if let Some(folder) = &command.report {
        let mut results = Results::new(folder, "tune-lens", &document)?;
        let line = |name: &str, of: &[Measured]| Line {
            name: name.to_owned(),
            values: of.iter().map(|one| one.divergence).collect(),
        };
        let lines = [line("logit lens", &both[0]), line("tuned lens", &both[1])];
        let scene = traces(&places, &lines, "KL to the end, nats", &style);
        results.picture("tune-lens.svg", &scene)?;
        results.page("A tuned lens beside the logit lens", &format!("{text}\n\n{table}"))?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&format!("{text}\n\n{table}\n\n{}", command.out.display()))?;
    Ok(Ended::Done)
}

impl TuneLens {
    fn options(&self) -> anyhow::Result<Options> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        if self.steps == 0 || self.tokens == 0 || !positive(self.rate) {
            let message = "no steps, no tokens or no rate train nothing".to_owned();
            return Err(Usage { message, hint: "leave --steps, --tokens and --rate out, or raise them".into() }.into());
        }
        if !(positive(self.weight_decay) || self.weight_decay == 0.0) {
            let message = format!("--weight-decay {} pulls nowhere", self.weight_decay);
            return Err(Usage { message, hint: "it is 0 or more".into() }.into());
        }
        let optimiser = match self.optimiser {
            OptimiserArgument::Sgd => Optimiser::Sgd,
            OptimiserArgument::Adam => Optimiser::Adam,
        };
        let (steps, tokens_a_step, seed) = (self.steps, self.tokens, self.seed);
        Ok(Options { steps, tokens_a_step, optimiser, rate: self.rate, weight_decay: self.weight_decay, seed })
    }
}

fn places(spec: &Spec) -> Vec<String> {
    sites(spec).into_iter().map(site_name).chain(["output".to_owned()]).collect()
}

fn table(places: &[String], [plain, tuned]: &Both) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["after", "KL, logit lens", "tuned", "cross-entropy, logit lens", "tuned"]);
    for ((place, plain), tuned) in places.iter().zip(plain).zip(tuned).rev() {
        let numbers = [plain.divergence, tuned.divergence, plain.cross_entropy, tuned.cross_entropy];
        table.add_row(std::iter::once(place.clone()).chain(numbers.map(|number| format!("{number:.4}"))));
    }
    for column in 1..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `tune-lens.json`, `penjing.tune-lens/1`.
fn document(record: &TunedLensV1, places: &[String], [plain, tuned]: &Both, held: usize) -> Value {
    let one = |of: &Measured| json!({ "kl": of.divergence, "cross_entropy": of.cross_entropy });
    let rows = places.iter().zip(plain).zip(tuned);
    let rows = rows.map(|((place, plain), tuned)| json!({ "after": place, "logit": one(plain), "tuned": one(tuned) }));
    json!({
        "schema": "penjing.tune-lens/1",
        "lens": record,
        "held_out_tokens": held,
        "places": rows.collect::<Vec<_>>(),
    })
}
