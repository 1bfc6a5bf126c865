//! `penjing vector select`: the best difference of means among positions and layers.

use super::super::table::table;
use super::sets::{Reader, Sets};
use super::style;
use crate::cli::Ended;
use crate::cli::inside::Watching;
use crate::cli::progress::Progress;
use crate::cli::results::Results;
use crate::cli::term::{Usage, make_folder, print, print_json, write};
use clap::Args;
use ndarray::Array2;
use penjing::inside::vectors::select::{Candidate, Rules, Scan, scan};
use penjing::inside::vectors::{self, Made, SCHEMA, VectorError, VectorV1};
use penjing::model::Loaded;
use penjing::render::heatmap::Heatmap;
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct Select {
    #[command(flatten)]
    sets: Sets,
    #[command(flatten)]
    watching: Watching,
    #[command(flatten)]
    reader: Reader,
    /// Positions counted from the end of the prompt, such as --positions=-1,-2
    #[arg(long, default_value = "-1,-2,-3", value_delimiter = ',', allow_hyphen_values = true, value_name = "P,P")]
    positions: Vec<i64>,
    /// Discard what enters a block at or above this share of the layers
    #[arg(long, default_value_t = 0.8, value_name = "SHARE")]
    layers_below: f64,
    /// Discard what changes the next token of negative prompts by more, in nats
    #[arg(long, default_value_t = 0.1, value_name = "KL")]
    max_kl: f64,
    /// Discard what, added to negative prompts, leaves their score below this
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_name = "SCORE")]
    min_induce: f64,
    /// Keep positive prompts that do not show the behaviour, and negative ones that do
    #[arg(long)]
    no_filter: bool,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for vector.safetensors, select.json and select.svg
    #[arg(long, default_value = "vector", value_name = "DIR")]
    out: PathBuf,
}

pub fn run(command: &Select, as_json: bool) -> anyhow::Result<Ended> {
    let style = style(&command.theme)?;
    let Select { layers_below, max_kl, min_induce, .. } = *command;
    if !(layers_below > 0.0 && max_kl >= 0.0 && min_induce.is_finite()) {
        let message = format!("--layers-below {layers_below} --max-kl {max_kl} --min-induce {min_induce} keep nothing");
        return Err(Usage { message, hint: "the paper has 0.8, 0.1 and 0".into() }.into());
    }
    let mut positions = command.positions.clone();
    positions.sort_unstable_by(|a, b| b.cmp(a));
    positions.dedup();
    if let Some(position) = positions.iter().find(|position| **position >= 0) {
        let message = format!("position {position} does not count from the end");
        return Err(Usage { message, hint: "write --positions=-1,-2".into() }.into());
    }
    let texts = command.sets.prompts(Split::Train, command.reader.seed)?;
    let loaded = command.reader.load()?;
    let watched = command.watching.tokens(&loaded.tokenizer, loaded.model.spec.vocab_out)?;
    let [positive, negative] =
        [command.reader.encode(&texts[0], &loaded, 0)?, command.reader.encode(&texts[1], &loaded, 0)?];
    make_folder(&command.out)?;
    let rules = Rules { layers_below, max_kl, min_induce, filter: !command.no_filter };
    let progress = Progress::bar("scoring candidates");
    let mut follow = |share: f64| progress.set(share);
    let found = scan(&loaded.model, [&positive, &negative], &positions, &watched, &rules, &mut follow);
    drop(progress);
    let found = found.map_err(penjing::Error::from)?;
    let record = found.chosen.map(|chosen| record(&found, chosen, &loaded, command.reader.seed));
    let document = document(&found, record.as_ref(), &rules, &loaded.id);
    let mut results = Results::new(&command.out, "select", &document)?;
    results.picture("select.svg", &picture(&found, &positions, &style))?;
    let Some((chosen, record)) = found.chosen.zip(record) else {
        let candidates = found.candidates.len();
        return Err(penjing::Error::from(VectorError::AllDiscarded { candidates }).into());
    };
    let made = Made { values: found.vectors[chosen].shallow_clone(), record };
    write(&command.out, "vector.safetensors", &vectors::to_bytes(&made)?)?;
    let text = text(&found, chosen, command);
    results.page("Which direction does it", &text)?;
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text)?;
    Ok(Ended::Done)
}

