//! `penjing bench truth`: every method on every compiled model, against the edges that are known to be its circuit.

use super::super::Ended;
use super::super::options::ablation_parser;
use super::super::progress::Progress;
use super::super::table::table;
use super::super::term::{Usage, make_folder, note, print, print_json, write};
use super::truth_tables::{HEADER, Row, SUMMARY, markdown, medians};
use clap::{Args, ValueEnum};
use penjing::ablation::Ablation;
use penjing::error::Error;
use penjing::graph::Level;
use penjing::measure::Constants;
use penjing::metric::MetricKind;
use penjing::score::{self, Method, Problem, Settings};
use penjing::truth::marks::{marks, missed};
use penjing::truth::{Choice, Known, NAMES, known};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Args)]
pub struct Truth {
    /// Compiled models: induction, ioi, greater-than, reverse, proportion (default: all)
    #[arg(long, short, value_name = "NAME")]
    model: Vec<String>,
    /// Methods (default: all that score edges)
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// What ablated parts carry (default: all that penjing knows, in turn)
    #[arg(long, value_name = "ABLATION", value_parser = ablation_parser())]
    ablation: Vec<Ablation>,
    /// How many prompt pairs to score on
    #[arg(long, default_value_t = 64, value_name = "N")]
    pairs: usize,
    /// Seed of the pairs, of what methods draw, and of the distractors' weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Models without norms, with LayerNorms, or both
    #[arg(long, value_enum, default_value = "both")]
    norm: Norm,
    /// How much the logits see of the distractors: about the standard deviation of what they add to a logit
    #[arg(long, default_value_t = 0.0, value_name = "SIZE")]
    noise: f64,
    /// Folder for truth.json and truth.md
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// More than this say nothing that fewer do not.
const MOST_PAIRS: usize = 100_000;

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    Without,
    With,
    Both,
}

impl Norm {
    pub fn choices(self) -> &'static [bool] {
        match self {
            Norm::Without => &[false],
            Norm::With => &[true],
            Norm::Both => &[false, true],
        }
    }
}

/// A compiled model, described.
struct Subject {
    name: &'static str,
    choice: Choice,
    about: &'static str,
    metric: MetricKind,
    edges: usize,
    /// The names of its true edges.
    truth: Vec<String>,
}

impl Subject {
    fn new(name: &str, choice: Choice) -> anyhow::Result<Subject> {
        let Known { name, graph, truth, metric, about, .. } = known(name, &choice).map_err(Error::from)?;
        let truth = truth.edges(&graph).into_iter().map(|edge| graph.name(edge)).collect();
        Ok(Subject { name, choice, about, metric, edges: graph.edge_count(), truth })
    }
}

pub fn run(command: &Truth, as_json: bool) -> anyhow::Result<Ended> {
    if !(1..=MOST_PAIRS).contains(&command.pairs) {
        let message = format!("--pairs {} is not a number from 1 to {MOST_PAIRS}", command.pairs);
        return Err(Usage { message, hint: "take 64, or some hundreds".into() }.into());
    }
    let methods = command.methods()?;
    let subjects = command.subjects()?;
    let plan = command.plan(&methods);
    if plan.iter().all(|(_, methods)| methods.is_empty()) {
        let message = "no method of these works with any ablation of these".to_owned();
        return Err(Usage { message, hint: "take --ablation counterfactual".into() }.into());
    }
    if let Some(out) = &command.out {
        make_folder(out)?;
    }
    // The models are narrow: their operations are too small to share, and the models run side by side.
    tch::set_num_threads(1);
    let rows = command.rows(&subjects, &plan)?;
    let document = command.document(&subjects, &rows);
    if let Some(out) = &command.out {
        let mut models: Vec<&str> = subjects.iter().map(|subject| subject.name).collect();
        models.dedup();
        write(out, "truth.json", (serde_json::to_string_pretty(&document)? + "\n").as_bytes())?;
        write(out, "truth.md", markdown(&models, &rows).as_bytes())?;
    }
    if as_json {
        print_json(&document)?;
        return Ok(Ended::Done);
    }
    let mut said = format!(
        "{}\n\nMedians over {} models\n\n{}",
        table(&HEADER, 4, rows.iter().map(Row::cells)),
        subjects.len() / command.norm.choices().len(),
        table(&SUMMARY, 3, medians(&rows))
    );
    for name in command.out.iter().flat_map(|out| ["truth.json", "truth.md"].map(|name| out.join(name))) {
        said += &format!("\n\n{}", name.display());
    }
    print(&said)?;
    Ok(Ended::Done)
}

