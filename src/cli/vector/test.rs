//! `penjing vector test`: what a vector does, beside controls.

use super::super::table::table;
use super::sets::{Reader, Sets};
use super::style;
use crate::cli::Ended;
use crate::cli::inside::Watching;
use crate::cli::progress::Progress;
use crate::cli::results::Results;
use crate::cli::term::{Usage, make_folder, print, print_json};
use clap::Args;
use ndarray::Array2;
use penjing::inside::vectors::effect::{self, Gate, Outcome, Question, Side};
use penjing::inside::vectors::{for_model, from_file};
use penjing::intervene::address::{Address, Place};
use penjing::intervene::parse;
use penjing::render::heatmap::Heatmap;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct Test {
    /// What `penjing vector make` or `select` wrote, a safetensors file with one tensor, or a JSON list
    vector: PathBuf,
    #[command(flatten)]
    sets: Sets,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    reader: Reader,
    /// Where it is added and subtracted (default: where the file says that it was read, at all positions)
    #[arg(long, value_name = "SITE[:POS]")]
    site: Option<String>,
    /// How often it is added
    #[arg(long, default_value_t = 1.0, value_name = "A")]
    dose: f64,
    /// Random and shuffled vectors that it stands beside, of each so many
    #[arg(long, default_value_t = 5, value_name = "N")]
    controls: usize,
    /// Tokens of the greedy continuation
    #[arg(long, default_value_t = 8, value_name = "N")]
    generate: usize,
    /// Gibberish has more of repeated tokens than unedited by this share ...
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    max_repeats: f64,
    /// ... and a perplexity so many times as high
    #[arg(long, default_value_t = 10.0, value_name = "TIMES")]
    max_perplexity: f64,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for test.json and test.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Test, as_json: bool) -> anyhow::Result<Ended> {
    let style = style(&command.theme)?;
    if !command.dose.is_finite() || command.dose == 0.0 {
        let message = format!("--dose {} adds nothing", command.dose);
        return Err(Usage { message, hint: "take another number than 0".into() }.into());
    }
    let (_, record) = from_file(&command.vector).map_err(penjing::Error::from)?;
    let site: Address = match (&command.site, &record) {
        (Some(site), _) => parse::address(site).map_err(penjing::Error::from)?,
        (None, Some(record)) => {
            let read = parse::address(&record.site).map_err(penjing::Error::from)?;
            Address { position: None, ..read }
        }
        (None, None) => {
            let message = format!("{} does not say where its vector belongs", command.vector.display());
            return Err(Usage { message, hint: "say where to add it, such as --site L2".into() }.into());
        }
    };
    // Tasks made the vector from their training split.
    let texts = command.sets.prompts(Split::Test, command.reader.seed)?;
    let loaded = command.reader.load()?;
    let vector = for_model(&command.vector, &loaded.model).map_err(penjing::Error::from)?;
    let watched = command.watching.tokens(&loaded.tokenizer, loaded.model.spec.vocab_out)?;
    let more = command.generate;
    let [positive, negative] =
        [command.reader.encode(&texts[0], &loaded, more)?, command.reader.encode(&texts[1], &loaded, more)?];
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let question = Question {
        site: &site,
        vector: &vector,
        dose: command.dose,
        watched: &watched,
        prompts: [&positive, &negative],
        generate: command.generate,
        stop: &loaded.tokenizer.end_tokens(),
        controls: command.controls,
        seed: command.reader.seed,
        gate: Gate { repeats: command.max_repeats, perplexity: command.max_perplexity },
    };
    let progress = Progress::bar("testing the vector");
    let outcomes = effect::test(&loaded.model, &question, &mut |share| progress.set(share));
    drop(progress);
    let outcomes = outcomes.map_err(penjing::Error::from)?;
    let document = document(command, &site.place, &outcomes, &loaded.id);
    let text = text(&outcomes, &site.place, command.dose);
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "test", &document)?;
        results.picture("test.svg", &heatmap(&outcomes).scene(&style))?;
        results.page("What the vector does", &text)?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text)?;
    Ok(Ended::Done)
}

fn name(outcome: &Outcome) -> String {
    match (outcome.change, outcome.vector) {
        ("none", _) => "unedited".into(),
        (change, "vector") => change.into(),
        (change, vector) => format!("{vector} {change}"),
    }
}

/// How often a watched token is the likeliest, by change and kind of prompt.
fn heatmap(outcomes: &[Outcome]) -> Heatmap {
    let share = |row: usize, column: usize| {
        let said = &outcomes[row].sides[column].said;
        said.count as f64 / said.of.max(1) as f64
    };
    let size = (outcomes.len(), 2);
    Heatmap {
        title: String::new(),
        rows: outcomes.iter().map(name).collect(),
        columns: vec!["positive".into(), "negative".into()],
        column_name: "prompts".into(),
        value_name: "watched".into(),
        values: Array2::from_shape_fn(size, |(row, column)| share(row, column)),
        texts: Some(Array2::from_shape_fn(size, |(row, column)| format!("{:.2}", share(row, column)))),
    }
}

fn text(outcomes: &[Outcome], place: &Place, dose: f64) -> String {
    let rows = outcomes.iter().flat_map(|outcome| {
        ["positive", "negative"].into_iter().zip(&outcome.sides).map(move |(kind, side)| {
            let number = |(mean, [low, high]): (f64, [f64; 2])| format!("{mean:.3} [{low:.3}, {high:.3}]");
            let [low, high] = side.said.interval;
            let said = format!("{} of {} [{low:.2}, {high:.2}]", side.said.count, side.said.of);
            vec![
                name(outcome),
                kind.to_owned(),
                number(side.probability),
                said,
                number(side.divergence),
                format!("{:.2}", side.repeats),
                format!("{:.1}", side.perplexity),
                if side.gibberish { "gibberish".into() } else { String::new() },
            ]
        })
    });
    let header = ["", "prompts", "P(watched)", "watched is likeliest", "KL", "repeats", "perplexity", ""];
    format!("{}\n\nadded and subtracted {dose} times at {place}; removed everywhere", table(&header, 2, rows))
}

/// `test.json`, `penjing.vector-test/1`.
fn document(command: &Test, place: &Place, outcomes: &[Outcome], model: &str) -> Value {
    let number = |(mean, interval): (f64, [f64; 2])| json!({ "mean": mean, "interval": interval });
    let side = |side: &Side| {
        json!({
            "runs": side.said.of,
            "probability": number(side.probability),
            "watched_is_likeliest": { "count": side.said.count, "of": side.said.of, "interval": side.said.interval },
            "kl": number(side.divergence),
            "repeats": side.repeats,
            "perplexity": side.perplexity,
            "gibberish": side.gibberish,
        })
    };
    let one = |outcome: &Outcome| {
        json!({
            "change": outcome.change,
            "vector": outcome.vector,
            "positive": side(&outcome.sides[0]),
            "negative": side(&outcome.sides[1]),
        })
    };
    json!({
        "schema": "penjing.vector-test/1",
        "model": model,
        "vector": command.vector,
        "site": place.to_string(),
        "dose": command.dose,
        "watched": command.watching.names(),
        "controls": command.controls,
        "generated": command.generate,
        "outcomes": outcomes.iter().map(one).collect::<Vec<_>>(),
    })
}
