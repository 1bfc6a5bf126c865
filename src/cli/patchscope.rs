//! `penjing patchscope`: what one prompt holds, said by another.

use super::Ended;
use super::inside::OnPrompt;
use super::overprompts::{OverPrompts, maps, over_prompts};
use super::progress::Progress;
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use ndarray::Array2;
use penjing::inside::generate::{Continuation, Sampling, likeliest};
use penjing::inside::patchscope::{Mapping, Reading, Target, read};
use penjing::intervene::parse;
use penjing::intervene::position::{PositionSet, Prompt};
use penjing::render::heatmap::Heatmap;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::path::PathBuf;
use tch::Tensor;

#[derive(Args)]
pub struct Patchscope {
    /// The source: the prompt whose representation is read
    #[command(flatten)]
    pub(super) on: OnPrompt,
    /// Where it is read: a position as in edits, -1 or "Naples" in quotes of its own
    #[arg(long, default_value = "-1", allow_hyphen_values = true, value_name = "POS")]
    pub(super) at: String,
    /// The target: the prompt that says what is read
    #[arg(long, value_name = "PROMPT")]
    target: String,
    /// Where it is put in
    #[arg(long, default_value = "-1", allow_hyphen_values = true, value_name = "POS")]
    into: String,
    /// Between all pairs of layers, not only each layer and itself
    #[arg(long)]
    pub(super) grid: bool,
    /// As it is, scaled to the length of what it takes the place of, or by an affine map from its layer to the other
    #[arg(long, value_enum, default_value = "identity")]
    pub(super) mapping: MappingArgument,
    /// A text that affine maps are fitted on
    #[arg(long, value_name = "FILE", conflicts_with = "maps")]
    pub(super) fit: Option<PathBuf>,
    /// Affine maps that an earlier run kept
    #[arg(long, value_name = "FILE")]
    pub(super) maps: Option<PathBuf>,
    /// Keep the affine maps in this file
    #[arg(long, value_name = "FILE", requires = "fit")]
    pub(super) keep_maps: Option<PathBuf>,
    /// More sources, one a line: how often the target says what each would say itself, and how surprising that is
    #[arg(long, value_name = "FILE")]
    pub(super) prompts: Option<PathBuf>,
    /// More sources: the clean prompts of a task
    #[arg(long, value_name = "TASK")]
    pub(super) task: Option<String>,
    /// How many prompts of the task
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(super) pairs: usize,
    /// Seed of the task's prompts and of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
    /// A token whose probability is followed, such as " Italy"
    #[arg(long, value_name = "TOKEN")]
    watch: Option<String>,
    /// Another source, read at the same position counted from its end: what the target says whatever is put in
    #[arg(long, value_name = "PROMPT")]
    control: Option<String>,
    /// How many tokens the target goes on for
    #[arg(long, default_value_t = 0, value_name = "N")]
    generate: usize,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for patchscope.json, with --grid patchscope.svg, and with --prompts or --task patchscope-prompts.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub(super) enum MappingArgument {
    Identity,
    NormMatched,
    Affine,
}

/// One pair of layers.
struct Cell {
    source: usize,
    target: usize,
    reading: Reading,
    /// The watched token's probability, and how many tokens are likelier.
    watched: Option<(f64, usize)>,
    control: Option<f64>,
}

pub fn run(command: &Patchscope, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let ready = command.on.ready(0)?;
    let (model, tokenizer) = (&ready.loaded.model, &ready.loaded.tokenizer);
    let source = (ready.tokens.clone(), ready.prompt.clone());
    let target = command.on.encode(&command.target, &ready.loaded, command.generate)?;
    let (at, into) = (position(&command.at, &source.1)?, position(&command.into, &target.1)?);
    let watched =
        command.watch.as_deref().map(|token| tokenizer.single(token)).transpose().map_err(penjing::Error::from)?;
    if watched.is_some_and(|id| id as usize >= model.spec.vocab_out) {
        let message = "the model has no logit for the watched token".to_owned();
        return Err(Usage { message, hint: "watch a token of its output".into() }.into());
    }
    let values = read(model, &source, at);
    let controls = match &command.control {
        None => None,
        Some(text) => {
            let control = command.on.encode(text, &ready.loaded, 0)?;
            let from_end = source.0.len() - at;
            let at = control.0.len().checked_sub(from_end).ok_or_else(|| Usage {
                message: format!("the control has {} tokens, fewer than {from_end}", control.0.len()),
                hint: "take a longer prompt".into(),
            })?;
            Some(read(model, &control, at))
        }
    };
    let mapping = match command.mapping {
        MappingArgument::NormMatched => Mapping::NormMatched,
        MappingArgument::Identity | MappingArgument::Affine => Mapping::Identity,
    };
    let greedy = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let continuation = Continuation { count: command.generate, sampling: greedy, stop: tokenizer.end_tokens() };
    let prepared = Target::new(model, &target);
    let layers = model.spec.layers;
    let pairs: Vec<(usize, usize)> = (0..layers)
        .flat_map(|source| (0..layers).map(move |target| (source, target)))
        .filter(|(source, target)| command.grid || source == target)
        .collect();
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let maps = maps(command, &ready.loaded, &pairs)?;
    let mapped = |pair: (usize, usize), values: &Tensor| match &maps {
        Some(maps) => maps.apply(pair, values).unwrap_or_else(|| values.shallow_clone()),
        None => values.shallow_clone(),
    };
    let progress = Progress::bar("reading");
    let cells: Vec<Cell> = pairs
        .iter()
        .enumerate()
        .map(|(done, &(source, target))| {
            progress.set(done as f64 / pairs.len() as f64);
            let with = |value: &Tensor| {
                let value = mapped((source, target), &value.unsqueeze(0)).get(0);
                prepared.with(target, into, &value, mapping, &continuation)
            };
            let reading = with(&values[source]);
            let of = |next: &Tensor| watched.map(|id| follow(next, id));
            let control = controls.as_ref().and_then(|controls| Some(of(&with(&controls[source]).next)?.0));
            Cell { source, target, watched: of(&reading.next), reading, control }
        })
        .collect();
    drop(progress);
    let unpatched = watched.map(|id| follow(&prepared.next, id).0);
    let over = over_prompts(command, &ready.loaded, (&prepared, into), &pairs, &|pair, values| {
        let values = mapped(pair, values);
        if mapping == Mapping::NormMatched { prepared.matched(pair.1, into, &values) } else { values }
    })?;
    let mut document = document(command, &cells, tokenizer, unpatched, (at, into), &ready.loaded.id);
    document["mapping"] = json!(command.mapping.to_possible_value().map(|value| value.get_name().to_owned()));
    document["over_prompts"] = json!(over.as_ref().map(OverPrompts::document));
    let said = |next: &Tensor| likeliest(next, 1).first().map(|(id, _)| tokenizer.token_text(*id)).unwrap_or_default();
    let mut lines = vec![format!(
        "read at {:?} of the source, put in at {:?} of the target, which says {:?} by itself{}",
        tokenizer.token_text(source.0[at]),
        tokenizer.token_text(target.0[into]),
        said(&prepared.next),
        unpatched.map(|share| format!(", the watched token with {share:.4}")).unwrap_or_default()
    )];
    lines.push(format!("\n{}", table(command, &cells, tokenizer)?));
    lines.extend(over.as_ref().map(|over| format!("\nover {} sources\n\n{}", over.sources, over.table())));
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "patchscope", &document)?;
        if command.grid {
            let map = heatmap(&cells, layers, tokenizer, command.watch.as_deref());
            results.picture("patchscope.svg", &map.scene(&style))?;
        }
        if let Some(over) = &over {
            results.picture("patchscope-prompts.svg", &over.scene(layers, &style))?;
        }
        results.page("What the source holds, said by the target", &lines.join("\n"))?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    if let Some(out) = &command.out {
        lines.push(format!("\nthe page is {}", out.join("patchscope.html").display()));
    }
    print(&lines.join("\n"))?;
    Ok(Ended::Done)
}

