//! `penjing lens`: what the model would say after each layer.

use super::Ended;
use super::inside::OnPrompt;
use super::progress::Progress;
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::Array2;
use penjing::inside::lens::{Cell, Decoded, Question, decode_through};
use penjing::inside::tuned::TunedLens;
use penjing::inside::words;
use penjing::render::chart::{Line, traces};
use penjing::render::heatmap::Heatmap;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::tokenizer::Tokenizer;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Lens {
    #[command(flatten)]
    on: OnPrompt,
    /// A token to follow, such as " Warsaw"
    #[arg(long, value_name = "TOKEN")]
    watch: Vec<String>,
    /// A set of tokens to follow: all that begin one of the words, on their bytes, with or without a space before
    #[arg(long, value_name = "NAME=WORD,WORD")]
    set: Vec<String>,
    /// A tuned lens that `penjing tune-lens` wrote: what it says, in the place of the plain lens
    #[arg(long, value_name = "FILE", conflicts_with = "sublayers")]
    lens: Option<PathBuf>,
    /// Between attention and MLP too
    #[arg(long)]
    sublayers: bool,
    /// The position that is printed, counted from the start, or from the end with a minus
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_name = "P")]
    position: i64,
    /// How many tokens of each position go into lens.json
    #[arg(long, default_value_t = 5, value_name = "N")]
    top: usize,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for lens.json, lens.svg and, with --watch or --set, lens-trace.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is followed.
struct Watched {
    name: String,
    ids: Vec<u32>,
}

impl Lens {
    fn watched(&self, tokenizer: &Tokenizer, size: usize) -> anyhow::Result<Vec<Watched>> {
        let mut all = Vec::new();
        for token in &self.watch {
            let id = tokenizer.single(token).map_err(penjing::Error::from)?;
            all.push(Watched { name: format!("{token:?}"), ids: vec![id] });
        }
        for set in &self.set {
            let usage = |message: String, hint: &str| Usage { message, hint: hint.to_owned() };
            let (name, list) = set
                .split_once('=')
                .filter(|(_, list)| !list.is_empty())
                .ok_or_else(|| usage(format!("--set `{set}` names no words"), "write --set English=flower,bloom"))?;
            let ids = words::beginning(tokenizer, size, &list.split(',').map(str::trim).collect::<Vec<_>>());
            if ids.is_empty() {
                return Err(usage(
                    format!("no token begins any of `{list}`"),
                    "the tokenizer spells these words otherwise",
                )
                .into());
            }
            all.push(Watched { name: name.to_owned(), ids });
        }
        if let Some(wrong) = all.iter().flat_map(|one| &one.ids).find(|id| **id as usize >= size) {
            return Err(Usage {
                message: format!("the model has no logit for token {wrong}"),
                hint: "watch other tokens".into(),
            }
            .into());
        }
        Ok(all)
    }
}

pub fn run(command: &Lens, as_json: bool) -> anyhow::Result<Ended> {
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    let ready = command.on.ready(0)?;
    let (model, tokenizer) = (&ready.loaded.model, &ready.loaded.tokenizer);
    let count = ready.tokens.len();
    let position = match command.position {
        position if position < 0 => count.checked_add_signed(position as isize),
        position => usize::try_from(position).ok().filter(|&position| position < count),
    };
    let position = position.ok_or_else(|| Usage {
        message: format!("the prompt of {count} tokens has no position {}", command.position),
        hint: format!("positions are 0 to {}, or -{count} to -1 from the end", count - 1),
    })?;
    let tuned = command.lens.as_deref().map(|path| TunedLens::from_file(path, model)).transpose();
    let tuned = tuned.map_err(penjing::Error::from)?.map(|(lens, _)| lens);
    let watched = command.watched(tokenizer, model.spec.vocab_out)?;
    let question = Question {
        sublayers: command.sublayers,
        top: command.top.max(1),
        watched: watched.iter().map(|one| one.ids.clone()).collect(),
    };
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("decoding");
    let decoded = decode_through(model, &ready.tokens, tuned.as_ref(), &question, &mut |share| {
        progress.set(share);
    });
    drop(progress);
    let tokens = tokenizer.token_texts(&ready.tokens);
    let document = document(&decoded, &tokens, tokenizer, &watched, (&ready.loaded.id, tuned.is_some()));
    let place = format!(
        "position {position}, {:?}, of {}{}",
        tokens[position],
        ready.loaded.id,
        if tuned.is_some() { ", tuned lens" } else { "" }
    );
    let text = format!("{place}\n\n{}", table(&decoded, position, tokenizer, &watched));
    if let Some(out) = &command.out {
        let mut results = Results::new(out, "lens", &document)?;
        results.picture("lens.svg", &heatmap(&decoded, &tokens, tokenizer).scene(&style))?;
        if !watched.is_empty() {
            let lines: Vec<Line> = watched
                .iter()
                .enumerate()
                .map(|(index, one)| Line {
                    name: one.name.clone(),
                    values: decoded.cells.iter().map(|row| row[position].watched[index].0).collect(),
                })
                .collect();
            let scene = traces(&decoded.places, &lines, "probability", &style);
            results.picture("lens-trace.svg", &scene)?;
        }
        results.page("What each layer would say", &text)?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text)?;
    if let Some(out) = &command.out {
        print(&format!("\nthe page is {}", out.join("lens.html").display()))?;
    }
    Ok(Ended::Done)
}

