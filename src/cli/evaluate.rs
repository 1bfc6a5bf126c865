//! `penjing evaluate`: measures a circuit file on fresh pairs.

use super::Ended;
use super::constants;
use super::evidence::{level_of, summary, table};
use super::options::{BosArgument, KvArgument, Subject, ablation_parser};
use super::progress::Progress;
use super::resources::Resources;
use super::term::{Usage, print, print_json};
use super::work::{Work, note_if_halved};
use clap::Args;
use penjing::ablation::Ablation;
use penjing::circuit::file::{self, Provenance};
use penjing::eval::{Evidence, evidence};
use penjing::task::Split;
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
    /// How many random circuits to compare with: of the same size, of the same number of edges at every node, left out, and
    /// with a part more than this one
    #[arg(long, default_value_t = 50, value_name = "N")]
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
    let mut report = evidence(&question, &circuit.mask, &mut |share| progress.set(share));
    drop(progress);
    note_if_halved(&bench);
    let of = &circuit.provenance;
    let selected_here = of.task.name == work.task.name && of.model.id == work.loaded.id;
    // What is said of the selection does not change with the pairs that are measured.
    if let Some(found) = circuit.report.as_ref().filter(|_| selected_here) {
        report.stability.clone_from(&found.stability);
        report.held_out.clone_from(&found.held_out);
    }
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