fn record(found: &Scan, chosen: usize, loaded: &Loaded, seed: u64) -> VectorV1 {
    let one = &found.candidates[chosen];
    VectorV1 {
        schema: SCHEMA.into(),
        method: "difference-of-means".into(),
        model: loaded.id.clone(),
        weights: loaded.model.fingerprint(),
        site: format!("{}:{}", one.site(), one.position),
        made_from: found.made_from,
        tested_on: found.scored_on,
        auroc: None,
        mean_difference: None,
        heads: Vec::new(),
        norm: one.norm,
        usual_norm: found.usual_norms[chosen],
        seed,
    }
}

fn text(found: &Scan, chosen: usize, command: &Select) -> String {
    let mut order: Vec<usize> = (0..found.candidates.len()).collect();
    let key = |index: usize| (found.candidates[index].discarded.is_some(), found.candidates[index].bypass);
    order.sort_by(|&a, &b| key(a).0.cmp(&key(b).0).then(key(a).1.total_cmp(&key(b).1)));
    let rows = order.iter().map(|&index| {
        let one = &found.candidates[index];
        let why = if index == chosen { "chosen" } else { one.discarded.unwrap_or("") };
        let place = format!("{}:{}", one.site(), one.position);
        vec![place, number(one.bypass), number(one.induce), number(one.kl), why.into()]
    });
    let [positive, negative] = found.unedited;
    let [made_positive, made_negative] = found.made_from;
    let [test_positive, test_negative] = found.scored_on;
    format!(
        "{}\n\nunedited: {positive:+.2} on positive, {negative:+.2} on negative prompts; made from {made_positive} and {made_negative}, scored on {test_positive} and {test_negative}\nL3 is the output of block 3, which enters block 4; papers that count inputs call it layer 4\n\n{}",
        table(&["read at", "bypass", "induce", "KL", ""], 1, rows),
        command.out.join("vector.safetensors").display()
    )
}

fn number(value: f64) -> String {
    if value.is_finite() { format!("{value:+.3}") } else { "none".into() }
}

/// Bypass, induce and KL, layers upwards and positions across; discarded ones are in brackets.
fn picture(found: &Scan, positions: &[i64], style: &Style) -> Scene {
    let layers = found.candidates.len() / positions.len().max(1);
    let at = |row: usize, column: usize| &found.candidates[column * layers + layers - 1 - row];
    let map = |name: &str, of: fn(&Candidate) -> f64| Heatmap {
        title: name.into(),
        rows: (0..layers).map(|row| at(row, 0).site()).collect(),
        columns: positions.iter().map(ToString::to_string).collect(),
        column_name: "position".into(),
        value_name: String::new(),
        values: Array2::from_shape_fn((layers, positions.len()), |(row, column)| of(at(row, column))),
        texts: Some(Array2::from_shape_fn((layers, positions.len()), |(row, column)| {
            let one = at(row, column);
            let words = if of(one).is_finite() { format!("{:.2}", of(one)) } else { "none".into() };
            if one.discarded.is_some() { format!("({words})") } else { words }
        })),
    };
    let [bypass, induce, kl] = [
        map("bypass", |one| one.bypass).scene(style),
        map("induce", |one| one.induce).scene(style),
        map("KL", |one| one.kl).scene(style),
    ];
    bypass.beside(induce, 12.0).beside(kl, 12.0)
}

/// `select.json`, `penjing.vector-select/1`.
fn document(found: &Scan, record: Option<&VectorV1>, rules: &Rules, model: &str) -> Value {
    let one = |one: &Candidate| {
        json!({
            "site": one.site(),
            "enters_block": one.enters,
            "position": one.position,
            "norm": one.norm,
            "bypass": one.bypass,
            "induce": one.induce,
            "kl": one.kl,
            "discarded": one.discarded,
        })
    };
    json!({
        "schema": "penjing.vector-select/1",
        "model": model,
        "convention": "a site is the output of a block; `enters_block` counts layers by what enters them",
        "rules": { "layers_below": rules.layers_below, "max_kl": rules.max_kl, "min_induce": rules.min_induce, "filter": rules.filter },
        "made_from": found.made_from,
        "scored_on": found.scored_on,
        "unedited": found.unedited,
        "vector": record,
        "candidates": found.candidates.iter().map(one).collect::<Vec<_>>(),
    })
}
