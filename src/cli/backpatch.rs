//! `penjing backpatch`: whether a later layer's output, put back earlier, mends answers that the model gets wrong.

use super::Ended;
use super::options::Subject;
use super::progress::Progress;
use super::resources::Resources;
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use super::work::Work;
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use ndarray::Array2;
use penjing::dataset::TokenPair;
use penjing::inside::backpatch::{self, Criterion, Found, Pair, Share};
use penjing::inside::hops::Hops;
use penjing::render::heatmap::Heatmap;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::task::{self, Split};
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
    /// Count an answer as right too where its text occurs in this many generated tokens
    #[arg(long, default_value_t = 0, value_name = "N")]
    generate: usize,
    /// Only prompts whose single hops the model answers, by the sentences that the task teaches them with
    #[arg(long)]
    known_hops: bool,
    /// Two layers named before looking, the later one first: what this pair alone mends
    #[arg(long, value_name = "S,T", value_delimiter = ',', num_args = 1)]
    pair: Vec<usize>,
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
    let registered = command.registered(model.spec.layers)?;
    let mut dataset = work.pairs(Split::Test, subject.pairs, subject.seed, subject.corruption.as_deref())?;
    command.check_context(model.spec.context, dataset.pairs.iter().map(TokenPair::len).max().unwrap_or(0))?;
    let all = dataset.pairs.len();
    if command.known_hops {
        keep_known(&work, &mut dataset.pairs)?;
    }
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
    let pairs = dataset.pairs.len();
    let tokenizer = &work.loaded.tokenizer;
    let decode = |tokens: &[u32]| tokenizer.decode(tokens).unwrap_or_default();
    let text = Criterion::Text { count: command.generate, stop: tokenizer.end_tokens(), decode: &decode };
    let mut criteria = vec![("next-token", Criterion::Next)];
    criteria.extend((command.generate > 0).then_some(("text", text)));
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    let progress = Progress::bar("patching back");
    let steps = (criteria.len() * places.len()) as f64;
    let mut results: Vec<ByCriterion> = Vec::new();
    for (done, (name, criterion)) in criteria.iter().enumerate() {
        let failures = backpatch::wrong_by(model, &dataset.pairs, criterion);
        let place = |(index, place): (usize, &&str)| {
            let mut follow = |share: f64| progress.set(((done * places.len() + index) as f64 + share) / steps);
            backpatch::at_by(model, place, &failures, criterion, &mut follow)
        };
        let any = places.iter().enumerate().filter(|_| !failures.is_empty());
        results.push(ByCriterion {
            criterion: name,
            wrong: failures.len(),
            found: any.map(place).collect(),
            registered,
        });
    }
    drop(progress);
    let document = document(&work, (all, pairs), command.known_hops, &results);
    let mut said = Vec::new();
    if command.known_hops {
        said.push(format!("{pairs} of {all} prompts have single hops that {} answers", work.loaded.id));
    }
    for ByCriterion { criterion, wrong, found, .. } in &results {
        let by = if *criterion == "text" { format!(" in {} tokens", command.generate) } else { String::new() };
        said.push(match wrong {
            0 => format!("{} gets all {pairs} prompts right{by}: there is nothing to mend", work.loaded.id),
            _ => format!(
                "{wrong} of {pairs} prompts are answered wrongly{by} by {}\n\n{}",
                work.loaded.id,
                table(found, registered)
            ),
        });
    }
    let said = said.join("\n\n");
    if let Some(out) = &command.out {
        let mut written = Results::new(out, "backpatch", &document)?;
        for (result, one) in results.iter().flat_map(|result| result.found.iter().map(move |one| (result, one))) {
            let map = heatmap(one, model.spec.layers, result.wrong);
            let ending = if result.criterion == "text" { "-text" } else { "" };
            written.picture(&format!("backpatch-{}{ending}.svg", one.place), &map.scene(&style))?;
        }
        written.page("Late outputs put back early", &said)?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&said)?;
    if let Some(out) = &command.out {
        print(&format!("\nthe page is {}", out.join("backpatch.html").display()))?;
    }
    Ok(Ended::Done)
}

/// What was found by one criterion.
struct ByCriterion {
    criterion: &'static str,
    wrong: usize,
    found: Vec<Found>,
    registered: Option<Pair>,
}

