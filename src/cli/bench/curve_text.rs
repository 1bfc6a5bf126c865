//! What `penjing bench curve` says: tables, the document, the figure.

use super::super::table::table;
use crate::cli::options::Subject;
use crate::cli::work::Work;
use comfy_table::Table;
use penjing::eval::Outcome;
use penjing::eval::areas::SHARES;
use penjing::eval::bench::mean;
use penjing::eval::mib::{Areas, Curve, Selection, runs};
use penjing::render::Caption;
use penjing::render::curves::{Panel, panels};
use penjing::render::scene::Scene;
use penjing::render::style::Style;
use penjing::score::Method;
use serde_json::{Map, Value, json};

/// The curves of a method under one way of taking edges.
pub struct Bundle {
    pub selection: Selection,
    /// By score and by |score|.
    pub signed: Curve,
    pub absolute: Curve,
    pub areas: Areas,
}

/// What was measured of a method: with the best of all edges, and greedily.
pub struct Found<'a> {
    pub method: &'a Method,
    pub bundles: [Bundle; 2],
}

impl Found<'_> {
    /// The curves that MIB would measure.
    fn main(&self) -> &Bundle {
        self.of(Selection::of_method(self.method.name()))
    }

    fn of(&self, selection: Selection) -> &Bundle {
        let [top, greedy] = &self.bundles;
        if selection == Selection::Greedy { greedy } else { top }
    }
}

/// A method and its options, as files record them.
pub fn method_record(method: &Method) -> Value {
    let options: Map<String, Value> =
        method.options().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    json!({ "name": method.name(), "options": options })
}

/// What to mind where CPR says more than that circuits do well.
fn warning(found: &[Found]) -> Option<String> {
    let above = found.iter().filter(|one| one.main().areas.cpr > 1.0);
    let named: Vec<String> = above.map(|one| format!("{} ({:.3})", one.method.name(), one.main().areas.cpr)).collect();
    (!named.is_empty()).then(|| {
        format!(
            "CPR is above 1 for {}: these circuits leave out edges that hurt and so do better than the model whose circuits \
             they are. CPR can be raised that way without being more like the model; read CMD, accuracy and KL beside it",
            named.join(", ")
        )
    })
}

/// The document that `--json` prints and `curve.json` holds.
pub fn document(work: &Work, subject: &Subject, found: &[Found], empty: &Outcome, model: &Outcome) -> Value {
    let point = |curve: &Curve, index: usize| {
        let point = &curve.points[index];
        json!({
            "share": SHARES[index],
            "asked": point.asked,
            "edges": point.edges,
            "metric": point.outcome.mean_metric(),
            "faithfulness": curve.faithfulness[index],
            "interval": curve.intervals.faithfulness[index],
            "mean_of_ratios": curve.of_ratios[index],
            "accuracy": mean(&point.outcome.accuracy),
            "kl": mean(&point.outcome.kl),
        })
    };
    let points = |curve: &Curve| (0..SHARES.len()).map(|index| point(curve, index)).collect::<Vec<_>>();
    let bundle = |bundle: &Bundle| {
        let Bundle { signed, absolute, areas, .. } = bundle;
        json!({
            "cpr": areas.cpr,
            "cpr_interval": signed.intervals.cpr,
            "cmd": areas.cmd,
            "cmd_interval": absolute.intervals.cmd,
            "cpr_log": areas.cpr_log,
            "cpr_log_interval": signed.intervals.cpr_log,
            "cmd_log": areas.cmd_log,
            "cmd_log_interval": absolute.intervals.cmd_log,
            "cpr_mean_of_ratios": areas.cpr_of_ratios,
            "cmd_mean_of_ratios": areas.cmd_of_ratios,
            "signed": points(signed),
            "absolute": points(absolute),
        })
    };
    let method = |one: &Found| {
        let mut value = method_record(one.method);
        value["selection"] = json!(one.main().selection.name());
        value["cpr"] = json!(one.main().areas.cpr);
        value["cmd"] = json!(one.main().areas.cmd);
        for of in &one.bundles {
            value[of.selection.name()] = bundle(of);
        }
        value
    };
    json!({
        "schema": "penjing.bench-curve/1",
        "task": work.task.name,
        "model": work.loaded.id,
        "ablation": subject.ablation.name(),
        "pairs": subject.pairs,
        "evidence_pairs": model.metric.len(),
        "pairs_with_ratio": runs(&[], empty, model).pairs_with_ratio(),
        "seed": subject.seed,
        "edges_total": work.graph.edge_count(),
        "metric": work.task.metric.name(),
        "metric_model": model.mean_metric(),
        "metric_empty": empty.mean_metric(),
        "accuracy_model": mean(&model.accuracy),
        "accuracy_empty": mean(&empty.accuracy),
        "kl_empty": mean(&empty.kl),
        "methods": found.iter().map(method).collect::<Vec<_>>(),
        "warnings": warning(found).into_iter().collect::<Vec<_>>(),
    })
}

