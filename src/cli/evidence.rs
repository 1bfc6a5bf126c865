//! The evidence for a circuit as `discover` and `evaluate` print it: numbers, a verdict in words, warnings, and every part with
//! what its removal costs.

use comfy_table::{CellAlignment, Table, presets};
use penjing::circuit::evidence::{EdgeStability, Stability};
use penjing::circuit::evidence_file::HeldOutV1;
use penjing::circuit::file::Circuit;
use penjing::circuit::report::{EdgeCost, NodeCost, RandomBaseline, Report};
use penjing::circuit::validity::warnings;
use penjing::circuit::verdict::{Finding, verdict, with_interval};
use penjing::graph::{Level, Source};
use penjing::score::acdc;
use serde_json::{Value, json};

/// Where a circuit's selection records what it was chosen by, if not by edges.
pub const LEVEL: &str = "level";

/// What a circuit was chosen by.
pub fn level_of(circuit: &Circuit) -> Level {
    let selection = circuit.provenance.selection.as_ref();
    let level = selection.and_then(|selection| selection.options.get(LEVEL)).and_then(Value::as_str);
    level.and_then(Level::parse).unwrap_or_default()
}

/// What the report supports, held against the faithfulness that the circuit was selected for.
pub fn findings(circuit: &Circuit, report: &Report) -> Vec<Finding> {
    let selection = circuit.provenance.selection.as_ref();
    let asked = selection.and_then(|selection| selection.options.get("target")).and_then(Value::as_f64);
    verdict(report, level_of(circuit), asked)
}

/// The numbers of a circuit by the names that `--json` promises.
pub fn summary(circuit: &Circuit, report: &Report) -> Value {
    let mut value = json!({
        "task": circuit.provenance.task.name,
        "model": circuit.provenance.model.id,
        "method": circuit.provenance.method.name,
        "ablation": circuit.provenance.ablation,
        "nodes": circuit.mask.nodes(&circuit.graph).len(),
        "edges": circuit.mask.count(),
        "edges_total": circuit.graph.edge_count(),
        "pairs": report.pairs,
        "metric": report.metric,
        "metric_model": report.metric_model,
        "metric_ablated": report.metric_ablated,
        "metric_circuit": report.metric_circuit,
        "faithfulness": report.faithfulness,
        "faithfulness_interval": report.faithfulness_interval,
        "completeness": report.completeness,
        "accuracy_model": report.accuracy_model,
        "accuracy_ablated": report.accuracy_ablated,
        "accuracy_circuit": report.accuracy_circuit,
        "kl": report.kl,
        "random_mean": report.random.as_ref().map(|random| random.mean),
        "random_max": report.random.as_ref().map(|random| random.max),
        "random_of_degree_max": report.random_of_degree.as_ref().map(|random| random.max),
        "jaccard": report.stability.as_ref().map(|stability| stability.jaccard),
        "jaccard_range": report.stability.as_ref().map(|stability| stability.jaccard_range),
        "resamples": report.stability.as_ref().map(|stability| stability.resamples),
        "tests": report.tests.iter().map(|test| json!({
            "hypothesis": test.hypothesis.name(),
            "count": test.count,
            "of": test.of,
            "p": test.p,
            "p_adjusted": test.p_adjusted,
            "holds": test.holds(),
        })).collect::<Vec<Value>>(),
        "held_out": report.held_out.as_ref().map(HeldOutV1::from),
        "verdict": findings(circuit, report).iter().map(|Finding { claim, standing, words }| json!({
            "claim": claim,
            "standing": standing.words(),
            "because": words,
        })).collect::<Vec<Value>>(),
        "warnings": warnings(report).iter().map(ToString::to_string).collect::<Vec<String>>(),
    });
    if let Some([edges, total]) = counted_by_acdc(circuit) {
        value["edges_by_acdc"] = json!(edges);
        value["edges_total_by_acdc"] = json!(total);
    }
    value
}

/// Edges of a circuit and of its model as ACDC counts them, where the circuit was found on ACDC's own graph.
fn counted_by_acdc(circuit: &Circuit) -> Option<[usize; 2]> {
    let nodes = circuit.provenance.method.options.get("nodes")?.as_str()?;
    let graph = &circuit.graph;
    (nodes == acdc::Nodes::Acdc.name()).then(|| [circuit.mask.count_by_acdc(graph), graph.dimensions.edges_by_acdc()])
}

