//! `penjing backpatch`: whether a later layer's output, put back earlier, mends answers that the model gets wrong.

use super::Ended;
use super::options::Subject;
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, make_folder, note, print, print_json, write};
use super::work::Work;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::Array2;
use penjing::inside::backpatch::{self, Found, Share};
use penjing::render::heatmap::Heatmap;
use penjing::render::style::{Style, StyleError};
use penjing::render::svg;
use penjing::render::theme::Theme;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct Backpatch {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    resources: Resources,
    /// At which places of the prompts: names that the task gives, and `end`
    #[arg(long, value_delimiter = ',', value_name = "PLACE")]
    at: Vec<String>,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for backpatch.json and a heatmap for each place
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Backpatch, as_json: bool) -> anyhow::Result<Ended> {
    let Backpatch { subject, .. } = command;
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let work = Work::load(subject, &command.resources)?;
    let model = &work.loaded.model;
    let dataset = work.pairs(Split::Test, subject.pairs, subject.seed, subject.corruption.as_deref())?;
    let failures = backpatch::wrong(model, &dataset.pairs);
    let mut known: Vec<&str> = Vec::new();
    for name in dataset.pairs.iter().flat_map(|pair| pair.positions.keys()) {
        // A place that some of the prompts do not have is none of the task.
        if !known.contains(&name.as_str()) && dataset.pairs.iter().all(|pair| pair.positions.contains_key(name)) {
            known.push(name);
        }
    }
    let places: Vec<&str> =
        if command.at.is_empty() { known.clone() } else { command.at.iter().map(String::as_str).collect() };
    if let Some(unknown) = places.iter().find(|place| !known.contains(place)) {
        let message = format!("the prompts have no place `{unknown}` in common");
        return Err(Usage { message, hint: format!("their places are {}", known.join(", ")) }.into());
    }
    let (count, pairs) = (failures.len(), dataset.pairs.len());
    if failures.is_empty() {
        note(&format!("{} gets all {pairs} prompts right: there is nothing to mend", work.loaded.id));
    }
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("patching back");
    let found: Vec<Found> = places
        .iter()
        .enumerate()
        .filter(|_| !failures.is_empty())
        .map(|(index, place)| {
            let mut follow = |share: f64| progress.set((index as f64 + share) / places.len() as f64);
            backpatch::at(model, place, &failures, &mut follow)
        })
        .collect();
    drop(progress);
    let document = document(&work, pairs, count, &found);
    if let Some(out) = &command.out {
        write(out, "backpatch.json", (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        for one in &found {
            let map = heatmap(one, model.spec.layers, count);
            write(out, &format!("backpatch-{}.svg", one.place), svg::draw(&map.scene(&style)).as_bytes())?;
        }
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&format!("{count} of {pairs} prompts are answered wrongly by {}\n\n{}", work.loaded.id, table(&found)))?;
    Ok(Ended::Done)
}

fn share(share: &Share) -> String {
    let [low, high] = share.interval;
    format!("{} of {} [{low:.2}, {high:.2}]", share.count, share.of)
}

fn table(found: &[Found]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "at",
        "mended by any pair",
        "forward pairs",
        "other donor",
        "other's answer",
        "one pair, chosen before",
    ]);
    for one in found {
        let chosen = match &one.chosen {
            Some((pair, rate)) => format!("L{} into L{}: {}", pair.source, pair.target, share(rate)),
            None => "too few prompts".into(),
        };
        table.add_row([
            one.place.clone(),
            share(&one.any),
            share(&one.forward),
            share(&one.donor),
            share(&one.answer),
            chosen,
        ]);
    }
    for column in 1..6 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Source layers upwards, target layers across.
fn heatmap(found: &Found, layers: usize, failures: usize) -> Heatmap {
    let share = |(row, column): (usize, usize)| {
        let source = layers - 1 - row;
        let pair = found.pairs.iter().find(|(pair, _)| pair.source == source && pair.target == column);
        pair.map_or(f64::NAN, |(_, count)| *count as f64 / failures.max(1) as f64)
    };
    Heatmap {
        title: String::new(),
        rows: (0..layers).rev().map(|layer| format!("from L{layer}")).collect(),
        columns: (0..layers).map(|layer| format!("L{layer}")).collect(),
        column_name: format!("into, at {}", found.place),
        value_name: "mended".into(),
        values: Array2::from_shape_fn((layers, layers), share),
        texts: None,
    }
}

/// `backpatch.json`, `penjing.backpatch/1`.
fn document(work: &Work, pairs: usize, failures: usize, found: &[Found]) -> Value {
    let rate = |share: &Share| json!({ "count": share.count, "of": share.of, "interval": share.interval });
    let one = |one: &Found| {
        json!({
            "place": one.place,
            "any_pair": rate(&one.any),
            "forward_pairs": rate(&one.forward),
            "other_donor": rate(&one.donor),
            "others_answer": rate(&one.answer),
            "chosen_before": one.chosen.as_ref().map(|(pair, share)| {
                json!({ "source_layer": pair.source, "target_layer": pair.target, "mended": rate(share) })
            }),
            "pairs": one.pairs.iter().map(|(pair, count)| json!([pair.source, pair.target, count])).collect::<Vec<_>>(),
        })
    };
    json!({
        "schema": "penjing.backpatch/1",
        "task": work.task.name,
        "model": work.loaded.id,
        "prompts": pairs,
        "wrong": failures,
        "places": found.iter().map(one).collect::<Vec<_>>(),
    })
}
