//! What `discover`, `score` and `evaluate` do alike: task and model loaded, pairs tokenised, edges scored, and the record
//! of it all.

use super::long_run::{Checkpoint, Keeper};
use super::options::{Scoring, Subject};
use super::resources::Resources;
use super::signals::Signals;
use super::term::note;
use penjing::circuit::file::{MethodRecord, ModelRecord, Options, Provenance, TaskRecord};
use penjing::dataset::{self, Dataset, TokenPair};
use penjing::eval::Bench;
use penjing::eval::division::Keep;
use penjing::graph::{Dimensions, Graph};
use penjing::identity::Identity;
use penjing::measure::Constants;
use penjing::measure::memory::in_words;
use penjing::model::{self, Loaded};
use penjing::score::{self, Method, Problem, ScoreError, State, cost};
use penjing::task::{self, Expansion, Split, Task};
use serde_json::{Value, json};
use std::time::Instant;

/// The option that records whether the task or the command line asked for the beginning-of-text token or refused it.
pub const BOS_ASKED: &str = "bos_asked";

/// A task and a model, ready to work with.
pub struct Work {
    pub task: Task,
    pub loaded: Loaded,
    pub graph: Graph,
    /// Whether prompts begin with the beginning-of-text token, if anybody says.
    pub bos: Option<bool>,
    /// How many bytes may be used.
    pub memory: usize,
}

impl Work {
    /// Loads both.
    ///
    /// # Errors
    /// A bad option, task or model.
    pub fn load(subject: &Subject, resources: &Resources) -> anyhow::Result<Work> {
        subject.check()?;
        let task = task::resolve(&subject.task).map_err(penjing::Error::from)?;
        let options = resources.load_options()?;
        let loaded = model::load_with(&subject.model, &options).map_err(penjing::Error::from)?;
        let spec = &loaded.model.spec;
        subject.set_threads(spec.d_model);
        let graph = Graph::new(Dimensions::of(spec, subject.kv.into()));
        let memory = resources.limit()?;
        let bos = subject.bos.or(task.bos);
        Ok(Work { task, loaded, graph, memory, bos })
    }

    /// Pairs of one split as tokens.
    ///
    /// # Errors
    /// When the task cannot make that many, or they do not fit the model.
    pub fn pairs(
        &self,
        split: Split,
        pairs: usize,
        seed: u64,
        corruption: Option<&str>,
    ) -> Result<Dataset, penjing::Error> {
        let expansion = Expansion { split, pairs, seed, corruption: corruption.map(str::to_owned) };
        let prompts = task::expand(&self.task, &expansion)?;
        let dataset = dataset::tokenize(&prompts, &self.loaded.tokenizer, self.bos)?;
        dataset.check_fits(&self.loaded.model.spec, &self.loaded.tokenizer)?;
        Ok(dataset)
    }

