//! `penjing score`: scores every edge and writes `scores.json`.

use super::Ended;
use super::options::{Scoring, Subject};
use super::resources::Resources;
use super::term::{make_folder, print, print_json, write};
use super::work::{Work, run_record};
use clap::Args;
use comfy_table::Table;
use penjing::circuit::scores_file;
use penjing::score::METHODS;
use penjing::task::Split;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Score {
    /// List the methods with their cost, and stop
    #[arg(long, exclusive = true)]
    list: bool,
    #[command(flatten)]
    subject: Option<Subject>,
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    resources: Resources,
    /// Folder for scores.json and run.json (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Score, json: bool) -> anyhow::Result<Ended> {
    let Some(subject) = command.subject.as_ref().filter(|_| !command.list) else {
        return list(json);
    };
    let method = command.scoring.method(subject.seed)?;
    let work = Work::load(subject, &command.resources)?;
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&work.task.name, &work.loaded.id));
    make_folder(&out)?;
    let dataset = work.pairs(Split::Train, subject.pairs, subject.seed, subject.corruption.as_deref())?;
    let (scores, seconds) = work.score(&method, &command.scoring, &dataset.pairs)?;
    let provenance = work.provenance(subject, &method, &dataset);
    let record = run_record(&provenance, &[("score", seconds)]);
    let text = scores_file::to_json(&work.graph, &scores, &provenance).map_err(penjing::Error::from)?;
    write(&out, "scores.json", text.as_bytes())?;
    write(&out, "run.json", (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    if json {
        print_json(&json!({
            "task": work.task.name,
            "model": work.loaded.id,
            "method": method.name(),
            "pairs": dataset.pairs.len(),
            "edges_total": work.graph.edge_count(),
            "seconds": seconds,
            "out": out,
        }))?;
    } else {
        let mut edges = work.graph.edges().to_vec();
        edges.sort_by(|a, b| scores.get(*b).abs().total_cmp(&scores.get(*a).abs()).then(a.cmp(b)));
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["edge", "score"]);
        for &edge in edges.iter().take(20) {
            table.add_row([work.graph.name(edge), format!("{:+.4}", scores.get(edge))]);
        }
        print(&format!(
            "{table}\n\n{} edges scored by {} in {seconds:.1} s: {}",
            edges.len(),
            method.name(),
            out.join("scores.json").display()
        ))?;
    }
    Ok(Ended::Done)
}

fn list(json: bool) -> anyhow::Result<Ended> {
    if json {
        let methods: Vec<_> = METHODS
            .iter()
            .map(|method| json!({"name": method.name, "about": method.about, "passes": method.passes, "memory": method.memory}))
            .collect();
        print_json(&json!({ "methods": methods }))?;
    } else {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["method", "what it is", "passes", "memory"]);
        for method in METHODS {
            table.add_row([method.name, method.about, method.passes, method.memory]);
        }
        print(&table.to_string())?;
    }
    Ok(Ended::Done)
}