impl Truth {
    /// # Errors
    /// Unknown methods, and those that score no edges.
    fn methods(&self) -> anyhow::Result<Vec<Method>> {
        let settings = Settings { seed: self.seed, ..Settings::default() };
        if self.method.is_empty() {
            let scores_edges = |method: &Method| method.levels().contains(&Level::Edge);
            return Ok(Method::all(&settings).into_iter().filter(scores_edges).collect());
        }
        let mut methods: Vec<Method> = Vec::new();
        for name in &self.method {
            let method = Method::parse(name, &settings).map_err(Error::from)?;
            method.check_level(Level::Edge, Ablation::Counterfactual).map_err(Error::from)?;
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        Ok(methods)
    }

    /// The models by name, each without and with norms as asked.
    ///
    /// # Errors
    /// Unknown models, and a noise that is no size.
    fn subjects(&self) -> anyhow::Result<Vec<Subject>> {
        let mut subjects: Vec<Subject> = Vec::new();
        let asked: Vec<&str> = match self.model.is_empty() {
            true => NAMES.to_vec(),
            false => self.model.iter().map(String::as_str).collect(),
        };
        for name in asked {
            for &norm in self.norm.choices() {
                let subject = Subject::new(name, Choice { norm, noise: self.noise, seed: self.seed })?;
                if !subjects.iter().any(|other| other.name == subject.name && other.choice == subject.choice) {
                    subjects.push(subject);
                }
            }
        }
        Ok(subjects)
    }

    fn ablations(&self) -> Vec<Ablation> {
        let asked = |ablation: &Ablation| self.ablation.is_empty() || self.ablation.contains(ablation);
        Ablation::ALL.into_iter().filter(asked).collect()
    }

    /// Methods and ablations that go together.
    fn plan<'a>(&self, methods: &'a [Method]) -> Vec<(Ablation, Vec<&'a Method>)> {
        let of = |ablation: Ablation| {
            let (able, unable): (Vec<_>, Vec<_>) =
                methods.iter().partition(|method| method.check_ablation(ablation).is_ok());
            for method in unable {
                note(&format!("note: {} does not work with ablation {ablation}", method.name()));
            }
            (ablation, able)
        };
        self.ablations().into_iter().map(of).collect()
    }

    /// All rows, models side by side: a thread for each core takes one after another.
    ///
    /// # Errors
    /// When memory is short.
    fn rows(&self, subjects: &[Subject], plan: &[(Ablation, Vec<&Method>)]) -> anyhow::Result<Vec<Row>> {
        let progress = Progress::bar("scoring");
        let steps = subjects.len() * plan.iter().map(|(_, methods)| methods.len()).sum::<usize>();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let finished = || progress.set((done.fetch_add(1, Ordering::Relaxed) + 1) as f64 / steps as f64);
        let work = || -> anyhow::Result<Vec<(usize, Vec<Row>)>> {
            let mut found = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(subject) = subjects.get(index) else { return Ok(found) };
                found.push((index, self.rows_of(subject, plan, &finished)?));
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(subjects.len());
        let mut found = std::thread::scope(|scope| -> anyhow::Result<Vec<(usize, Vec<Row>)>> {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::new();
            for thread in threads {
                // A panic goes on as it would have in this thread.
                all.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(all)
        })?;
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().flat_map(|(_, rows)| rows).collect())
    }

    /// # Errors
    /// When memory is short.
    fn rows_of(
        &self,
        subject: &Subject,
        plan: &[(Ablation, Vec<&Method>)],
        finished: &dyn Fn(),
    ) -> anyhow::Result<Vec<Row>> {
        // Tensors stay in one thread, so the model is compiled in the one that scores it.
        let known = known(subject.name, &subject.choice).map_err(Error::from)?;
        let Known { model, graph, metric, .. } = &known;
        let pairs = known.pairs(self.pairs, self.seed);
        let mut rows = Vec::new();
        for (ablation, methods) in plan {
            let constants = Constants::of(*ablation, Level::Edge, model, graph.dimensions, &pairs, usize::MAX);
            let constants = constants.map_err(Error::from)?;
            let problem = Problem { constants: constants.as_ref(), ..Problem::new(model, graph, &pairs, *metric) };
            for method in methods {
                let scores = score::score(&problem, method, &mut |_| ()).map_err(Error::from)?;
                rows.push(Row {
                    model: known.name,
                    norm: subject.choice.norm,
                    ablation: *ablation,
                    method: method.name(),
                    marks: marks(&known, &scores),
                    missed: missed(&known, &scores).into_iter().map(|edge| graph.name(edge)).collect(),
                });
                finished();
            }
        }
        Ok(rows)
    }

    fn document(&self, subjects: &[Subject], rows: &[Row]) -> Value {
        let models: Vec<Value> = subjects
            .iter()
            .map(|subject| {
                json!({
                    "name": subject.name,
                    "norm": subject.choice.norm,
                    "about": subject.about,
                    "metric": subject.metric.name(),
                    "edges_total": subject.edges,
                    "truth": subject.truth,
                })
            })
            .collect();
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "model": row.model,
                    "norm": row.norm,
                    "ablation": row.ablation.name(),
                    "method": row.method,
                    "auroc": row.marks.auroc,
                    "average_precision": row.marks.average_precision,
                    "precision": row.marks.precision,
                    "missed": row.missed,
                })
            })
            .collect();
        json!({
            "schema": "penjing.truth/1",
            "penjing": env!("CARGO_PKG_VERSION"),
            "pairs": self.pairs,
            "seed": self.seed,
            "noise": self.noise,
            "models": models,
            "rows": rows,
        })
    }
}
