//! `penjing vector make --method function`, `task` and `contrast`: vectors of a relation that examples in a prompt show.

use super::super::table::table;
use super::make::{Make, MethodArgument};
use super::style;
use crate::cli::Ended;
use crate::cli::progress::Progress;
use crate::cli::term::{Usage, make_folder, print, print_json, write};
use clap::Args;
use ndarray::Array2;
use penjing::circuit::file::write_atomically;
use penjing::error::FileError;
use penjing::inside::backpatch::Share;
use penjing::inside::vectors::function::{self, Found, Settings};
use penjing::inside::vectors::in_context::{Format, Labels, Lesson, Pair};
use penjing::inside::vectors::task::Kept;
use penjing::inside::vectors::{self, Made, SCHEMA, VectorV1};
use penjing::render::heatmap::Heatmap;
use penjing::render::svg;
use penjing::task::slot::Values;
use penjing::task::{self, Content};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct InContext {
    /// Pairs of words, a line each, with a tab between; for --method function, task and contrast
    #[arg(long, value_name = "FILE", conflicts_with_all = ["positive", "task"])]
    pub examples: Option<PathBuf>,
    /// How examples are written
    #[arg(long, value_enum, default_value = "qa")]
    format: FormatArgument,
    /// What the labels of examples become where they are not to show the relation
    #[arg(long, value_enum, default_value = "shuffled")]
    labels: LabelsArgument,
    /// Examples in a prompt
    #[arg(long, default_value_t = 10, value_name = "N")]
    shots: usize,
    /// Prompts that means are taken over
    #[arg(long, default_value_t = 100, value_name = "N")]
    prompts: usize,
    /// Prompts with shuffled labels that effects are measured on
    #[arg(long, default_value_t = 25, value_name = "N")]
    effects: usize,
    /// Heads that the vector is made of
    #[arg(long, default_value_t = 10, value_name = "N")]
    heads: usize,
    /// Folder for the numbers as JSON and, of a function vector, effects.svg
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum FormatArgument {
    /// Q: hot, A: cold, in lines
    Qa,
    /// Words: hot -> cold, up ->
    Arrow,
    /// Pairs such as hot and cold, up and
    List,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum LabelsArgument {
    /// Each that of another example
    Shuffled,
    /// Each the word itself: examples of copying
    Copied,
    /// No examples: the word alone
    Bare,
}

impl InContext {
    fn pairs(&self, task: Option<&str>) -> anyhow::Result<Vec<Pair>> {
        let usage = |message: String| -> anyhow::Error {
            Usage { message, hint: "give --examples FILE with lines such as `hot<TAB>cold`, or --task antonym".into() }
                .into()
        };
        if let Some(path) = &self.examples {
            let text = std::fs::read_to_string(path).map_err(FileError::reading(path)).map_err(penjing::Error::from)?;
            let pair = |(number, line): (usize, &str)| {
                let split = line.split_once('\t').map(|(x, y)| (x.trim().to_owned(), y.trim().to_owned()));
                let split = split.filter(|(x, y)| !x.is_empty() && !y.is_empty());
                split.ok_or_else(|| usage(format!("line {} of {} is no pair", number + 1, path.display())))
            };
            return text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(pair).collect();
        }
        let name = task.ok_or_else(|| usage("there are no pairs of words".into()))?;
        let task = task::resolve(name).map_err(penjing::Error::from)?;
        let Content::Templates(templates) = &task.content else {
            return Err(usage(format!("the task {name} has no facts")));
        };
        let facts = templates.slots.iter().find_map(|slot| match &slot.values {
            Values::Rows { columns, rows, .. } if columns.len() >= 2 => Some(rows),
            _ => None,
        });
        let facts = facts.ok_or_else(|| usage(format!("the task {name} has no facts of two columns")))?;
        Ok(facts.iter().map(|row| (row[0].clone(), row[1].clone())).collect())
    }
}

pub fn run(command: &Make, as_json: bool) -> anyhow::Result<Ended> {
    let (corrupt, labels) = match command.in_context.labels {
        LabelsArgument::Shuffled => (Labels::Shuffled, "shuffled"),
        LabelsArgument::Copied => (Labels::Copied, "copied"),
        LabelsArgument::Bare => (Labels::Bare, "bare"),
    };
    let InContext { format, shots, prompts, effects, heads, report, theme, .. } = &command.in_context;
    let style = style(theme)?;
    for (name, count) in [("--prompts", prompts), ("--effects", effects), ("--heads", heads)] {
        if *count == 0 {
            return Err(Usage { message: format!("{name} 0 makes no vector"), hint: "take 1 or more".into() }.into());
        }
    }
    let pairs = command.in_context.pairs(command.sets.task.as_deref())?;
    let loaded = command.reader.load()?;
    let format = match format {
        FormatArgument::Qa => Format::QuestionAnswer,
        FormatArgument::Arrow => Format::Arrow,
        FormatArgument::List => Format::List,
    };
    let (model, seed) = (&loaded.model, command.reader.seed);
    let lesson = Lesson {
        model,
        tokenizer: &loaded.tokenizer,
        bos: command.reader.bos.or(None),
        format,
        shots: *shots,
        corrupt,
    };
    if let Some(report) = report {
        make_folder(report)?;
    }
    let progress = Progress::bar("reading examples");
    let mut follow = |share: f64| progress.set(share);
    let (method, kept) = match command.method {
        MethodArgument::Task => ("task", Some(Kept::State)),
        MethodArgument::Contrast => ("contrast", Some(Kept::Contrast)),
        _ => ("function", None),
    };
    let found = match kept {
        Some(kept) => vectors::task::make(&lesson, &pairs, kept, *prompts, seed, &mut follow),
        None => {
            let settings = Settings { prompts: *prompts, effects: *effects, heads: *heads, seed };
            function::make(&lesson, &pairs, &settings, &mut follow)
        }
    };
    drop(progress);
    let found = found.map_err(penjing::Error::from)?;
    let record = VectorV1 {
        schema: SCHEMA.into(),
        method: method.into(),
        model: loaded.id.clone(),
        weights: model.fingerprint(),
        site: format!("L{}:-1", found.layer),
        made_from: [found.made_from, 0],
        tested_on: [found.zero_shot.of, 0],
        auroc: None,
        mean_difference: None,
        heads: found.heads.iter().map(|head| format!("L{}.H{}", head.layer, head.head)).collect(),
        norm: found.values.norm().double_value(&[]),
        usual_norm: found.usual_norm,
        seed,
    };
    let document = document(&record, &found, labels, &command.out);
    let made = Made { values: found.values.shallow_clone(), record };
    write_atomically(&command.out, &vectors::to_bytes(&made)?).map_err(penjing::Error::from)?;
    if let Some(report) = report {
        write(report, &format!("{method}.json"), (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        if kept.is_none() {
            write(report, "effects.svg", svg::draw(&heatmap(&found.effects).scene(&style)).as_bytes())?;
        }
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&text(&found, labels, &command.out))?;
    Ok(Ended::Done)
}

/// Layers upwards, heads across.
fn heatmap(effects: &Array2<f64>) -> Heatmap {
    let (layers, heads) = effects.dim();
    Heatmap {
        title: String::new(),
        rows: (0..layers).rev().map(|layer| format!("L{layer}")).collect(),
        columns: (0..heads).map(|head| format!("H{head}")).collect(),
        column_name: "head".into(),
        value_name: "effect".into(),
        values: Array2::from_shape_fn((layers, heads), |(row, head)| effects[[layers - 1 - row, head]]),
        texts: None,
    }
}

fn text(found: &Found, corrupt: &str, out: &Path) -> String {
    let row = |name: &str, share: &Share| {
        let [low, high] = share.interval;
        let rate = share.count as f64 / share.of.max(1) as f64;
        vec![name.to_owned(), format!("{} of {}", share.count, share.of), format!("{rate:.2} [{low:.2}, {high:.2}]")]
    };
    let layer = found.layer;
    let bare = corrupt == "bare";
    let without = if bare { "the word alone" } else { "without examples" };
    let mut rows = vec![
        row(without, &found.zero_shot),
        row(&format!("{without}, vector at L{layer}"), &found.with),
        row(&format!("{without}, random ones at L{layer}"), &found.with_random),
        row("with examples", &found.in_context),
    ];
    if !bare {
        rows.push(row(&format!("with {corrupt} examples"), &found.corrupt));
        rows.push(row(&format!("with {corrupt} examples, vector at L{layer}"), &found.corrupt_with));
    }
    let heads = found.heads.iter().map(|head| format!("L{}.H{} {:+.4}", head.layer, head.head, head.effect));
    let heads: Vec<String> = heads.collect();
    let heads = if heads.is_empty() { String::new() } else { format!("\n\nheads: {}", heads.join(", ")) };
    let layers = found.by_layer.iter().enumerate().map(|(layer, share)| format!("L{layer} {}", share.count));
    let layers: Vec<String> = layers.collect();
    format!(
        "{}{heads}\n\nright of {} at each layer, to choose one: {}\n\n{}",
        table(&["words that did not make it", "right", "share"], 1, rows),
        found.by_layer.first().map_or(0, |share| share.of),
        layers.join(", "),
        out.display()
    )
}

/// `penjing.in-context/1`.
fn document(record: &VectorV1, found: &Found, labels: &str, out: &Path) -> Value {
    let share = |share: &Share| json!({ "count": share.count, "of": share.of, "interval": share.interval });
    let effects: Vec<Vec<f64>> = found.effects.rows().into_iter().map(|row| row.to_vec()).collect();
    json!({
        "schema": "penjing.in-context/1",
        "file": out,
        "vector": record,
        "layer": found.layer,
        "labels": labels,
        "by_layer": found.by_layer.iter().map(share).collect::<Vec<_>>(),
        "zero_shot": share(&found.zero_shot),
        "zero_shot_with_vector": share(&found.with),
        "zero_shot_with_random": share(&found.with_random),
        "in_context": share(&found.in_context),
        "corrupt": share(&found.corrupt),
        "corrupt_with_vector": share(&found.corrupt_with),
        "heads": found.heads.iter().map(|head| json!({ "layer": head.layer, "head": head.head, "effect": head.effect })).collect::<Vec<_>>(),
        "effects": effects,
    })
}
