//! `penjing discover`: score, select, prove, draw.

use super::Ended;
use super::choice::Choice;
use super::constants;
use super::evidence::LEVEL;
use super::features;
use super::long_run::{Checkpoint, LongRun};
use super::options::{Scoring, Subject};
use super::pictures;
use super::progress::Progress;
use super::record::run_record;
use super::resources::Resources;
use super::term::{Usage, make_folder, note, print, print_json, write};
use super::work::{Work, note_if_halved, warn_if_poor};
use clap::{Args, Parser};
use penjing::circuit::consistent::only;
use penjing::circuit::file::{self, Circuit, Options, SelectionRecord};
use penjing::circuit::prune::prune;
use penjing::circuit::{scores_file, select};
use penjing::discover::held_out::leave_one_out;
use penjing::discover::parts::{self, Parts};
use penjing::discover::resampled::OfPairs;
use penjing::discover::{self, Goal, MARGIN, Ranking};
use penjing::eval::{Evidence, evidence};
use penjing::graph::Level;
use penjing::graph::scores::Scores;
use penjing::score::{Method, Problem};
use penjing::statistics::means::intervals_of_means;
use penjing::statistics::resample::RESAMPLES;
use penjing::task::Split;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

#[derive(Args)]
pub struct Discover {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    scoring: Scoring,
    #[command(flatten)]
    resources: Resources,
    #[command(flatten)]
    long_run: LongRun,
    /// Find the smallest circuit that is this faithful (default: 0.9)
    #[arg(long, value_name = "F", conflicts_with_all = ["edges", "threshold"])]
    faithfulness: Option<f64>,
    /// What the circuit is chosen by: edges, nodes with all edges between them, or the features of dictionaries (--sae)
    #[arg(long, default_value = "edge", value_enum)]
    level: LevelArgument,
    /// A dictionary whose features are the nodes, with --level feature; several make a circuit across layers
    #[arg(long, value_name = "[NAME=]FILE")]
    sae: Vec<String>,
    /// Take this many edges instead (nodes beside the input, with --level node)
    #[arg(long, value_name = "N", conflicts_with = "threshold")]
    edges: Option<usize>,
    /// Take every edge with at least this |score| instead
    #[arg(long, value_name = "T")]
    threshold: Option<f64>,
    #[command(flatten)]
    choice: Choice,
    /// Prune dead ends and change nothing else: no removal of needless edges, no filling up to --edges
    #[arg(long)]
    no_refine: bool,
    /// How many held-out pairs the evidence is measured on
    #[arg(long, default_value_t = 100, value_name = "N")]
    evidence_pairs: usize,
    /// How many random circuits to compare with: of the same size, of the same number of edges at every node, left out, and
    /// with a part more than this one
    #[arg(long, default_value_t = 50, value_name = "N")]
    random_circuits: usize,
    /// Folder for the results (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum LevelArgument {
    Edge,
    Node,
    Neuron,
    Feature,
}

impl Discover {
    /// The level of the graph. Features have none; they are sought by [`features`].
    fn level(&self) -> Level {
        match self.level {
            LevelArgument::Edge | LevelArgument::Feature => Level::Edge,
            LevelArgument::Node => Level::Node,
            LevelArgument::Neuron => Level::Neuron,
        }
    }

    /// What ends the selection; a search that decides for itself which edges stay leaves nothing to select.
    fn goal(&self, method: &Method) -> anyhow::Result<Goal> {
        let usage = |message: String, hint: &str| Usage { message, hint: hint.to_owned() };
        if self.level() == Level::Neuron {
            return Err(usage(
                "circuits are chosen by edges or by nodes".into(),
                "`penjing score --level neuron` scores neurons",
            )
            .into());
        }
        if self.evidence_pairs == 0 {
            return Err(usage("--evidence-pairs 0 leaves nothing to prove on".into(), "take 50 or more").into());
        }
        Ok(match (self.edges, self.threshold) {
            (Some(size), _) => Goal::Size(size),
            (_, Some(threshold)) if threshold.is_finite() && threshold > 0.0 => Goal::Threshold(threshold),
            (_, Some(threshold)) => {
                let message = format!("--threshold {threshold} is not a positive number");
                return Err(usage(message, "scores are in units of the metric; `penjing score` shows them").into());
            }
            _ if let Some(goal) = self.decided(method) => goal,
            _ => match self.faithfulness.unwrap_or(0.9) {
                target if target > 0.0 && target <= 1.0 => Goal::Faithfulness(target),
                target => {
                    let message = format!("--faithfulness {target} is not between 0 and 1");
                    return Err(usage(message, "0.9 asks for a circuit that does 90 % of what the model does").into());
                }
            },
        })
    }

