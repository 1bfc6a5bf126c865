//! What `penjing bench stability` says: a table with a verdict for each row, the document, the figure.

use super::curve_text::method_record;
use super::stability::{Changed, Measured, Row};
use crate::cli::choice::Choice;
use crate::cli::options::Subject;
use crate::cli::work::Work;
use comfy_table::{CellAlignment, Table, presets};
use penjing::circuit::EdgeMask;
use penjing::circuit::file::Options;
use penjing::circuit::verdict::STABLE;
use penjing::dataset::Dataset;
use penjing::render::bars::{Bar, bars};
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::score::Method;
use penjing::statistics::interval::quantile;
use serde_json::{Value, json};

/// Circuits of so many names are shown two by two.
const SHOWN: usize = 6;

impl Row {
    fn is_stable(&self) -> bool {
        self.several.mean >= STABLE
    }

    fn verdict(&self) -> String {
        if self.is_stable() { format!("stable (>= {STABLE})") } else { format!("not stable (< {STABLE})") }
    }

    /// Within which 95 of 100 of the indices lie.
    fn range(&self) -> [f64; 2] {
        [0.025, 0.975].map(|share| quantile(&self.several.sorted, share))
    }

    fn lowest(&self) -> f64 {
        self.several.matrix[self.several.lowest]
    }
}

fn names(work: &Work, mask: &EdgeMask) -> Vec<String> {
    mask.edges(&work.graph).into_iter().map(|edge| work.graph.name(edge)).collect()
}

/// The document that `--json` prints and `stability.json` holds.
pub fn document(
    work: &Work,
    (subject, method, choice): (&Subject, &Method, &Choice),
    dataset: &Dataset,
    found: &Measured,
) -> Value {
    let row = |row: &Row| {
        let several = &row.several;
        let mut value = json!({
            "changed": row.changed.name(),
            "circuits": row.with_base.len(),
            "jaccard": several.mean,
            "range": row.range(),
            "lowest": row.lowest(),
            "chance": several.chance,
            "with_own": row.with_base.iter().sum::<f64>() / row.with_base.len() as f64,
            "stable": row.is_stable(),
            "verdict": row.verdict(),
            "empty": several.empty,
            "core": names(work, &several.core),
        });
        if row.changed == Changed::Seeds {
            value["same_pairs"] = json!(found.same_pairs);
        }
        if !row.names.is_empty() {
            value["names"] = json!(row.names);
            value["pairs"] = json!(row.pairs);
            value["lowest_of"] = json!(several.lowest.map(|place| &row.names[place]));
            value["with_own_of"] = json!(row.with_base);
            value["matrix"] = several.matrix.rows().into_iter().map(|row| json!(row.to_vec())).collect();
        }
        value
    };
    let ranking = choice.ranking();
    let mut selection = Options::new();
    selection.insert("rank".into(), json!(ranking.name()));
    selection.insert("ranked".into(), json!(found.ranked));
    choice.record(ranking, None, &mut selection);
    if choice.consistent {
        selection.insert("consistent".into(), json!(true));
    }
    json!({
        "schema": "penjing.bench-stability/1",
        "task": work.task.name,
        "model": work.loaded.id,
        "method": method_record(method),
        "ablation": subject.ablation.name(),
        "corruption": subject.corruption,
        "pairs": dataset.pairs.len(),
        "seed": subject.seed,
        "selection": selection,
        "edges": found.base.count(),
        "edges_total": work.graph.edge_count(),
        "circuit": names(work, &found.base),
        "stable_from": STABLE,
        "rows": found.rows.iter().map(row).collect::<Vec<_>>(),
        "core": names(work, &found.core),
        "left_out": found
            .left_out
            .iter()
            .map(|(changed, why)| json!({ "changed": changed.name(), "why": why }))
            .collect::<Vec<_>>(),
    })
}

fn on_the_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// What the command prints.
pub fn text(
    work: &Work,
    (subject, method, choice): (&Subject, &Method, &Choice),
    dataset: &Dataset,
    found: &Measured,
) -> String {
    let total = work.graph.edge_count();
    let mut said = vec![format!(
        "{} in {}: the first {} of {total} edges ({:.1} %) by {} on {} pairs, ranked {}, ablation {}; {} without dead ends\n",
        work.task.name,
        work.loaded.id,
        found.ranked,
        100.0 * found.ranked as f64 / total as f64,
        method.name(),
        dataset.pairs.len(),
        choice.ranking().name(),
        subject.ablation.name(),
        found.base.count(),
    )];
    let mut table = Table::new();
    let header = ["changed", "circuits", "Jaccard mean", "95 of 100", "lowest", "by chance", "in all", "verdict"];
    table.load_style(presets::NOTHING).set_header(header);
    for row in &found.rows {
        let [low, high] = row.range();
        table.add_row([
            row.changed.words().to_owned(),
            row.with_base.len().to_string(),
            format!("{:.3}", row.several.mean),
            format!("{low:.3} to {high:.3}"),
            format!("{:.3}", row.lowest()),
            format!("{:.3}", row.several.chance),
            row.several.core.count().to_string(),
            row.verdict(),
        ]);
    }
    on_the_right(&mut table, 1..7);
    said.push(table.to_string());
    for row in found.rows.iter().filter(|row| (2..=SHOWN).contains(&row.names.len()) && row.changed != Changed::Seeds) {
        let mut table = Table::new();
        let header = std::iter::once(row.changed.words()).chain(row.names.iter().map(String::as_str));
        table.load_style(presets::NOTHING).set_header(header);
        for (name, row) in row.names.iter().zip(row.several.matrix.rows()) {
            table.add_row(std::iter::once(name.clone()).chain(row.iter().map(|index| format!("{index:.3}"))));
        }
        on_the_right(&mut table, 1..row.names.len() + 1);
        said.push(format!("\n{table}"));
    }
    said.push(String::new());
    for row in found.rows.iter().filter(|row| row.several.empty > 0) {
        let (empty, all) = (row.several.empty, row.with_base.len());
        said.push(format!("{}: {empty} of {all} selections hold no path to the logits", row.changed.words()));
    }
    if let Some(share) = found.same_pairs {
        said.push(format!("two seeds have {:.0} % of their pairs in common", 100.0 * share));
    }
    said.push(format!("{} of {} edges are in every selection of every row", found.core.count(), found.base.count()));
    said.join("\n")
}

/// The mean index of each row, with where 95 of 100 lie.
pub fn figure(work: &Work, found: &Measured, style: &Style) -> Scene {
    let bar =
        |row: &Row| Bar { name: row.changed.words().to_owned(), value: row.several.mean, interval: Some(row.range()) };
    let title = format!("{} in {}: what the selection shares when something changes", work.task.title, work.loaded.id);
    bars(&found.rows.iter().map(bar).collect::<Vec<_>>(), &title, "Jaccard index, 95 of 100", style)
}