/// A single position, written as in edits.
pub(super) fn position(written: &str, prompt: &Prompt) -> anyhow::Result<usize> {
    let address = parse::address(&format!("L0:{written}")).map_err(penjing::Error::from)?;
    let position = address.position.unwrap_or(penjing::intervene::address::Position::last());
    match prompt.resolve(&position).map_err(penjing::Error::from)? {
        // Of a word of several tokens the last, where it is complete.
        PositionSet::Listed(places) if !places.is_empty() => Ok(places.into_iter().max().unwrap_or(0)),
        _ => {
            let message = format!("`{written}` is no single position");
            Err(Usage { message, hint: "write a number, or a text of the prompt in quotes".into() }.into())
        }
    }
}

/// A token's probability, and how many are likelier.
fn follow(next: &Tensor, id: u32) -> (f64, usize) {
    let own = next.double_value(&[i64::from(id)]);
    let above = next.gt(own).sum(tch::Kind::Int64).int64_value(&[]);
    (own.exp(), usize::try_from(above).unwrap_or(0))
}

fn table(command: &Patchscope, cells: &[Cell], tokenizer: &Tokenizer) -> anyhow::Result<Table> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut heading = vec!["from", "into", "likeliest", "probability"];
    if command.watch.is_some() {
        heading.extend(["watched", "rank"]);
    }
    if command.control.is_some() && command.watch.is_some() {
        heading.push("control");
    }
    if command.generate > 0 {
        heading.push("goes on");
    }
    table.set_header(heading);
    for cell in cells {
        let (id, share) = likeliest(&cell.reading.next, 1).first().copied().unwrap_or_default();
        let mut row = vec![
            format!("L{}", cell.source),
            format!("L{}", cell.target),
            format!("{:?}", tokenizer.token_text(id)),
            format!("{share:.4}"),
        ];
        if let Some((share, rank)) = cell.watched {
            row.extend([format!("{share:.4}"), rank.to_string()]);
        }
        row.extend(cell.control.map(|share| format!("{share:.4}")));
        if command.generate > 0 {
            row.push(format!("{:?}", tokenizer.decode(&cell.reading.tokens).map_err(penjing::Error::from)?));
        }
        table.add_row(row);
    }
    for column in 3..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    Ok(table)
}

