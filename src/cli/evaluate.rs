//! `penjing evaluate`: measures a circuit file on fresh pairs, and the table that `discover` prints too.

use super::Ended;
use super::constants;
use super::options::{BosArgument, KvArgument, Subject, ablation_parser};
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, print, print_json};
use super::work::{Work, note_if_halved};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use penjing::ablation::Ablation;
use penjing::circuit::file::{self, Circuit, Provenance};
use penjing::circuit::report::{EdgeCost, NodeCost, Report};
use penjing::eval::{Evidence, evidence};
use penjing::graph::Level;
use penjing::score::acdc;
use penjing::task::Split;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Evaluate {
    /// A circuit.json
    circuit: PathBuf,
    /// The task to measure on (default: the circuit's own)
    #[arg(long)]
    task: Option<String>,
    /// The model to run (default: the circuit's own)
    #[arg(long, short)]
    model: Option<String>,
    /// How many held-out pairs
    #[arg(long, default_value_t = 100, value_name = "N")]
    pairs: usize,
    /// Which of the task's corruptions (default: its first)
    #[arg(long, value_name = "NAME")]
    corruption: Option<String>,
    /// What ablated parts of the model carry (default: as when the circuit was found); means and what harms least are those
    /// of the pairs that the circuit was found on
    #[arg(long, value_parser = ablation_parser())]
    ablation: Option<Ablation>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many random circuits of the same size to compare with
    #[arg(long, default_value_t = 20, value_name = "N")]
    random_circuits: usize,
    /// The beginning-of-text token: as when the circuit was found, before every prompt, or before none
    #[arg(long, value_enum, default_value = "auto")]
    bos: BosArgument,
    #[command(flatten)]
    resources: Resources,
}

pub fn run(command: &Evaluate, as_json: bool) -> anyhow::Result<Ended> {
    let mut circuit = file::read(&command.circuit).map_err(penjing::Error::from)?;
    let ablation = match command.ablation {
        Some(ablation) => ablation,
        None => circuit.provenance.ablation.parse().map_err(penjing::Error::from)?,
    };
    let subject = Subject {
        ablation,
        task: command.task.clone().unwrap_or_else(|| circuit.provenance.task.name.clone()),
        model: command.model.clone().unwrap_or_else(|| circuit.provenance.model.id.clone()),
        pairs: command.pairs,
        corruption: command.corruption.clone(),
        seed: command.seed,
        threads: None,
        bos: command.bos.or_as_recorded(&circuit.provenance.method.options),
        kv: if circuit.graph.dimensions.kv_slots == circuit.graph.dimensions.heads {
            KvArgument::QueryHeads
        } else {
            KvArgument::Native
        },
    };
    let work = Work::load(&subject, &command.resources)?;
    if work.graph.dimensions != circuit.graph.dimensions {
        return Err(Usage {
            message: format!("the circuit is not one of {}: the graphs differ in layers or heads", work.loaded.id),
            hint: format!("it was found in {}; name that model's folder with --model", circuit.provenance.model.id),
        }
        .into());
    }
    let dataset = work.pairs(Split::Test, command.pairs, command.seed, command.corruption.as_deref())?;
    let constants = match ablation {
        Ablation::Counterfactual => None,
        _ => {
            let Provenance { task, pairs, seed, .. } = &circuit.provenance;
            let draw = |corruption: Option<&str>| work.pairs(Split::Train, (*pairs).max(1), *seed, corruption);
            // Where several corruptions were drawn from, none was asked for.
            let found_on = match draw(Some(task.corruption.as_str())) {
                Ok(found_on) if task.name == work.task.name => found_on,
                _ => draw(command.corruption.as_deref())?,
            };
            let folder = command.circuit.parent().unwrap_or(Path::new("."));
            constants::of_circuit(&work, ablation, &found_on, folder)?
        }
    };
    let bench = work.bench("measuring evidence", &work.problem(&dataset.pairs, constants.as_ref()))?;
    let question = Evidence {
        bench: &bench,
        graph: &work.graph,
        level: level_of(&circuit),
        metric: work.task.metric.name(),
        seed: command.seed,
        random_circuits: command.random_circuits,
    };
    let progress = Progress::bar("measuring evidence");
    let report = evidence(&question, &circuit.mask, &mut |share| progress.set(share));
    drop(progress);
    note_if_halved(&bench);
    circuit.provenance.task.name = work.task.name;
    circuit.provenance.model.id = work.loaded.id;
    circuit.provenance.ablation = ablation.name().into();
    if as_json {
        print_json(&summary(&circuit, &report))?
    } else {
        print(&table(&circuit, &report))?
    }
    Ok(Ended::Done)
}

/// Where a circuit's selection records what it was chosen by, if not by edges.
pub const LEVEL: &str = "level";

/// What a circuit was chosen by.
fn level_of(circuit: &Circuit) -> Level {
    let selection = circuit.provenance.selection.as_ref();
    let level = selection.and_then(|selection| selection.options.get(LEVEL)).and_then(Value::as_str);
    level.and_then(Level::parse).unwrap_or_default()
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
    let [low, high] = report.faithfulness_interval;
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
    row("faithfulness", format!("{:.3}  [{low:.3}, {high:.3}]", report.faithfulness));
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
    if let Some(random) = &report.random {
        row(
            "random circuits",
            format!("faithfulness {:.3} on average, {:.3} at most, of {}", random.mean, random.max, random.circuits),
        );
    }
    let mut edges = Table::new();
    edges.load_style(presets::NOTHING).set_header([level_of(circuit).name(), "score", "cost of removal"]);
    for column in [1, 2] {
        if let Some(column) = edges.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let of_edge = |cost: &EdgeCost| (graph.name(cost.edge), scores.get(cost.edge), cost.cost);
    let of_node = |cost: &NodeCost| {
        // A node's score stands at every edge that leaves it, and every node feeds the logits.
        let score = scores.values.row(cost.node.0).last().copied().unwrap_or_default();
        (graph.node(cost.node).to_string(), score, cost.cost)
    };
    let mut costs: Vec<(String, f32, f64)> =
        report.minimality.iter().map(of_edge).chain(report.minimality_of_nodes.iter().map(of_node)).collect();
    costs.sort_by(|a, b| b.2.total_cmp(&a.2));
    let shown = 100;
    for (name, score, cost) in costs.iter().take(shown) {
        edges.add_row([name.clone(), format!("{score:+.4}"), format!("{cost:+.4}")]);
    }
    let more = match costs.len().saturating_sub(shown) {
        0 => String::new(),
        more => format!("\n … and {more} more in circuit.json"),
    };
    format!(
        "{} on {}, {} pairs not used for scoring\n\n{numbers}\n\n{edges}{more}",
        provenance.task.name, provenance.model.id, report.pairs
    )
}
