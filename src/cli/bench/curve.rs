//! `penjing bench curve`: edges scored by several methods, and their circuits at MIB's ten sizes run on held-out pairs.

use super::curve_text::{Bundle, Found, document, figure, method_record, text};
use crate::cli::Ended;
use crate::cli::constants;
use crate::cli::options::{KvArgument, Subject};
use crate::cli::progress::Progress;
use crate::cli::record::run_record;
use crate::cli::resources::Resources;
use crate::cli::results::Results;
use crate::cli::term::{Usage, make_folder, note, print, print_json, write};
use crate::cli::work::{Work, at_once, note_if_halved, warn_if_poor};
use clap::Args;
use penjing::circuit::file::Provenance;
use penjing::circuit::mib::{self as submission, IMPORTANCES};
use penjing::circuit::select::Rank;
use penjing::eval::areas::SHARES;
use penjing::eval::bench::mean;
use penjing::eval::mib::{Areas, Curve as Measured, Runner, Selection};
use penjing::graph::Level;
use penjing::graph::scores::Scores;
use penjing::render::style::{Style, StyleError};
use penjing::render::theme::Theme;
use penjing::score::{self, Method, Problem, Settings, cost};
use penjing::task::Split;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(Args)]
pub struct Curve {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    resources: Resources,
    /// A method, or several; `penjing score --list` says which there are (default: eap, eap-ig, eap-ig-activations,
    /// clean-corrupted, relp, ifr, random, and exact where the graph has fewer than 4000 edges)
    #[arg(long, value_delimiter = ',', value_name = "METHOD")]
    method: Vec<String>,
    /// Steps of eap-ig and eap-ig-activations
    #[arg(long, default_value_t = 5, value_name = "M")]
    steps: usize,
    /// How many held-out pairs the circuits are run on
    #[arg(long, default_value_t = 100, value_name = "N")]
    evidence_pairs: usize,
    /// Write the scores as submission files of the MIB benchmark's circuit track into this folder
    #[arg(long, value_name = "DIR")]
    mib: Option<PathBuf>,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// Folder for curve.json, curve.svg and curve.html (default: runs/TASK-MODEL)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const DEFAULT: [&str; 7] = ["eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "relp", "ifr", "random"];

/// Those that need no gradient of the metric.
const WITHOUT_GRADIENT: [&str; 3] = ["ifr", "random", "exact"];

/// `exact` costs a run an edge.
const EXACT_BELOW: usize = 4000;

pub fn run(command: &Curve, as_json: bool) -> anyhow::Result<Ended> {
    let subject = &command.subject;
    let theme = Theme::named(&command.theme).ok_or_else(|| StyleError::Theme { name: command.theme.clone() });
    let style = Style { theme: theme.map_err(penjing::Error::from)?, ..Style::default() };
    command.check()?;
    let start = Instant::now();
    let work = Work::load(subject, &command.resources)?;
    let methods = command.methods(&work)?;
    let out = command.out.clone().unwrap_or_else(|| subject.default_out(&work.task.name, &work.loaded.id));
    make_folder(&out)?;
    if let Some(folder) = &command.mib {
        make_folder(folder)?;
    }
    let corruption = subject.corruption.as_deref();
    let scoring_pairs = work.pairs(Split::Train, subject.pairs, subject.seed, corruption)?;
    let fresh_pairs = work.pairs(Split::Test, command.evidence_pairs, subject.seed, corruption)?;
    let constants = constants::of_circuit(&work, subject.ablation, &scoring_pairs, &out)?;
    let problem = work.problem(&scoring_pairs.pairs, constants.as_ref());
    let scored = scored(&problem, &methods)?;
    if let Some(folder) = &command.mib {
        for (method, (scores, _)) in methods.iter().zip(&scored) {
            write_submission(folder, method, scores, &work, subject)?;
        }
    }

    let bench = work.bench("measuring curves", &work.problem(&fresh_pairs.pairs, constants.as_ref()))?;
    let mut runner = Runner::new(&bench, &work.graph);
    let (empty, model) = (runner.empty(), bench.clean());
    let difference = model.mean_metric() - empty.mean_metric();
    if difference == 0.0 || !difference.is_finite() {
        let message = format!("{} does no better on {} than with everything ablated", work.loaded.id, work.task.name);
        return Err(Usage { message, hint: "take another model, more pairs or another --ablation".into() }.into());
    }
    let progress = Progress::bar("measuring curves");
    let total = (methods.len() * 4 * SHARES.len()) as f64;
    let mut done = 0.0;
    let mut found = Vec::new();
    for (method, (scores, _)) in methods.iter().zip(&scored) {
        let mut measure = |rank, selection| -> anyhow::Result<Measured> {
            let points = runner.curve(scores, rank, selection, &mut || {
                done += 1.0;
                progress.set(done / total);
            });
            Ok(Measured::of(points.map_err(penjing::Error::from)?, &empty, model, subject.seed))
        };
        let mut bundle = |selection| -> anyhow::Result<Bundle> {
            let (signed, absolute) = (measure(Rank::Signed, selection)?, measure(Rank::Absolute, selection)?);
            Ok(Bundle { selection, areas: Areas::of(&signed, &absolute), signed, absolute })
        };
        let bundles = [bundle(Selection::TopN)?, bundle(Selection::Greedy)?];
        found.push(Found { method, bundles });
    }
    drop(progress);
    note_if_halved(&bench);
    warn_if_poor(mean(&model.accuracy), &work.loaded.id, &work.task.name);

    let mut document = document(&work, subject, &found, &empty, model);
    let said = text(&work, &found, &empty, model);
    let mut results = Results::new(&out, "curve", &document)?;
    results.picture("curve.svg", &figure(&work, &found, model.metric.len(), &style))?;
    results.page(&format!("{} in {}: faithfulness over sizes", work.task.title, work.loaded.id), &said)?;
    let seconds = start.elapsed().as_secs_f64();
    if let Some(first) = methods.first() {
        let provenance = work.provenance(subject, first, &scoring_pairs);
        write_record(&out, &provenance, &methods, &scored, seconds)?;
    }
    if as_json {
        document["seconds"] = json!(seconds);
        document["out"] = json!(out);
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    print(&said)?;
    print(&format!("\n{seconds:.1} s; the page is {}", out.join("curve.html").display()))?;
    Ok(Ended::Done)
}

impl Curve {
    fn check(&self) -> anyhow::Result<()> {
        let usage = |message: String, hint: &str| Err(Usage { message, hint: hint.to_owned() }.into());
        if self.evidence_pairs == 0 {
            return usage("--evidence-pairs 0 leaves nothing to measure on".into(), "take 50 or more");
        }
        if self.mib.is_some() && self.subject.kv == KvArgument::Native {
            let message = "MIB's files have keys and values of every query head, and --kv native has not".to_owned();
            return usage(message, "leave --kv out");
        }
        Ok(())
    }

    /// The methods that are asked for, each once, or those that the task, the ablation and the size of the graph allow.
    fn methods(&self, work: &Work) -> anyhow::Result<Vec<Method>> {
        let settings = Settings { steps: self.steps, seed: self.subject.seed, ..Settings::default() };
        let parse = |name: &str| Method::parse(name, &settings).map_err(penjing::Error::from);
        let fits = |method: &Method| method.check_level(Level::Edge, self.subject.ablation);
        let mut methods: Vec<Method> = Vec::new();
        if self.method.is_empty() {
            let exact = (work.graph.edge_count() < EXACT_BELOW).then_some("exact");
            for name in DEFAULT.into_iter().chain(exact) {
                let method = parse(name)?;
                if !work.task.metric.differentiable() && !WITHOUT_GRADIENT.contains(&name) {
                    note(&format!("note: {name} is left out, since metric `{}` has no gradient", work.task.metric));
                } else if let Err(error) = fits(&method) {
                    note(&format!("note: {name} is left out: {error}"));
                } else {
                    methods.push(method);
                }
            }
            return Ok(methods);
        }
        for name in &self.method {
            let method = parse(name)?;
            fits(&method).map_err(penjing::Error::from)?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(methods)
    }
}

/// The scores of each method and the seconds that they took.
fn scored(problem: &Problem, methods: &[Method]) -> anyhow::Result<Vec<(Scores, f64)>> {
    let score = |method: &Method| {
        let division = problem.division(method).map_err(penjing::Error::from)?;
        let estimate = cost::seconds(problem, method, &division);
        if estimate >= 2.0 {
            note(&format!("scoring by {} takes about {estimate:.0} s", method.name()));
        }
        let progress = Progress::bar(&format!("scoring by {}", method.name()));
        let start = Instant::now();
        // As `penjing score` does: then the scores are the same to the last bit.
        let per_pair = method.adds_up() && problem.has_room_for_pairs();
        let scores = score::score(&Problem { per_pair, ..*problem }, method, &mut |said| match said {
            score::Progress::Done(share) => progress.set(share),
            score::Progress::SmallerBatch(pairs) => {
                progress.note(&format!("note: out of memory; goes on with {}", at_once(pairs)));
            }
        });
        Ok((scores.map_err(penjing::Error::from)?, start.elapsed().as_secs_f64()))
    };
    methods.iter().map(score).collect()
}

/// Writes the importances of all edges where MIB looks for them.
fn write_submission(
    folder: &Path,
    method: &Method,
    scores: &Scores,
    work: &Work,
    subject: &Subject,
) -> anyhow::Result<()> {
    let Work { task, loaded, graph, .. } = work;
    let folder = folder.join(submission::folder(method.name(), subject.ablation, &task.name, &loaded.id));
    make_folder(&folder)?;
    let file = submission::importances(graph, scores, loaded.model.spec.d_model);
    let text = file.to_json().map_err(penjing::Error::from)? + "\n";
    write(&folder, IMPORTANCES, text.as_bytes())
}

/// `run-curve.json`, with all methods.
fn write_record(
    out: &Path,
    provenance: &Provenance,
    methods: &[Method],
    scored: &[(Scores, f64)],
    seconds: f64,
) -> anyhow::Result<()> {
    let mut timings: Vec<(&str, f64)> = methods.iter().zip(scored).map(|(method, of)| (method.name(), of.1)).collect();
    timings.push(("all", seconds));
    let mut record = run_record(provenance, &timings);
    record["method"] = methods.iter().map(method_record).collect();
    write(out, "run-curve.json", (serde_json::to_string_pretty(&record)? + "\n").as_bytes())
}