/// Source layers upwards, target layers across.
fn heatmap(cells: &[Cell], layers: usize, tokenizer: &Tokenizer, watch: Option<&str>) -> Heatmap {
    let cell = |row: usize, column: usize| cells.get((layers - 1 - row) * layers + column);
    let first = |cell: &Cell| likeliest(&cell.reading.next, 1).first().copied().unwrap_or_default();
    let value = |(row, column)| match cell(row, column) {
        Some(cell) => cell.watched.map_or_else(|| first(cell).1, |(share, _)| share),
        None => f64::NAN,
    };
    let text = |(row, column)| {
        let text = cell(row, column).map(|cell| tokenizer.token_text(first(cell).0)).unwrap_or_default();
        text.trim().chars().map(|c| if c.is_control() { '·' } else { c }).take(9).collect::<String>()
    };
    Heatmap {
        title: String::new(),
        rows: (0..layers).rev().map(|layer| format!("from L{layer}")).collect(),
        columns: (0..layers).map(|layer| format!("L{layer}")).collect(),
        column_name: "into".into(),
        value_name: watch.map_or("probability".to_owned(), |token| format!("p({})", token.trim())),
        values: Array2::from_shape_fn((layers, layers), value),
        texts: Some(Array2::from_shape_fn((layers, layers), text)),
    }
}

/// `patchscope.json`, `penjing.patchscope/1`.
fn document(
    command: &Patchscope,
    cells: &[Cell],
    tokenizer: &Tokenizer,
    unpatched: Option<f64>,
    (at, into): (usize, usize),
    model: &str,
) -> Value {
    let cell = |cell: &Cell| {
        let next = likeliest(&cell.reading.next, 5);
        json!({
            "source_layer": cell.source,
            "target_layer": cell.target,
            "likeliest": next.into_iter().map(|(id, share)| json!([tokenizer.token_text(id), share])).collect::<Vec<_>>(),
            "watched": cell.watched.map(|(share, rank)| json!({ "probability": share, "rank": rank })),
            "control": cell.control,
            "generated": tokenizer.decode(&cell.reading.tokens).unwrap_or_default(),
        })
    };
    json!({
        "schema": "penjing.patchscope/1",
        "model": model,
        "source": command.on.prompt,
        "at": at,
        "target": command.target,
        "into": into,
        "watch": command.watch,
        "unpatched": unpatched,
        "control": command.control,
        "cells": cells.iter().map(cell).collect::<Vec<_>>(),
    })
}