/// The tables.
pub fn text(work: &Work, found: &[Found], empty: &Outcome, model: &Outcome) -> String {
    let mut said = format!(
        "{} on {}, {} edges, {} pairs not used for scoring\n{}: model {:.3}, no edge {:.3}; accuracy: model {:.2}, no edge \
         {:.2}\n\n{}",
        work.task.name,
        work.loaded.id,
        work.graph.edge_count(),
        model.metric.len(),
        work.task.metric.name(),
        model.mean_metric(),
        empty.mean_metric(),
        mean(&model.accuracy),
        mean(&empty.accuracy),
        areas_table(found)
    );
    if let Some(warning) = warning(found) {
        said.push_str(&format!("\n\nwarning: {warning}"));
    }
    for one in found {
        said.push_str(&format!("\n\n{}", sizes_table(one)));
    }
    said
}

fn areas_table(found: &[Found]) -> Table {
    let within = |value, [low, high]: [f64; 2]| format!("{} [{}, {}]", three(value), three(low), three(high));
    let header = [
        "method",
        "edges by",
        "CPR",
        "CMD",
        "CPR log",
        "CMD log",
        "CPR ratios",
        "CMD ratios",
        "CPR greedy",
        "CMD greedy",
    ];
    let rows = found.iter().map(|one| {
        let Bundle { selection, signed, absolute, areas } = one.main();
        let greedy = one.of(Selection::Greedy).areas;
        vec![
            one.method.name().to_owned(),
            selection.name().to_owned(),
            within(areas.cpr, signed.intervals.cpr),
            within(areas.cmd, absolute.intervals.cmd),
            three(areas.cpr_log),
            three(areas.cmd_log),
            three(areas.cpr_of_ratios),
            three(areas.cmd_of_ratios),
            three(greedy.cpr),
            three(greedy.cmd),
        ]
    });
    table(&header, 2, rows)
}

fn sizes_table(one: &Found) -> String {
    let Bundle { selection, signed, absolute, .. } = one.main();
    let rows = SHARES.iter().enumerate().map(|(index, share)| {
        let mut row = vec![percent(*share), signed.points[index].asked.to_string()];
        for curve in [signed, absolute] {
            let point = &curve.points[index];
            row.extend([
                point.edges.to_string(),
                three(curve.faithfulness[index]),
                format!("{:.2}", mean(&point.outcome.accuracy)),
                three(mean(&point.outcome.kl)),
            ]);
        }
        row
    });
    let header = ["share", "asked", "edges", "f", "accuracy", "KL", "|edges|", "|f|", "|accuracy|", "|KL|"];
    format!(
        "{}, {}: edges left by pruning, faithfulness, accuracy and KL by score, then by |score|\n{}",
        one.method.name(),
        selection.name(),
        table(&header, 0, rows)
    )
}

/// Three decimals, without a sign on nothing.
fn three(value: f64) -> String {
    let text = format!("{value:.3}");
    if text == "-0.000" { "0.000".into() } else { text }
}

/// A share as a percentage without rounding noise.
fn percent(share: f64) -> String {
    let percent = format!("{:.1}", 100.0 * share);
    format!("{} %", percent.trim_end_matches(".0"))
}

/// A panel for each method.
pub fn figure(work: &Work, found: &[Found], pairs: usize, style: &Style) -> Scene {
    let panel = |one: &Found| {
        let Bundle { signed, absolute, areas, .. } = one.main();
        Panel {
            name: one.method.name().to_owned(),
            numbers: format!("CPR {:.2}, CMD {:.2}", areas.cpr, areas.cmd),
            signed: signed.faithfulness.clone(),
            interval: signed.intervals.faithfulness.clone(),
            absolute: absolute.faithfulness.clone(),
        }
    };
    let caption = Caption {
        title: format!("{} in {}", work.task.title, work.loaded.id),
        subtitle: format!("Faithfulness of circuits of growing size, {pairs} held-out pairs"),
    };
    panels(&SHARES, &found.iter().map(panel).collect::<Vec<_>>(), &caption, style)
}
