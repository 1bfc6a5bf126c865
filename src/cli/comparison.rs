//! What `compare` prints and writes: tables for people, `comparison.json` for programs.

use comfy_table::{CellAlignment, Table, presets};
use penjing::compare::grid::Grid;
use penjing::compare::overlap::Overlap;
use penjing::compare::reference::Agreement;
use penjing::compare::{Compared, Pair, Summary};
use serde_json::{Value, json};

fn aligned(mut table: Table, columns: usize) -> Table {
    table.load_style(presets::NOTHING);
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A grid as text.
pub fn text(grid: &Grid) -> String {
    let mut table = Table::new();
    table.set_header(&grid.heading);
    table.add_rows(&grid.rows);
    let table = aligned(table, grid.heading.len()).to_string();
    if grid.sentences.is_empty() { table } else { format!("{table}\n\n{}", grid.sentences.join("\n")) }
}

/// A circuit against a published one.
pub fn reference_table(agreement: &[Agreement; 2]) -> Table {
    let mut table = Table::new();
    table.set_header(["", "chosen", "published", "both", "precision", "recall", "AUROC", "average precision"]);
    for (name, of) in ["edges", "nodes"].into_iter().zip(agreement) {
        let ranking = |number: fn(&penjing::compare::reference::Ranking) -> f64| {
            of.ranking.as_ref().map_or_else(|| "no scores.json".into(), |ranking| format!("{:.3}", number(ranking)))
        };
        table.add_row([
            name.to_owned(),
            of.chosen.to_string(),
            of.wanted.to_string(),
            of.both.to_string(),
            format!("{:.3}", of.precision),
            format!("{:.3}", of.recall),
            ranking(|ranking| ranking.auroc),
            ranking(|ranking| ranking.average_precision),
        ]);
    }
    aligned(table, 8)
}

/// `comparison.json`, `penjing.comparison/1`.
pub fn document(
    all: &[Compared],
    summaries: &[Summary],
    pairs: &[Pair],
    references: Option<&[[Agreement; 2]]>,
    by_edges: bool,
) -> Value {
    let circuits: Vec<Value> = all
        .iter()
        .zip(summaries)
        .map(|(one, of)| {
            json!({
                "name": one.name,
                "task": one.subject().map(|(task, _)| task),
                "model": one.subject().map(|(_, model)| model),
                "layers": of.layers,
                "heads_of_model": of.heads_of_model,
                "heads": of.heads,
                "mlps": of.mlps,
                "edges": of.edges,
                "share_of_edges": of.share_of_edges,
                "score_from_input_heads_mlps": of.written_by,
                "score_by_depth": of.by_depth,
                "faithfulness": of.faithfulness.map(|(value, _)| value),
                "faithfulness_interval": of.faithfulness.map(|(_, interval)| interval),
            })
        })
        .collect();
    let overlap = |of: &Overlap| {
        json!({
            "first": of.a, "second": of.b, "both": of.both, "of": of.of,
            "jaccard": of.jaccard, "interval": of.interval,
            "by_chance": of.chance, "by_chance_interval": of.chance_interval, "p": of.p,
        })
    };
    let pair = |pair: &Pair| {
        let [first, second] = pair.places.map(|place| &all[place]);
        let same = pair.same_graph.as_ref().filter(|_| by_edges).map(|same| {
            let graph = second.circuit.graph();
            let names = |edges: &[penjing::graph::Edge]| edges.iter().map(|edge| graph.name(*edge)).collect::<Vec<_>>();
            json!({
                "edges": overlap(&same.edges),
                "nodes": overlap(&same.nodes),
                "rank_correlation": same.rank_correlation.0,
                "only_first": names(&same.only_a),
                "only_second": names(&same.only_b),
            })
        });
        let names = |nodes: &[penjing::graph::Node]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let matched = pair.matching.pairs.iter().map(|pair| {
            json!({
                "first": pair.a.to_string(), "second": pair.b.to_string(),
                "depth": pair.cost.depth, "effect": pair.cost.profile, "role": pair.cost.role,
            })
        });
        json!({
            "first": first.name,
            "second": second.name,
            "same_graph": same,
            "matching": {
                "pairs": matched.collect::<Vec<_>>(),
                "only_first": names(&pair.matching.only_a),
                "only_second": names(&pair.matching.only_b),
                "cost": pair.matching.cost,
            },
        })
    };
    let mut document = json!({
        "schema": "penjing.comparison/1",
        "circuits": circuits,
        "pairs": pairs.iter().map(pair).collect::<Vec<_>>(),
    });
    if let Some(references) = references {
        let of = |of: &Agreement| {
            json!({
                "chosen": of.chosen, "published": of.wanted, "both": of.both, "of": of.of,
                "precision": of.precision, "recall": of.recall,
                "auroc": of.ranking.as_ref().map(|ranking| ranking.auroc),
                "average_precision": of.ranking.as_ref().map(|ranking| ranking.average_precision),
                "roc": of.ranking.as_ref().map(|ranking| &ranking.curve),
            })
        };
        let each = references.iter().map(|[edges, nodes]| json!({ "edges": of(edges), "nodes": of(nodes) }));
        document["references"] = Value::Array(each.collect());
    }
    document
}
