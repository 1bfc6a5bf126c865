//! What lets a scoring run end in the middle and go on: the checkpoint in the output folder and who writes it.

use super::progress::Progress;
use super::signals::{self, Signals};
use super::term::{Interrupted, note, write};
use super::work::at_once;
use clap::Args;
use penjing::identity::Identity;
use penjing::score::checkpoint::{self, CheckpointError};
use penjing::score::{Method, Problem, State, Watch};
use penjing::shard::Shard;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args, Clone)]
pub struct LongRun {
    /// Go on with a run that was stopped or killed, from the checkpoint in its output folder
    #[arg(long)]
    pub resume: bool,
    /// Seconds from one checkpoint to the next
    #[arg(long, default_value_t = 30, value_name = "S")]
    pub checkpoint_seconds: u64,
}

/// The file that keeps fitted constants.
pub const CONSTANTS: &str = "constants.safetensors";

/// The file from which a run can go on.
pub struct Checkpoint {
    folder: PathBuf,
    name: String,
    /// What the run depends on: a run goes on from its own checkpoint only.
    run: Identity,
    options: LongRun,
    /// Of many shards some may not have come to their first checkpoint when all are stopped, and a launcher that sees one
    /// of them fail ends the others: a shard without a checkpoint starts from the beginning.
    may_be_missing: bool,
}

impl Checkpoint {
    /// That of a run over all pairs or a shard of them.
    pub fn new(folder: &Path, shard: Option<Shard>, run: Identity, options: &LongRun) -> Checkpoint {
        let name = match shard {
            Some(shard) => format!("checkpoint-{}.bin", shard.in_names()),
            None => "checkpoint.bin".to_owned(),
        };
        let pairs = shard.map_or("all".to_owned(), |shard| format!("shard {shard}"));
        let run = run.with("pairs_scored", &pairs.into());
        Checkpoint { folder: folder.to_owned(), name, run, options: options.clone(), may_be_missing: shard.is_some() }
    }

    /// That of fitting constants, which all shards of a run have in common.
    pub fn of_constants(folder: &Path, run: Identity, options: &LongRun) -> Checkpoint {
        let (folder, options) = (folder.to_owned(), options.clone());
        Checkpoint { folder, name: CONSTANTS.to_owned(), run, options, may_be_missing: true }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// What the run depends on.
    pub fn run(&self) -> &Identity {
        &self.run
    }

    /// Whether the run is to go on from the file.
    pub fn resumes(&self) -> bool {
        self.options.resume
    }

    /// Lets a run that is resumed start from the beginning: it was stopped before it had come to this file.
    pub fn allow_missing(&mut self) {
        self.may_be_missing = true;
    }

    /// # Errors
    /// When the run is to go on from a file that is not there.
    pub fn check(&self) -> Result<(), penjing::Error> {
        let path = self.path();
        if self.options.resume && !self.may_be_missing && !path.exists() {
            return Err(CheckpointError::Nothing { path }.into());
        }
        Ok(())
    }

    /// Where the run stands: in the file if it is resumed, else at its start.
    ///
    /// # Errors
    /// Nothing to resume or the checkpoint of another run, and what keeps a run from starting.
    pub fn state(&self, problem: &Problem, method: &Method) -> Result<State, penjing::Error> {
        let path = self.path();
        if self.options.resume {
            match checkpoint::read(&path, &self.run, problem, method) {
                Err(CheckpointError::Nothing { .. }) if self.may_be_missing => {
                    note(&format!("note: {} does not exist; starting from the beginning", path.display()));
                }
                read => return Ok(read?),
            }
        } else if path.exists() {
            note(&format!("note: starting from the beginning; {} will be replaced", path.display()));
        }
        Ok(State::start(problem, method)?)
    }

    /// Deletes the file, once the scores are written.
    pub fn remove(&self) {
        // A file that cannot be deleted does no harm to the scores.
        let _ = std::fs::remove_file(self.path());
    }
}

/// Follows a run: shows how far it is, writes the checkpoint, and ends it when a signal asks for that.
pub struct Keeper<'a> {
    checkpoint: &'a Checkpoint,
    signals: &'a Signals,
    progress: Progress,
    /// When the checkpoint was written last, or the run started.
    written: Instant,
    /// How writing the checkpoint last ended.
    outcome: Option<anyhow::Result<()>>,
}

impl<'a> Keeper<'a> {
    /// `doing` says what, `share` how much of it is done already.
    pub fn new(checkpoint: &'a Checkpoint, signals: &'a Signals, doing: &'static str, share: f64) -> Keeper<'a> {
        let progress = Progress::bar_from(doing, share);
        Keeper { checkpoint, signals, progress, written: Instant::now(), outcome: None }
    }

    /// A point at which the run can be left. `ends`: the file is to be written in any case.
    pub fn visit(
        &mut self,
        share: f64,
        ends: bool,
        bytes: impl FnOnce() -> anyhow::Result<Vec<u8>>,
    ) -> ControlFlow<()> {
        self.progress.set(share);
        let stop = self.signals.received().is_some();
        let interval = Duration::from_secs(self.checkpoint.options.checkpoint_seconds);
        if stop || ends || self.written.elapsed() >= interval {
            self.save(bytes());
        }
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn save(&mut self, bytes: anyhow::Result<Vec<u8>>) {
        let outcome = bytes.and_then(|bytes| write(&self.checkpoint.folder, &self.checkpoint.name, &bytes));
        // A full disk may be emptied before the run ends: the run goes on, and this is said once.
        if let (Err(error), None | Some(Ok(()))) = (&outcome, &self.outcome) {
            self.progress.note(&format!("note: {} is not kept up: {error}", self.checkpoint.name));
        }
        self.written = Instant::now();
        self.outcome = Some(outcome);
    }

    /// What to tell when a signal has ended the run.
    pub fn interrupted(self, share: f64) -> anyhow::Error {
        let signal = self.signals.received().unwrap_or_default();
        let message = format!("stopped by {} with {:.1} % done", signals::name(signal), share * 100.0);
        let (message, hint) = match &self.outcome {
            Some(Err(error)) => (format!("{message}, which is lost: {error}"), "start again".to_owned()),
            _ => {
                let path = self.checkpoint.path();
                (format!("{message}, kept in {}", path.display()), format!("go on with\n\n    {}", command_to_resume()))
            }
        };
        Interrupted { message, hint, exit_code: 128 + signal }.into()
    }
}

impl Watch for Keeper<'_> {
    fn safe_point(&mut self, state: &State) -> ControlFlow<()> {
        // Once there is a file, the end is written too: what follows the scoring may be stopped as well.
        let ends = state.left.is_empty() && self.outcome.is_some();
        let run = &self.checkpoint.run;
        self.visit(state.share(), ends, || Ok(checkpoint::to_bytes(state, run)?))
    }

    fn smaller_batch(&mut self, pairs: usize) {
        self.progress.note(&format!("note: out of memory; going on with {}", at_once(pairs)));
    }
}

/// The command of this process with `--resume`, as a shell takes it.
fn command_to_resume() -> String {
    let resumes = std::env::args_os().any(|word| word == "--resume");
    if resumes { command_line() } else { command_line() + " --resume" }
}

/// The command of this process, as a shell takes it.
pub fn command_line() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