    /// Circuits to be run on pairs, with what their ablated parts carry.
    pub fn problem<'a>(&'a self, pairs: &'a [TokenPair], constants: Option<&'a Constants>) -> Problem<'a> {
        let problem = Problem::new(&self.loaded.model, &self.graph, pairs, self.task.metric);
        Problem { memory: self.memory, constants, ..problem }
    }

    /// Scores every edge, with progress, from the checkpoint if that is asked for. Also the seconds that the scoring alone
    /// took.
    ///
    /// # Errors
    /// When the method cannot work on the task, the checkpoint is of another run, or a signal ended the run.
    pub fn score(&self, problem: &Problem, method: &Method, checkpoint: &Checkpoint) -> anyhow::Result<(State, f64)> {
        let mut state = checkpoint.state(problem, method)?;
        say(&state, method, cost::seconds(problem, method, &state.division));
        let signals = Signals::listen()?;
        let mut keeper = Keeper::new(checkpoint, &signals, "scoring", state.share());
        let start = Instant::now();
        match score::advance(problem, method, &mut state, &mut keeper) {
            Err(ScoreError::Stopped(_)) => Err(keeper.interrupted(state.share())),
            Err(error) => Err(penjing::Error::from(error).into()),
            Ok(()) => Ok((state, start.elapsed().as_secs_f64())),
        }
    }

    /// Pairs on which circuits are run, within the memory that may be used; `doing` says what for.
    ///
    /// # Errors
    /// When the memory is not enough, or the model gives what are no numbers.
    pub fn bench<'a>(&'a self, doing: &str, problem: &Problem<'a>) -> Result<Bench<'a>, penjing::Error> {
        let division = Bench::division_of(problem)?;
        let anew =
            if division.keep == Keep::Nothing { ", with the ablated runs done anew for each circuit" } else { "" };
        note(&format!("{doing} takes about {}, {}{anew}", in_words(division.bytes), at_once(division.pairs)));
        let model = &self.loaded.model;
        let bench = Bench::new(problem)?;
        let metrics = bench.clean().metric.iter().chain(&bench.ablated().metric);
        score::check_finite(model, problem.pairs, "metrics", metrics.copied())?;
        Ok(bench)
    }

    /// What the numbers depend on, beyond what files record, down to the last bit.
    ///
    /// # Errors
    /// None in practice: a provenance holds nothing that JSON has not.
    pub fn identity(
        &self,
        provenance: &Provenance,
        scoring: &Scoring,
        dataset: &Dataset,
        per_pair: bool,
    ) -> serde_json::Result<Identity> {
        let batch = scoring.batch.map_or("as many as fit".to_owned(), |pairs| pairs.to_string());
        Ok(self
            .identity_of_runs(Identity::of(provenance)?, dataset)
            .with("batch", &batch.into())
            .with("per_pair", &per_pair.into())
            .with("graph", &format!("{:?}", self.graph.dimensions).into()))
    }

    /// `identity` with the weights, the pairs and the device.
    pub fn identity_of_runs(&self, identity: Identity, dataset: &Dataset) -> Identity {
        let model = &self.loaded.model;
        let device = if model.device.is_cuda() { "cuda" } else { "cpu" };
        identity
            .with("weights", &model.fingerprint().into())
            .with("dtype", &format!("{:?}", model.kept_in()).into())
            .with("tokens", &dataset.hash().into())
            .with("device", &device.into())
    }

    /// Everything that the result depends on.
    pub fn provenance(&self, subject: &Subject, method: &Method, dataset: &Dataset) -> Provenance {
        let mut options: Options =
            method.options().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        options.insert("metric".into(), self.task.metric.name().into());
        options.insert("bos".into(), json!(dataset.bos.to_string()));
        if let Some(asked) = self.bos {
            options.insert(BOS_ASKED.into(), json!(asked));
        }
        options.insert("split".into(), "train".into());
        Provenance {
            task: TaskRecord {
                name: self.task.name.clone(),
                hash: self.task.hash.clone(),
                corruption: corruptions(dataset),
            },
            model: ModelRecord {
                id: self.loaded.id.clone(),
                config_hash: self.loaded.config_hash.clone(),
                d_model: Some(self.loaded.model.spec.d_model),
            },
            method: MethodRecord { name: method.name().to_owned(), options },
            selection: None,
            ablation: subject.ablation.name().into(),
            seed: subject.seed,
            pairs: dataset.pairs.len(),
            threads: usize::try_from(tch::get_num_threads()).unwrap_or(1),
            penjing: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// Says that a device had less memory than was thought.
pub fn note_if_halved(bench: &Bench) {
    if let Some(pairs) = bench.smaller_batch() {
        note(&format!("note: out of memory; went on with {}", at_once(pairs)));
    }
}

pub fn at_once(pairs: usize) -> String {
    format!("{pairs} {} at once", if pairs == 1 { "pair" } else { "pairs" })
}

/// Tells what the run will take, before it starts; `seconds`: all of it, the part that is done already too.
fn say(state: &State, method: &Method, seconds: f64) {
    let time = match seconds * (1.0 - state.share()) {
        seconds if seconds < 1.0 => "less than a second".to_owned(),
        seconds if seconds < 120.0 => format!("about {seconds:.0} s"),
        seconds if seconds < 7200.0 => format!("about {:.0} min", seconds / 60.0),
        seconds => format!("about {:.1} h", seconds / 3600.0),
    };
    // It leaves out what nothing reads any more.
    let time = if matches!(method, Method::Acdc(_)) { time.replacen("about", "at most", 1) } else { time };
    let rest = match state.share() {
        0.0 => "scoring".to_owned(),
        share => format!("{:.1} % is done; scoring the rest", share * 100.0),
    };
    note(&format!(
        "{rest} takes {time} and about {}, {}",
        in_words(state.division.bytes),
        at_once(state.division.pairs)
    ));
}

/// The names of the corruptions that the pairs came from, in order of appearance.
fn corruptions(dataset: &Dataset) -> String {
    let mut names: Vec<&str> = Vec::new();
    for pair in &dataset.pairs {
        if !names.contains(&pair.prompt.corruption.as_str()) {
            names.push(&pair.prompt.corruption);
        }
    }
    names.join(", ")
}

/// Says on stderr that the model is poor at the task, since then its circuit explains little.
pub fn warn_if_poor(accuracy: f64, model: &str, task: &str) {
    if accuracy < 0.6 {
        note(&format!(
            "note: {model} gets only {:.0} % of the {task} prompts right; a circuit of it explains little",
            accuracy * 100.0
        ));
    }
}
