//! `penjing score`: scores every edge, node or neuron and writes `scores.json`, or its part of it as a shard.

use super::Ended;
use super::constants;
use super::long_run::{Checkpoint, LongRun};
use super::options::{Scoring, Subject, level_parser};
use super::resources::Resources;
use super::scored::Scored;
use super::shard;
use super::term::{make_folder, note, print, print_json};
use super::work::Work;
use clap::Args;
use comfy_table::Table;
use penjing::graph::{self, Level};
use penjing::score::method::Listing;
use penjing::score::{METHODS, Method, Problem, ScoreError, Settings};
use penjing::spans::Spans;
use penjing::task::Split;
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct Score {
    /// List the methods with their cost, and stop
    #[arg(long, conflicts_with = "task")]
    list: bool,
    #[command(flatten)]
    subject: Option<Subject>,
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    resources: Resources,
    #[command(flatten)]
    long_run: LongRun,
    /// What gets a score: edges; nodes with the queries, keys and values of heads; or heads and neurons
    #[arg(long, default_value = "edge", value_parser = level_parser())]
    level: Level,
    /// Keep the scores of positions apart, in positions.json: of each, or of the places that the task names and all others
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with_all = ["shard", "per_pair"])]
    positions: Option<PositionsArgument>,
    /// Score only this part of the pairs, 0/4 to 3/4, for `penjing merge`; `auto`: as Slurm, MPI or torchrun number this
    /// process
    #[arg(long, value_name = "I/N")]
    shard: Option<String>,
    /// Write the scores of every pair too, into per-pair.npz, however much room they take
    #[arg(long)]
    per_pair: bool,
    /// Folder for scores.json and run.json (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy)]
pub enum PositionsArgument {
    Each,
    Named,
}

pub fn run(command: &Score, json: bool) -> anyhow::Result<Ended> {
    let Some(subject) = command.subject.as_ref().filter(|_| !command.list) else {
        return list(json);
    };
    let method = command.scoring.method(subject.seed)?;
    method.check_level(command.level, subject.ablation).map_err(penjing::Error::from)?;
    let shard = command.shard.as_deref().map(shard::parse).transpose()?;
    let work = Work::load(subject, &command.resources)?;
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&work.task.name, &work.loaded.id));
    make_folder(&out)?;
    let dataset = work.pairs(Split::Train, subject.pairs, subject.seed, subject.corruption.as_deref())?;
    if shard.is_some() && !method.adds_up() {
        return Err(penjing::Error::from(ScoreError::NotOfPairs { method: method.name() }).into());
    }
    let part = match shard {
        Some(shard) => shard.range(dataset.pairs.len()).map_err(penjing::Error::from)?,
        None => 0..dataset.pairs.len(),
    };
    let provenance = work.provenance(subject, &method, &dataset);
    // Intervals are of all pairs, so a shard has none.
    let whole = Problem { level: command.level, ..work.problem(&dataset.pairs, None) };
    let for_intervals =
        shard.is_none() && command.positions.is_none() && method.adds_up() && whole.has_room_for_pairs();
    let depends_on = work.identity(&provenance, &command.scoring, &dataset, command.per_pair)?;
    let depends_on = depends_on.with("level", &command.level.name().into()).with("intervals", &for_intervals.into());
    let spans = command.positions.map(|which| match which {
        PositionsArgument::Each => Spans::each(&dataset.pairs),
        PositionsArgument::Named => Spans::named(&dataset.pairs),
    });
    let depends_on = depends_on.with("positions", &json!(spans.as_ref().map(|spans| &spans.names)));
    if spans.is_some() {
        method.check_positions().map_err(penjing::Error::from)?;
    }
    let mut checkpoint = Checkpoint::new(&out, shard, depends_on, &command.long_run);
    let table = graph::Table::new(&work.graph, command.level, work.loaded.model.spec.d_mlp);
    let write_pairs = command.per_pair;
    let scored =
        Scored { work: &work, table, provenance: &provenance, dataset: &dataset, out: &out, shard, write_pairs, json };
    if let Some(shard) = shard.filter(|_| command.long_run.resume)
        && scored.is_written(shard, command.per_pair)?
    {
        note(&format!("shard {shard} is done already"));
        return Ok(Ended::Done);
    }
    // Every shard ablates with the same: constants are those of all pairs.
    let constants = constants::of_run(
        &work,
        subject.ablation,
        command.level,
        &dataset,
        (&out, &command.long_run),
        &mut checkpoint,
    )?;
    let problem = Problem {
        level: command.level,
        per_pair: command.per_pair || for_intervals,
        spans: spans.as_ref(),
        batch_size: command.scoring.batch,
        ..work.problem(&dataset.pairs[part], constants.as_ref())
    };
    let (state, seconds) = work.score(&problem, &method, &checkpoint)?;
    scored.write(&problem, &state, seconds)?;
    checkpoint.remove();
    Ok(Ended::Done)
}

fn list(json: bool) -> anyhow::Result<Ended> {
    let all: Vec<(&Listing, Vec<&str>)> = METHODS
        .into_iter()
        .zip(Method::all(&Settings::default()))
        .map(|(listing, method)| (listing, method.levels().iter().map(|level| level.name()).collect()))
        .collect();
    if json {
        let methods: Vec<_> = all
            .iter()
            .map(|(method, levels)| {
                json!({
                    "name": method.name,
                    "about": method.about,
                    "levels": levels,
                    "passes": method.passes,
                    "memory": method.memory,
                })
            })
            .collect();
        print_json(&json!({ "methods": methods }))?;
    } else {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header([
            "method",
            "levels",
            "what it is",
            "passes",
            "memory",
        ]);
        for (method, levels) in &all {
            table.add_row([method.name, &levels.join(", "), method.about, method.passes, method.memory]);
        }
        print(&table.to_string())?;
    }
    Ok(Ended::Done)
}