    /// What the method has decided, where nothing else is asked for.
    fn decided(&self, method: &Method) -> Option<Goal> {
        if self.faithfulness.is_some() || self.edges.is_some() || self.threshold.is_some() {
            return None;
        }
        match method {
            Method::Acdc(options) => Some(Goal::Threshold(options.tau)),
            Method::Mask(options) => Some(Goal::Sparsity(options.sparsity)),
            _ => None,
        }
    }

    fn ranking(&self, method: &Method) -> Ranking {
        if self.decided(method).is_some() {
            return Ranking::Signed;
        }
        self.choice.ranking()
    }

    fn selection(&self, method: &Method, goal: Goal, ranked: usize, kept: Option<usize>) -> SelectionRecord {
        let mut options = Options::new();
        let rule = match goal {
            Goal::Faithfulness(target) => {
                options.insert("target".into(), json!(target));
                options.insert("margin_standard_errors".into(), json!(MARGIN));
                "faithfulness"
            }
            Goal::Size(size) if self.level() == Level::Edge => {
                options.insert("edges".into(), json!(size));
                "edges"
            }
            Goal::Size(size) => {
                options.insert("nodes".into(), json!(size));
                "nodes"
            }
            Goal::Sparsity(sparsity) => {
                options.insert("sparsity".into(), json!(sparsity));
                "sparsity"
            }
            Goal::Threshold(threshold) => {
                options.insert("threshold".into(), json!(threshold));
                "threshold"
            }
        };
        if self.level() != Level::Edge {
            options.insert(LEVEL.into(), json!(self.level().name()));
        }
        options.insert("rank".into(), json!(self.ranking(method).name()));
        self.choice.record(self.ranking(method), kept, &mut options);
        options.insert("refine".into(), json!(!self.no_refine));
        options.insert("ranked".into(), json!(ranked));
        SelectionRecord { rule: rule.into(), options }
    }
}

/// A circuit that was found and written.
struct Found {
    circuit: Circuit,
    out: PathBuf,
    seconds: f64,
    /// The faithfulness that was asked for, where it was not reached on fresh pairs.
    missed: Option<f64>,
}

/// The folder of a circuit that was found by default.
///
/// # Errors
/// An unknown task or model.
pub fn default_out(task: &str, model: &str) -> anyhow::Result<PathBuf> {
    let subject = by_default(task, model)?.subject;
    let name = penjing::task::resolve(task).map_err(penjing::Error::from)?.name;
    Ok(subject.default_out(&name, model))
}

/// Finds and writes the circuit of a task in a model, with everything as it is by default.
///
/// # Errors
/// As the command's own.
pub fn find_by_default(task: &str, model: &str) -> anyhow::Result<()> {
    find(&by_default(task, model)?).map(|_| ())
}

fn by_default(task: &str, model: &str) -> anyhow::Result<Discover> {
    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        discover: Discover,
    }
    Ok(Alone::try_parse_from(["discover", "--model", model, "--", task])?.discover)
}

