//! `penjing patch`: heatmaps of activation patching at one kind of site.

use super::Ended;
use super::options::Subject;
use super::progress::Progress;
use super::record::run_record;
use super::resources::Resources;
use super::term::{Usage, make_folder, print, print_json, write};
use super::work::Work;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use penjing::ablation::Ablation;
use penjing::dataset::TokenPair;
use penjing::patching::{Direction, Effects, Patching, Target};
use penjing::render::heatmap::Heatmap;
use penjing::render::style::{Style, StyleError};
use penjing::render::svg;
use penjing::render::theme::Theme;
use penjing::score::Method;
use penjing::spans::Spans;
use penjing::task::Split;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Patch {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    resources: Resources,
    /// Where values are exchanged: the residual stream (in, mid, out of a block), what attention or MLP add (attn, mlp), or
    /// heads (z, q, k, v, pattern)
    #[arg(long, default_value = "in", value_parser = target_parser())]
    site: Target,
    /// Clean values in the corrupt run (what restores), or corrupt values in the clean run (what destroys)
    #[arg(long, value_enum, default_value = "denoise")]
    direction: DirectionArgument,
    /// Rows of in, mid, out, attn and mlp: every position, of the pairs that have the most common length, or the places that the
    /// task names
    #[arg(long, value_enum, default_value = "named")]
    positions: PositionsArgument,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// The width of the figure in millimetres
    #[arg(long, value_name = "MM")]
    width: Option<f64>,
    /// Folder for patching-SITE.json and .svg (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy)]
enum DirectionArgument {
    Denoise,
    Noise,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum PositionsArgument {
    Each,
    Named,
}

fn target_parser() -> impl TypedValueParser<Value = Target> {
    let names = PossibleValuesParser::new(Target::ALL.map(|(name, _)| name));
    names.map(|name| Target::ALL.into_iter().find(|(known, _)| *known == name).map_or(Target::In, |(_, target)| target))
}

fn name(target: Target) -> &'static str {
    Target::ALL.into_iter().find(|(_, known)| *known == target).map_or("", |(name, _)| name)
}

pub fn run(command: &Patch, as_json: bool) -> anyhow::Result<Ended> {
    let Patch { subject, site, .. } = command;
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, width: command.width, ..Style::default() };
    style.check().map_err(penjing::Error::from)?;
    if subject.ablation != Ablation::Counterfactual {
        let message = format!(
            "patching exchanges values of the two prompts, so --ablation {} has no part in it",
            subject.ablation
        );
        return Err(Usage { message, hint: "leave --ablation out".into() }.into());
    }
    let start = Instant::now();
    let work = Work::load(subject, &command.resources)?;
    let spec = &work.loaded.model.spec;
    if !site.exists(spec) {
        let message = format!("{} has no site `{}`", work.loaded.id, name(*site));
        return Err(Usage {
            message,
            hint: "its blocks have no MLP, or attention and MLP side by side; take in, out or attn".into(),
        }
        .into());
    }
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&work.task.name, &work.loaded.id));
    make_folder(&out)?;
    let dataset = work.pairs(Split::Train, subject.pairs, subject.seed, subject.corruption.as_deref())?;
    let pairs = match command.positions {
        PositionsArgument::Each if site.heads(spec).is_none() => of_one_length(&dataset.pairs),
        _ => dataset.pairs.clone(),
    };
    let spans = match command.positions {
        PositionsArgument::Each => Spans::each(&pairs),
        PositionsArgument::Named => Spans::named(&pairs),
    };
    let direction = match command.direction {
        DirectionArgument::Denoise => Direction::Denoise,
        DirectionArgument::Noise => Direction::Noise,
    };
    let (model, metric, memory) = (&work.loaded.model, work.task.metric, work.memory);
    let patching = Patching { model, pairs: &pairs, metric, target: *site, direction, spans: &spans, memory };
    let progress = Progress::bar("patching");
    let effects = patching.effects(work.graph.dimensions, &mut |share| progress.set(share));
    drop(progress);
    let effects = effects.map_err(penjing::Error::from)?;
    penjing::score::check_finite(model, &pairs, "effects", effects.values.iter().copied())
        .map_err(penjing::Error::from)?;

    let map = heatmap(command, &work, &pairs, &spans, &effects);
    let file = format!("patching-{}", name(*site));
    let document = json!({
        "schema": "penjing.patching/1",
        "task": work.task.name,
        "model": work.loaded.id,
        "site": name(*site),
        "direction": match direction { Direction::Denoise => "denoise", Direction::Noise => "noise" },
        "pairs": pairs.len(),
        "seed": subject.seed,
        "metric": metric.name(),
        "metric_clean": effects.clean,
        "metric_corrupt": effects.corrupt,
        "rows": map.rows,
        "columns": map.columns,
        "effects": effects.values.outer_iter().map(|row| row.to_vec()).collect::<Vec<_>>(),
    });
    write(&out, &format!("{file}.svg"), svg::draw(&map.scene(&style)).as_bytes())?;
    write(&out, &format!("{file}.json"), (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
    let seconds = start.elapsed().as_secs_f64();
    let record = run_record(&work.provenance(subject, &Method::ActivationPatching, &dataset), &[("all", seconds)]);
    write(&out, &format!("run-{file}.json"), (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&table(&map, &effects))?;
    print(&format!(
        "\n{} pairs, {seconds:.1} s; the picture is {}",
        pairs.len(),
        out.join(format!("{file}.svg")).display()
    ))?;
    Ok(Ended::Done)
}

/// The pairs of the length that most have.
fn of_one_length(pairs: &[TokenPair]) -> Vec<TokenPair> {
    let count = |length: usize| pairs.iter().filter(|pair| pair.len() == length).count();
    let most = pairs.iter().map(TokenPair::len).max_by_key(|&length| (count(length), length));
    pairs.iter().filter(|pair| Some(pair.len()) == most).cloned().collect()
}

fn heatmap(command: &Patch, work: &Work, pairs: &[TokenPair], spans: &Spans, effects: &Effects) -> Heatmap {
    let spec = &work.loaded.model.spec;
    let numbers = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let layers = numbers(spec.layers);
    let (rows, columns, column_name) = match command.site.heads(spec) {
        Some(heads) => (layers.iter().map(|layer| format!("layer {layer}")).collect(), numbers(heads), "head"),
        None if command.positions == PositionsArgument::Named => (spans.names.clone(), layers, "layer"),
        None => {
            // Tokens of the first pair stand for those of all.
            let tokens = pairs.first().map(|pair| work.loaded.tokenizer.token_texts(&pair.clean)).unwrap_or_default();
            (
                tokens.into_iter().enumerate().map(|(place, token)| format!("{place} {}", token.trim())).collect(),
                layers,
                "layer",
            )
        }
    };
    let what = match command.direction {
        DirectionArgument::Denoise => "restored",
        DirectionArgument::Noise => "destroyed",
    };
    Heatmap {
        title: format!("{} in {}: {}", work.task.title, work.loaded.id, name(command.site)),
        rows,
        columns,
        column_name: column_name.into(),
        value_name: what.into(),
        values: effects.values.clone(),
        texts: None,
    }
}

/// The strongest cells.
fn table(map: &Heatmap, effects: &Effects) -> String {
    let mut cells: Vec<((usize, usize), f64)> =
        effects.values.indexed_iter().map(|(place, value)| (place, *value)).collect();
    cells.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["", &map.column_name, &map.value_name]);
    for ((row, column), value) in cells.into_iter().take(20) {
        table.add_row([map.rows[row].clone(), map.columns[column].clone(), format!("{value:+.3}")]);
    }
    format!("metric: clean {:.3}, corrupt {:.3}\n\n{table}", effects.clean, effects.corrupt)
}