impl Backpatch {
    fn registered(&self, layers: usize) -> anyhow::Result<Option<Pair>> {
        match self.pair[..] {
            [] => Ok(None),
            [source, target] if source > target && source < layers => Ok(Some(Pair { source, target })),
            _ => {
                let written: Vec<String> = self.pair.iter().map(usize::to_string).collect();
                let message = format!("--pair {} is no later layer and an earlier one", written.join(","));
                let hint = format!("write --pair 1,0; the layers are 0 to {}", layers - 1);
                Err(Usage { message, hint }.into())
            }
        }
    }

    fn check_context(&self, context: usize, longest: usize) -> anyhow::Result<()> {
        if longest + self.generate <= context {
            return Ok(());
        }
        let message = format!("a prompt of {longest} tokens and {} more exceed {context}", self.generate);
        Err(Usage { message, hint: "generate less".into() }.into())
    }
}

/// Sentences of the task that single hops are looked for in: enough for each fact in some frames.
const LESSONS: usize = 4000;

/// Leaves the prompts whose single hops the model answers.
fn keep_known(work: &Work, pairs: &mut Vec<TokenPair>) -> anyhow::Result<()> {
    let lessons = task::lessons(&work.task, LESSONS, 0);
    let mut hops = Hops::new(&work.loaded, work.bos, &lessons);
    let progress = Progress::bar("asking single hops");
    let (count, mut any) = (pairs.len(), false);
    let mut done = 0.0;
    pairs.retain(|pair| {
        progress.set(done / count as f64);
        done += 1.0;
        let known = hops.known(pair);
        any |= known.is_some();
        known == Some(true)
    });
    if any {
        return Ok(());
    }
    let message = format!("the task {} teaches no single hops of its prompts", work.task.name);
    Err(Usage { message, hint: "leave --known-hops out; two-hop is a task that does".into() }.into())
}

fn share(share: &Share) -> String {
    let [low, high] = share.interval;
    format!("{} of {} [{low:.2}, {high:.2}]", share.count, share.of)
}

fn table(found: &[Found], registered: Option<Pair>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let heading =
        ["at", "mended by any pair", "forward pairs", "other donor", "other's answer", "one pair, chosen before"];
    let named = registered.map(|pair| format!("L{} into L{}", pair.source, pair.target));
    table.set_header(heading.map(str::to_owned).into_iter().chain(named));
    for one in found {
        let chosen = match &one.chosen {
            Some((pair, rate)) => format!("L{} into L{}: {}", pair.source, pair.target, share(rate)),
            None => "too few prompts".into(),
        };
        let row =
            [one.place.clone(), share(&one.any), share(&one.forward), share(&one.donor), share(&one.answer), chosen];
        table.add_row(row.into_iter().chain(registered.map(|pair| share(&of_pair(one, pair)))));
    }
    for column in 1..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// What one pair does to all wrong prompts.
fn of_pair(found: &Found, pair: Pair) -> Share {
    let count = found.pairs.iter().find(|(other, _)| *other == pair).map_or(0, |(_, count)| *count);
    Share::new(count, found.any.of)
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

/// `backpatch.json`, `penjing.backpatch/1`. `wrong` and `places` are by the next token, `by_text` the same by generated text.
fn document(work: &Work, (all, pairs): (usize, usize), known_hops: bool, results: &[ByCriterion]) -> Value {
    let rate = |share: &Share| json!({ "count": share.count, "of": share.of, "interval": share.interval });
    let of_layers = |pair: Pair, share: &Share| json!({ "source_layer": pair.source, "target_layer": pair.target, "mended": rate(share) });
    let one = |one: &Found, registered: Option<Pair>| {
        json!({
            "place": one.place,
            "any_pair": rate(&one.any),
            "forward_pairs": rate(&one.forward),
            "other_donor": rate(&one.donor),
            "others_answer": rate(&one.answer),
            "chosen_before": one.chosen.as_ref().map(|(pair, share)| of_layers(*pair, share)),
            "named_before": registered.map(|pair| of_layers(pair, &of_pair(one, pair))),
            "pairs": one.pairs.iter().map(|(pair, count)| json!([pair.source, pair.target, count])).collect::<Vec<_>>(),
        })
    };
    let places = |result: &ByCriterion| -> Vec<Value> {
        result.found.iter().map(|found| one(found, result.registered)).collect()
    };
    let text = results.iter().find(|result| result.criterion == "text");
    json!({
        "schema": "penjing.backpatch/1",
        "task": work.task.name,
        "model": work.loaded.id,
        "prompts": pairs,
        "asked": all,
        "known_hops": known_hops,
        "wrong": results[0].wrong,
        "places": places(&results[0]),
        "by_text": text.map(|text| json!({ "wrong": text.wrong, "places": places(text) })),
    })
}