fn find(command: &Discover) -> anyhow::Result<Found> {
    let subject = &command.subject;
    let start = Instant::now();
    let method = command.scoring.method(subject.seed)?;
    command.choice.check(command.level, command.threshold.is_some(), &method)?;
    let goal = command.goal(&method)?;
    method.check_level(command.level(), subject.ablation).map_err(penjing::Error::from)?;
    let work = Work::load(subject, &command.resources)?;
    let Work { task, loaded, graph, .. } = &work;
    let size = match goal {
        Goal::Size(size) => Some(size),
        Goal::Sparsity(sparsity) => Some(select::edges_left(graph, sparsity)),
        Goal::Threshold(_) | Goal::Faithfulness(_) => None,
    };
    if let Some(size) = size {
        parts::check_size(command.level(), graph, size).map_err(penjing::Error::from)?;
    }
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&task.name, &loaded.id));
    make_folder(&out)?;

    let corruption = subject.corruption.as_deref();
    let scoring_pairs = work.pairs(Split::Train, subject.pairs, subject.seed, corruption)?;
    let fresh_pairs = work.pairs(Split::Test, command.evidence_pairs, subject.seed, corruption)?;
    let mut provenance = work.provenance(subject, &method, &scoring_pairs);
    let level = command.level();
    let scored = Problem { level, ..work.problem(&scoring_pairs.pairs, None) };
    let per_pair = method.adds_up() && (command.choice.consistent || scored.has_room_for_pairs());
    let depends_on = work.identity(&provenance, &command.scoring, &scoring_pairs, per_pair)?;
    let depends_on = depends_on.with("level", &command.level().name().into());
    let mut checkpoint = Checkpoint::new(&out, None, depends_on, &command.long_run);
    let constants = constants::of_run(
        &work,
        subject.ablation,
        command.level(),
        &scoring_pairs,
        (&out, &command.long_run),
        &mut checkpoint,
    )?;
    let constants = constants.as_ref();
    let problem =
        Problem { level, per_pair, batch_size: command.scoring.batch, ..work.problem(&scoring_pairs.pairs, constants) };
    let (state, scoring_seconds) = work.score(&problem, &method, &checkpoint)?;
    let scores = state.scores(&problem).map_err(penjing::Error::from)?;
    let at_edges = if level == Level::Edge { scores.clone() } else { parts::at_edges(graph, &scores) };
    let consistent = command.choice.consistent_edges(graph, &state, subject.seed, &method)?;
    let left = consistent.as_ref().map(|edges| only(graph, &at_edges, edges));
    let choice = Parts { graph, scores: left.as_ref().unwrap_or(&at_edges), level };

    let select_start = Instant::now();
    let bench = work.bench("selecting", &problem)?;
    let progress = Progress::text("selecting");
    let selected =
        discover::discover(&choice, &bench, goal, command.ranking(&method), !command.no_refine, &mut |text| {
            progress.say(text);
        })
        .map_err(penjing::Error::from)?;
    drop(progress);
    note_if_halved(&bench);
    drop(bench); // the memory of one bench at a time
    let select_seconds = select_start.elapsed().as_secs_f64();

    let evidence_start = Instant::now();
    let fresh = work.bench("measuring evidence", &work.problem(&fresh_pairs.pairs, constants))?;
    let progress = Progress::bar("measuring evidence");
    let question = Evidence {
        bench: &fresh,
        graph,
        level,
        metric: task.metric.name(),
        seed: subject.seed,
        random_circuits: command.random_circuits,
    };
    let mut report = evidence(&question, &selected.circuit, &mut |share| progress.set(share));
    drop(progress);
    note_if_halved(&fresh);
    let evidence_seconds = evidence_start.elapsed().as_secs_f64();

    let resampling_start = Instant::now();
    let ranking = command.ranking(&method);
    if let Some(per_pair) = &state.per_pair {
        let select = |scores: &Scores| {
            // Where only edges of one sign were let in, the same ones are.
            let left = consistent.as_ref().map(|edges| only(graph, scores, edges));
            let parts = Parts { graph, scores: left.as_ref().unwrap_or(scores), level };
            Ok(prune(graph, &goal.again(&parts, ranking, selected.ranked)?))
        };
        let of_pairs = OfPairs { table: problem.table(), per_pair: per_pair.view(), select };
        let all = (of_pairs.select)(&at_edges).map_err(penjing::Error::from)?;
        let stability = of_pairs.stability(&selected.circuit, &all, RESAMPLES, subject.seed);
        report.stability = Some(stability.map_err(penjing::Error::from)?);
        let scored = scoring_pairs.pairs.as_slice();
        let held_out = leave_one_out(&of_pairs, scored, (&fresh, &fresh_pairs.pairs), &all, subject.seed);
        report.held_out = held_out.map_err(penjing::Error::from)?;
    }
    let resampling_seconds = resampling_start.elapsed().as_secs_f64();

    let report_start = Instant::now();
    let seen = pictures::measure(&work, &fresh, &fresh_pairs, &selected.circuit, &at_edges, subject.seed);
    drop(fresh);
    let report_seconds = report_start.elapsed().as_secs_f64();

    let scores_text = match &state.per_pair {
        None => scores_file::to_json(&problem.table(), &scores, &provenance),
        Some(per_pair) => {
            let intervals = intervals_of_means(per_pair.view(), RESAMPLES, subject.seed);
            scores_file::to_json_with_intervals(&problem.table(), &scores, &intervals, &provenance)
        }
    }
    .map_err(penjing::Error::from)?;
    provenance.selection =
        Some(command.selection(&method, goal, selected.ranked, consistent.map(|edges| edges.count())));
    let circuit = Circuit {
        provenance,
        graph: graph.clone(),
        mask: selected.circuit,
        scores: at_edges.clone(),
        report: Some(report),
        roles: seen.roles.clone(),
    };
    let seconds = start.elapsed().as_secs_f64();
    let record = run_record(
        &circuit.provenance,
        &[
            ("score", scoring_seconds),
            ("select", select_seconds),
            ("evidence", evidence_seconds),
            ("resample", resampling_seconds),
            ("report", report_seconds),
            ("all", seconds),
        ],
    );
    write(&out, "scores.json", scores_text.as_bytes())?;
    write(&out, "run.json", (serde_json::to_string_pretty(&record)? + "\n").as_bytes())?;
    pictures::write_all(&out, &work, &circuit, &at_edges, seen)?;
    write(&out, "circuit.json", file::to_json(&circuit).map_err(penjing::Error::from)?.as_bytes())?;
    checkpoint.remove();

    let report = circuit.report.as_ref();
    warn_if_poor(report.map_or(1.0, |report| report.accuracy_model), &loaded.id, &task.name);
    let missed = match (goal, report) {
        (Goal::Faithfulness(target), Some(report)) if report.faithfulness < target => Some(target),
        _ => None,
    };
    Ok(Found { circuit, out, seconds, missed })
}

