//! `penjing merge`: puts the shards of a scoring run together and writes what an undivided run would have written.

use super::Ended;
use super::record::run_record;
use super::term::{Usage, make_folder, print, print_json, write};
use clap::Args;
use ndarray::Array2;
use penjing::circuit::merge::Merged;
use penjing::circuit::{pair_scores, scores_file};
use penjing::error::FileError;
use penjing::shard::Shard;
use penjing::statistics::means::intervals_of_means;
use penjing::statistics::resample::RESAMPLES;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Merge {
    /// Shard files, or folders with shard-*-of-*.json
    #[arg(required = true, value_name = "SHARDS")]
    shards: Vec<PathBuf>,
    /// Folder for scores.json and run.json (default: that of the first shard)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(command: &Merge, json: bool) -> anyhow::Result<Ended> {
    let mut files = Vec::new();
    for named in &command.shards {
        files.extend(if named.is_dir() { shards_in(named)? } else { vec![named.clone()] });
    }
    let merged = Merged::read(&files).map_err(penjing::Error::from)?;
    let folder = || merged.files.first().and_then(|file| file.parent()).unwrap_or(Path::new("")).to_owned();
    let out = command.out.clone().unwrap_or_else(folder);
    let out = if out.as_os_str().is_empty() { PathBuf::from(".") } else { out };
    make_folder(&out)?;
    let per_pair = if merged.per_pair { Some(per_pair(&merged)?) } else { None }; // [pair, edge or unit]
    let (table, scores, provenance) = (merged.table(), merged.scores(), &merged.provenance);
    let text = match per_pair.as_ref().filter(|per_pair| per_pair.nrows() > 1) {
        None => scores_file::to_json(&table, &scores, provenance),
        Some(per_pair) => {
            let intervals = intervals_of_means(per_pair.view(), RESAMPLES, provenance.seed);
            scores_file::to_json_with_intervals(&table, &scores, &intervals, provenance)
        }
    };
    let mut record = run_record(&merged.provenance, &[]);
    record["shards"] = json!(merged.files);
    write(&out, "scores.json", text.map_err(penjing::Error::from)?.as_bytes())?;
    if let Some(per_pair) = per_pair {
        write(&out, "per-pair.npz", &pair_scores::to_npz(&table, &per_pair).map_err(penjing::Error::from)?)?;
    }
    write(&out, "run.json", (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    let (shards, pairs) = (merged.files.len(), merged.provenance.pairs);
    if json {
        print_json(&json!({
            "shards": shards,
            "pairs": pairs,
            format!("{}_total", merged.level.plural()): merged.table().count(),
            "per_pair": merged.per_pair,
            "out": out,
        }))?;
    } else {
        let scores = out.join("scores.json");
        print(&format!("{shards} shards with {pairs} pairs put together: {}", scores.display()))?;
    }
    Ok(Ended::Done)
}

/// The shard files of a folder.
fn shards_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let failed = |source| penjing::Error::from(FileError::reading(folder)(source));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("shard-") && name.ends_with(".json")) {
            found.push(entry.path());
        }
    }
    found.sort();
    if found.is_empty() {
        let message = format!("{} holds no shard", folder.display());
        let hint = "`penjing score TASK --shard 0/4` writes shard-0-of-4.json into its --out folder".to_owned();
        return Err(Usage { message, hint }.into());
    }
    Ok(found)
}

/// The scores of every pair, from the files beside the shards: `[pair, edge or unit]`.
fn per_pair(merged: &Merged) -> anyhow::Result<Array2<f32>> {
    let table = merged.table();
    let mut parts = Vec::new();
    for (index, file) in merged.files.iter().enumerate() {
        let shard = Shard { index, count: merged.files.len() };
        let pairs = shard.range(merged.provenance.pairs).map_err(penjing::Error::from)?.len();
        let beside = file.with_file_name(format!("per-pair-{}.npz", shard.in_names()));
        parts.push(pair_scores::read(&beside, (pairs, table.count())).map_err(penjing::Error::from)?);
    }
    Ok(pair_scores::concatenate(&parts, table.count()))
}
