//! `penjing run`: a prompt with edits: what the model says next and goes on to say, before and after.

use super::Ended;
use super::inside::{Edits, OnPrompt};
use super::results::Results;
use super::term::{Usage, make_folder, print, print_json};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use penjing::inside::generate::{Continuation, Run, Sampling, divergence, likeliest, run as run_once};
use penjing::intervene::plan::Plan;
use penjing::intervene::receipt::Touched;
use penjing::render::bars::{Bar, bars};
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::tokenizer::Tokenizer;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct RunCommand {
    #[command(flatten)]
    on: OnPrompt,
    #[command(flatten)]
    edits: Edits,
    /// How many tokens may follow the prompt
    #[arg(long, default_value_t = 0, value_name = "N")]
    generate: usize,
    /// 0 takes the likeliest token; above it, tokens are drawn
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    temperature: f64,
    /// Draw only among the likeliest tokens that have this probability together
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    top_p: f64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many of the likeliest next tokens are shown
    #[arg(long, default_value_t = 8, value_name = "N")]
    top: usize,
    /// Folder for run.json, run.html and next.svg
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &RunCommand, as_json: bool) -> anyhow::Result<Ended> {
    let RunCommand { on, edits, generate, temperature, top_p, seed, top, out } = command;
    if !(temperature.is_finite() && *temperature >= 0.0 && *top_p > 0.0 && *top_p <= 1.0) {
        let message = format!("--temperature {temperature} --top-p {top_p} draw nothing");
        return Err(Usage { message, hint: "a temperature is 0 or more, --top-p above 0 and at most 1".into() }.into());
    }
    let plan = edits.plan()?;
    let ready = on.ready(*generate)?;
    let (model, tokenizer) = (&ready.loaded.model, &ready.loaded.tokenizer);
    let supplies = edits.supplies(on, &ready, &plan)?;
    let sampling = Sampling { temperature: *temperature, top_p: *top_p, seed: *seed };
    let stop = tokenizer.end_tokens();
    let continuation = Continuation { count: *generate, sampling, stop };
    let run = |plan: &Plan| {
        let of = (plan, &ready.prompt, &supplies);
        run_once(model, &ready.tokens, of, &continuation).map_err(penjing::Error::from)
    };
    if let Some(out) = out {
        make_folder(out)?;
    }
    let before = run(&Plan::default())?;
    let after = if plan.edits.is_empty() { None } else { Some(run(&plan)?) };
    let document = document(&ready.tokens, tokenizer, &plan, &before, after.as_ref(), *top);
    let mut said = vec![format!("{} tokens: {}", ready.tokens.len(), tokens(tokenizer, &ready.tokens))];
    said.extend(after.iter().flat_map(|after| &after.receipt.entries).map(ToString::to_string));
    said.push(format!("\n{}", table(tokenizer, &before, after.as_ref(), *top)));
    if let Some(after) = &after {
        let nats = divergence(&before.next, &after.next);
        said.push(format!("\nKL of the next token, before from after: {nats:.4} nats"));
    }
    if *generate > 0 {
        let text = |run: &Run| tokenizer.decode(&run.tokens).map_err(penjing::Error::from);
        match &after {
            None => said.push(format!("\n{}", text(&before)?)),
            Some(after) => said.push(format!("\nbefore: {}\nafter:  {}", text(&before)?, text(after)?)),
        }
    }
    let said = said.join("\n");
    if let Some(out) = out {
        let mut results = Results::new(out, "run", &document)?;
        results.picture("next.svg", &picture(tokenizer, &before, after.as_ref(), *top))?;
        results.page(&format!("{:?} in {}", on.prompt, ready.loaded.id), &said)?;
    }
    if as_json {
        print_json(&document)?;
    } else {
        print(&said)?;
    }
    Ok(Ended::Done)
}

/// What the edits change of the probabilities of the likeliest tokens, before and after; without edits the probabilities.
fn picture(tokenizer: &Tokenizer, before: &Run, after: Option<&Run>, top: usize) -> Scene {
    let mut ids: Vec<u32> = Vec::new();
    for (id, _) in std::iter::once(before).chain(after).flat_map(|run| likeliest(&run.next, top)) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let share = |run: &Run, id: u32| run.next.double_value(&[i64::from(id)]).exp();
    let change = |id: u32| match after {
        None => share(before, id),
        Some(after) => share(after, id) - share(before, id),
    };
    let bar = |id: u32| Bar { name: format!("{:?}", tokenizer.token_text(id)), value: change(id), interval: None };
    let what = if after.is_some() { "change of probability" } else { "probability" };
    bars(&ids.into_iter().map(bar).collect::<Vec<_>>(), "The next token", what, &Style::default())
}

/// Tokens with their spaces to be seen.
fn tokens(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    tokenizer.token_texts(ids).iter().map(|token| format!("{token:?}")).collect::<Vec<_>>().join(" ")
}

fn table(tokenizer: &Tokenizer, before: &Run, after: Option<&Run>, top: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let columns: Vec<Vec<(u32, f64)>> =
        std::iter::once(before).chain(after).map(|run| likeliest(&run.next, top)).collect();
    table.set_header(match after {
        None => vec!["next token", "probability"],
        Some(_) => vec!["before", "probability", "after", "probability"],
    });
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    for row in 0..rows {
        let cells = columns.iter().flat_map(|column| match column.get(row) {
            Some((id, probability)) => [format!("{:?}", tokenizer.token_text(*id)), format!("{probability:.4}")],
            None => [String::new(), String::new()],
        });
        table.add_row(cells);
    }
    for column in [1, 3] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn document(
    prompt: &[u32],
    tokenizer: &Tokenizer,
    plan: &Plan,
    before: &Run,
    after: Option<&Run>,
    top: usize,
) -> Value {
    let of_run = |run: &Run| {
        let next = likeliest(&run.next, top).into_iter();
        json!({
            "next": next.map(|(id, probability)| json!({ "id": id, "token": tokenizer.token_text(id), "probability": probability })).collect::<Vec<_>>(),
            "generated": run.tokens,
            "text": tokenizer.decode(&run.tokens).unwrap_or_default(),
        })
    };
    let touched = |entry: &Touched| {
        json!({
            "edit": entry.action,
            "site": entry.site,
            "positions": entry.positions,
            "values": entry.values,
            "changed": entry.changed,
            "l2_change": entry.l2_change,
            "max_change": entry.max_change,
        })
    };
    json!({
        "prompt": prompt,
        "tokens": tokenizer.token_texts(prompt),
        "edits": plan.edits.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "before": of_run(before),
        "after": after.map(of_run),
        "kl": after.map(|after| divergence(&before.next, &after.next)),
        "receipt": after.map(|after| after.receipt.entries.iter().map(touched).collect::<Vec<_>>()),
    })
}
