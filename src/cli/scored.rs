//! What a scoring run leaves in its output folder and says: of all pairs `scores.json`, of a part of them `shard-I-of-N.json`.

use super::record::run_record;
use super::term::{print, print_json, write};
use super::work::Work;
use comfy_table::Table;
use penjing::circuit::file::Provenance;
use penjing::circuit::shard_file::{self, ShardScores};
use penjing::circuit::{pair_scores, position_scores, scores_file};
use penjing::dataset::Dataset;
use penjing::graph::scores::Scores;
use penjing::graph::{self, Level};
use penjing::score::{Problem, State};
use penjing::shard::Shard;
use penjing::statistics::means::{intervals_of_means, of_one_sign};
use penjing::statistics::resample::RESAMPLES;
use serde_json::json;
use std::path::Path;

/// A run whose numbers are to be written.
pub struct Scored<'a> {
    pub work: &'a Work,
    pub table: graph::Table<'a>,
    pub provenance: &'a Provenance,
    pub dataset: &'a Dataset,
    pub out: &'a Path,
    pub shard: Option<Shard>,
    /// Whether the scores of every pair are written, where they were kept.
    pub write_pairs: bool,
    pub json: bool,
}

impl Scored<'_> {
    /// Whether the folder holds what this shard of this run found.
    ///
    /// # Errors
    /// None in practice: a provenance holds nothing that JSON has not.
    pub fn is_written(&self, shard: Shard, per_pair: bool) -> anyhow::Result<bool> {
        let wanted = self.of_shard(shard, per_pair, ndarray::Array2::zeros((0, 0)));
        let Ok(read) = shard_file::read(&self.out.join(file_name("shard", Some(shard), "json"))) else {
            return Ok(false);
        };
        let found = read.scores;
        let pairs = file_name("per-pair", Some(shard), "npz");
        Ok(read.level == self.table.level()
            && found.shard == shard
            && found.run()? == wanted.run()?
            && (!per_pair || self.out.join(pairs).exists()))
    }

    /// # Errors
    /// Numbers that are none, and files that cannot be written.
    pub fn write(&self, problem: &Problem, state: &State, seconds: f64) -> anyhow::Result<()> {
        let Scored { table, provenance, out, shard, .. } = *self;
        let part = shard.and_then(|shard| shard.range(provenance.pairs).ok()).unwrap_or_default();
        let scores = state.scores(problem).map_err(|error| penjing::Error::from(error.of_pairs_from(part.start)))?;
        if let Some(spans) = problem.spans {
            return self.write_positions(&spans.names, state, seconds);
        }
        let intervals = state.per_pair.as_ref().filter(|_| shard.is_none() && state.pairs > 1);
        let intervals = intervals.map(|per_pair| intervals_of_means(per_pair.view(), RESAMPLES, provenance.seed));
        let (name, text) = match shard {
            None => {
                let text = match &intervals {
                    None => scores_file::to_json(&table, &scores, provenance),
                    Some(intervals) => scores_file::to_json_with_intervals(&table, &scores, intervals, provenance),
                };
                ("scores.json".to_owned(), text)
            }
            Some(of) => {
                let found = self.of_shard(of, state.per_pair.is_some(), state.sums.clone());
                (file_name("shard", shard, "json"), shard_file::to_json(&table, &found))
            }
        };
        // The scores of each pair first: where the others are, these are too.
        if let Some(per_pair) = state.per_pair.as_ref().filter(|_| self.write_pairs) {
            let bytes = pair_scores::to_npz(&table, per_pair).map_err(penjing::Error::from)?;
            write(out, &file_name("per-pair", shard, "npz"), &bytes)?;
        }
        write(out, &name, text.map_err(penjing::Error::from)?.as_bytes())?;
        let record = serde_json::to_string_pretty(&run_record(provenance, &[("score", seconds)]))? + "\n";
        write(out, &file_name("run", shard, "json"), record.as_bytes())?;
        self.say(&scores, intervals.as_deref(), &name, state.pairs, seconds)
    }

    /// Writes and shows what each position has by itself. With methods that patch, what several have together may be more or
    /// less than the sum, so there is none.
    fn write_positions(&self, positions: &[String], state: &State, seconds: f64) -> anyhow::Result<()> {
        let Scored { table: of, work, provenance, out, json, .. } = *self;
        let scores = state.scores_of_spans(&of);
        let text = position_scores::to_json(&of, positions, &scores, provenance).map_err(penjing::Error::from)?;
        write(out, "positions.json", text.as_bytes())?;
        let record = serde_json::to_string_pretty(&run_record(provenance, &[("score", seconds)]))? + "\n";
        write(out, "run.json", record.as_bytes())?;
        let method = &provenance.method.name;
        if json {
            return print_json(&json!({
                "task": work.task.name,
                "model": work.loaded.id,
                "method": method,
                "level": of.level().name(),
                "pairs": state.pairs,
                "positions": positions,
                "seconds": seconds,
                "out": out,
            }));
        }
        let of_span = |span| of.cells().into_iter().map(move |cell| (span, cell));
        let mut all: Vec<(usize, [usize; 2])> = (0..positions.len()).flat_map(of_span).collect();
        let score = |&(span, cell): &(usize, [usize; 2])| scores[span].values[cell];
        all.sort_by(|a, b| score(b).abs().total_cmp(&score(a).abs()).then(a.cmp(b)));
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header([of.level().name(), "position", "score"]);
        for one in all.iter().take(20) {
            table.add_row([of.name(one.1), positions[one.0].clone(), format!("{:+.4}", score(one))]);
        }
        let (count, plural, path) = (of.count(), of.level().plural(), out.join("positions.json"));
        print(&format!(
            "{table}\n\n{count} {plural} at {} positions scored by {method} in {seconds:.1} s: {}",
            positions.len(),
            path.display()
        ))
    }

    fn of_shard(&self, shard: Shard, per_pair: bool, sums: ndarray::Array2<f64>) -> ShardScores {
        ShardScores {
            provenance: self.provenance.clone(),
            weights: self.work.loaded.model.fingerprint(),
            tokens: self.dataset.hash(),
            shard,
            per_pair,
            sums,
        }
    }

    /// `intervals`: of all scores, in the order of the table.
    fn say(
        &self,
        scores: &Scores,
        intervals: Option<&[[f64; 2]]>,
        name: &str,
        pairs: usize,
        seconds: f64,
    ) -> anyhow::Result<()> {
        let Scored { work, table: of, provenance, out, shard, json, .. } = *self;
        let method = &provenance.method.name;
        if json {
            let mut document = json!({
                "task": work.task.name,
                "model": work.loaded.id,
                "method": method,
                "pairs": pairs,
                format!("{}_total", of.level().plural()): of.count(),
                "seconds": seconds,
                "out": out,
            });
            if of.level() != Level::Edge {
                document["level"] = json!(of.level().name());
            }
            if let Some(intervals) = intervals {
                document["one_sign"] = json!(of_one_sign(intervals));
            }
            if let Some(shard) = shard {
                document["shard"] = json!(shard.to_string());
            }
            return print_json(&document);
        }
        let path = out.join(name);
        if let Some(shard) = shard {
            return print(&format!(
                "shard {shard}, {pairs} of {} pairs scored by {method} in {seconds:.1} s: {}",
                provenance.pairs,
                path.display()
            ));
        }
        let mut cells: Vec<(usize, [usize; 2])> = of.cells().into_iter().enumerate().collect();
        let score = |&(_, cell): &(usize, [usize; 2])| scores.values[cell];
        cells.sort_by(|a, b| score(b).abs().total_cmp(&score(a).abs()).then(a.1.cmp(&b.1)));
        let mut table = Table::new();
        let header = if of.level() == Level::Edge { "edge" } else { "unit" };
        let header = [header, "score"].into_iter().chain(intervals.map(|_| "95 %"));
        table.load_style(comfy_table::presets::NOTHING).set_header(header);
        for one in cells.iter().take(20) {
            let mut row = vec![of.name(one.1), format!("{:+.4}", score(one))];
            row.extend(intervals.map(|of_all| {
                let [low, high] = of_all[one.0];
                format!("[{low:+.4}, {high:+.4}]")
            }));
            table.add_row(row);
        }
        let (count, plural) = (cells.len(), of.level().plural());
        let signs = intervals.map_or(String::new(), |of_all| {
            let one_sign = of_one_sign(of_all);
            format!("\n{one_sign} of {count} have one sign in their 95 % intervals, over {pairs} pairs drawn anew {RESAMPLES} times")
        });
        print(&format!("{table}\n\n{count} {plural} scored by {method} in {seconds:.1} s: {}{signs}", path.display()))
    }
}

/// `run.json`, or `run-0-of-4.json` for a shard: all shards of a run may share a folder.
fn file_name(stem: &str, shard: Option<Shard>, ending: &str) -> String {
    match shard {
        Some(shard) => format!("{stem}-{}.{ending}", shard.in_names()),
        None => format!("{stem}.{ending}"),
    }
}