/// The evidence and the edges as text.
pub fn table(circuit: &Circuit, report: &Report) -> String {
    let Circuit { graph, mask, scores, provenance, .. } = circuit;
    let share = 100.0 * mask.count() as f64 / graph.edge_count() as f64;
    let mut numbers = Table::new();
    numbers.load_style(presets::NOTHING);
    let mut row = |name: &str, value: String| {
        numbers.add_row([name.to_owned(), value]);
    };
    row("edges", format!("{} of {} ({share:.1} %)", mask.count(), graph.edge_count()));
    if let Some([edges, total]) = counted_by_acdc(circuit) {
        row("as ACDC counts", format!("{edges} of {total}, direct edges from q, k and v included"));
    }
    row("nodes", mask.nodes(graph).len().to_string());
    row(
        &report.metric,
        format!(
            "model {:.3}, circuit {:.3}, ablated {:.3}",
            report.metric_model, report.metric_circuit, report.metric_ablated
        ),
    );
    row("ablation", provenance.ablation.clone());
    row("faithfulness", with_interval(report.faithfulness, report.faithfulness_interval));
    row(
        "completeness",
        format!("{:.3}  (faithfulness of all other {})", report.completeness, level_of(circuit).plural()),
    );
    row(
        "accuracy",
        format!(
            "model {:.2}, circuit {:.2}, ablated {:.2}",
            report.accuracy_model, report.accuracy_circuit, report.accuracy_ablated
        ),
    );
    row("KL from the model", format!("{:.3} nats", report.kl));
    for (name, random) in [("random circuits", &report.random), ("random, same degrees", &report.random_of_degree)] {
        if let Some(RandomBaseline { mean, max, circuits, .. }) = random {
            row(name, format!("faithfulness {mean:.3} on average, {max:.3} at most, of {circuits}"));
        }
    }
    if let Some(Stability { one_sign, scored, .. }) = report.stability {
        row("scores of one sign", format!("{one_sign} of {scored}, by their 95 % intervals"));
    }
    let mut edges = Table::new();
    let stability = report.stability.as_ref().map_or(&[][..], |stability| &stability.edges);
    let mut header = vec![level_of(circuit).name(), "score", "cost of removal"];
    header.extend(if stability.is_empty() { &[][..] } else { &["95 % of the score", "selected"] });
    edges.load_style(presets::NOTHING).set_header(header);
    for column in 1..5 {
        if let Some(column) = edges.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let of_edge = |cost: &EdgeCost| (graph.name(cost.edge), scores.get(cost.edge), cost.cost, cost.edge.source);
    let of_node = |cost: &NodeCost| {
        // A node's score stands at every edge that leaves it, and every node feeds the logits.
        let score = scores.values.row(cost.node.0).last().copied().unwrap_or_default();
        (graph.node(cost.node).to_string(), score, cost.cost, cost.node)
    };
    let mut costs: Vec<(String, f32, f64, Source)> =
        report.minimality.iter().map(of_edge).chain(report.minimality_of_nodes.iter().map(of_node)).collect();
    costs.sort_by(|a, b| b.2.total_cmp(&a.2));
    let of_nodes = level_of(circuit) != Level::Edge;
    let shown = 100;
    for (name, score, cost, source) in costs.iter().take(shown) {
        let mut cells = vec![name.clone(), format!("{score:+.4}"), format!("{cost:+.4}")];
        // A node's numbers stand at every edge that leaves it.
        let is_it = |edge: &&EdgeStability| edge.edge.source == *source && (of_nodes || graph.name(edge.edge) == *name);
        if let Some(EdgeStability { interval: [low, high], selected, .. }) = stability.iter().find(is_it) {
            cells.extend([format!("[{low:+.4}, {high:+.4}]"), format!("{:.0} %", 100.0 * selected)]);
        }
        edges.add_row(cells);
    }
    let more = match costs.len().saturating_sub(shown) {
        0 => String::new(),
        more => format!("\n … and {more} more in circuit.json"),
    };
    let mut words = Table::new();
    words.load_style(presets::NOTHING).set_header(["the circuit", "verdict", "because"]);
    for Finding { claim, standing, words: because } in findings(circuit, report) {
        words.add_row([claim, standing.words(), because.as_str()]);
    }
    let warned: String = warnings(report).iter().map(|warning| format!("warning: {warning}\n")).collect();
    let warned = if warned.is_empty() { warned } else { format!("{warned}\n") };
    format!(
        "{} on {}, {} pairs not used for scoring\n\n{numbers}\n\n{words}\n\n{warned}{edges}{more}",
        provenance.task.name, provenance.model.id, report.pairs
    )
}