/// A circuit of features.
fn find_features(command: &Discover, as_json: bool) -> anyhow::Result<Ended> {
    command.choice.check_features()?;
    if command.threshold.is_some() {
        let message = "--threshold chooses no features".to_owned();
        return Err(
            Usage { message, hint: "say how many with --edges, or how faithful with --faithfulness".into() }.into()
        );
    }
    let question = features::Question {
        subject: &command.subject,
        scoring: &command.scoring,
        resources: &command.resources,
        dictionaries: &command.sae,
        size: command.edges,
        faithfulness: command.faithfulness.unwrap_or(0.9),
        evidence_pairs: command.evidence_pairs,
        random_circuits: command.random_circuits,
        out: command.out.as_deref(),
    };
    features::run(&question, as_json)
}

pub fn run(command: &Discover, as_json: bool) -> anyhow::Result<Ended> {
    if command.level == LevelArgument::Feature {
        return find_features(command, as_json);
    }
    if !command.sae.is_empty() {
        let message = "--sae gives nodes to circuits of features alone".to_owned();
        return Err(Usage { message, hint: "say --level feature".into() }.into());
    }
    let Found { circuit, out, seconds, missed } = find(command)?;
    let Some(report) = &circuit.report else { return Ok(Ended::Done) };
    if as_json {
        print_json(&summary(&circuit, report, seconds, &out))?;
    } else {
        print(&super::evidence::table(&circuit, report))?;
        print(&format!(
            "\n{seconds:.1} s; the page is {}, beside it the picture and the files",
            out.join("report.html").display()
        ))?;
    }
    if let Some(target) = missed {
        note(&format!(
            "the circuit reached faithfulness {target} on the pairs that chose it, but only {:.3} on fresh ones\n\nhint: choose on more --pairs",
            report.faithfulness
        ));
        return Ok(Ended::Failed);
    }
    Ok(Ended::Done)
}

/// The document that `--json` prints.
fn summary(
    circuit: &Circuit,
    report: &penjing::circuit::report::Report,
    seconds: f64,
    out: &std::path::Path,
) -> serde_json::Value {
    let mut value = super::evidence::summary(circuit, report);
    value["seconds"] = json!(seconds);
    value["out"] = json!(out);
    value
}