fn table(decoded: &Decoded, position: usize, tokenizer: &Tokenizer, watched: &[Watched]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let names = watched.iter().flat_map(|one| [one.name.clone(), "rank".into()]);
    let first = ["after", "likeliest", "probability", "entropy", "KL to the end"].map(str::to_owned);
    table.set_header(first.into_iter().chain(names));
    for (place, row) in decoded.places.iter().zip(&decoded.cells).rev() {
        let Cell { likeliest, entropy, divergence, watched } = &row[position];
        let (id, probability) = likeliest.first().copied().unwrap_or_default();
        let cells = [
            place.clone(),
            format!("{:?}", tokenizer.token_text(id)),
            format!("{probability:.4}"),
            format!("{entropy:.3}"),
            format!("{divergence:.3}"),
        ];
        let followed = watched.iter().flat_map(|(share, rank)| [format!("{share:.4}"), rank.to_string()]);
        table.add_row(cells.into_iter().chain(followed));
    }
    for column in 2..5 + 2 * watched.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Positions across, layers upwards; the likeliest token in each cell, its probability as the colour.
fn heatmap(decoded: &Decoded, tokens: &[String], tokenizer: &Tokenizer) -> Heatmap {
    let (rows, columns) = (decoded.places.len(), tokens.len());
    let cell = |row: usize, column: usize| &decoded.cells[rows - 1 - row][column];
    let first = |row: usize, column: usize| cell(row, column).likeliest.first().copied().unwrap_or_default();
    let short = |text: String| -> String {
        let text: String = text.trim().chars().map(|c| if c.is_control() { '·' } else { c }).collect();
        let cut: String = text.chars().take(8).collect();
        if cut.chars().count() < text.chars().count() { cut + "…" } else { cut }
    };
    Heatmap {
        title: String::new(),
        rows: decoded.places.iter().rev().cloned().collect(),
        columns: tokens.iter().map(|token| short(token.clone())).collect(),
        column_name: "token".into(),
        value_name: "probability".into(),
        values: Array2::from_shape_fn((rows, columns), |(row, column)| first(row, column).1),
        texts: Some(Array2::from_shape_fn((rows, columns), |(row, column)| {
            short(tokenizer.token_text(first(row, column).0))
        })),
    }
}

/// `lens.json`, `penjing.lens/1`.
fn document(
    decoded: &Decoded,
    tokens: &[String],
    tokenizer: &Tokenizer,
    watched: &[Watched],
    (model, tuned): (&str, bool),
) -> serde_json::Value {
    let cell = |cell: &Cell| {
        let top = cell.likeliest.iter().map(|(id, probability)| json!([tokenizer.token_text(*id), probability]));
        json!({
            "likeliest": top.collect::<Vec<_>>(),
            "entropy": cell.entropy,
            "kl": cell.divergence,
            "watched": cell.watched.iter().map(|(share, rank)| json!({ "probability": share, "rank": rank })).collect::<Vec<_>>(),
        })
    };
    let rows = decoded
        .places
        .iter()
        .zip(&decoded.cells)
        .map(|(place, cells)| json!({ "after": place, "positions": cells.iter().map(cell).collect::<Vec<_>>() }));
    json!({
        "schema": "penjing.lens/1",
        "model": model,
        "lens": if tuned { "tuned" } else { "logit" },
        "tokens": tokens,
        "watched": watched.iter().map(|one| json!({ "name": one.name, "ids": one.ids })).collect::<Vec<_>>(),
        "places": rows.collect::<Vec<_>>(),
    })
}
