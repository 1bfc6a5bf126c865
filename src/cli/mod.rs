//! The command line: what can be typed, and which function answers it.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 a check failed or a target was not reached, 2 bad usage, task,
//! model or file, 130 and 143 stopped by Ctrl-C and SIGTERM.

#[cfg(feature = "torch")]
mod backpatch;
#[cfg(feature = "torch")]
mod bench;
#[cfg(feature = "torch")]
mod choice;
mod compare;
mod comparison;
#[cfg(feature = "torch")]
mod constants;
#[cfg(feature = "torch")]
mod discover;
mod doctor;
#[cfg(feature = "torch")]
mod dosed;
#[cfg(feature = "torch")]
mod evaluate;
#[cfg(feature = "torch")]
mod evidence;
#[cfg(feature = "torch")]
mod features;
#[cfg(feature = "torch")]
mod hub;
#[cfg(feature = "torch")]
mod inside;
#[cfg(feature = "torch")]
mod inspect;
#[cfg(feature = "torch")]
mod lens;
#[cfg(feature = "torch")]
mod long_run;
mod merge;
#[cfg(feature = "torch")]
mod model;
#[cfg(feature = "torch")]
mod neurons;
#[cfg(feature = "torch")]
mod observe;
#[cfg(feature = "torch")]
mod options;
#[cfg(feature = "torch")]
mod overprompts;
#[cfg(feature = "torch")]
mod patch;
#[cfg(feature = "torch")]
mod patchscope;
#[cfg(feature = "torch")]
mod pictures;
#[cfg(feature = "torch")]
mod progress;
mod record;
mod render;
#[cfg(feature = "torch")]
mod repair;
#[cfg(feature = "torch")]
mod repaired;
#[cfg(feature = "torch")]
mod resources;
#[cfg(feature = "torch")]
mod results;
#[cfg(feature = "torch")]
mod run;
#[cfg(feature = "torch")]
mod sae;
#[cfg(feature = "torch")]
mod sae_eval;
#[cfg(feature = "torch")]
mod sae_train;
#[cfg(feature = "torch")]
mod score;
#[cfg(feature = "torch")]
mod scored;
#[cfg(feature = "torch")]
mod shard;
#[cfg(feature = "torch")]
mod signals;
#[cfg(feature = "torch")]
mod sweep;
#[cfg(feature = "torch")]
mod table;
mod task;
mod term;
#[cfg(feature = "torch")]
mod texts;
#[cfg(feature = "torch")]
mod tune_lens;
#[cfg(feature = "torch")]
mod vector;
#[cfg(feature = "torch")]
mod work;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Finds which attention heads and MLPs of a language model do a task, proves it, and draws the circuit
#[derive(Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find the minimal faithful circuit of a task, prove it and draw it
    #[cfg(feature = "torch")]
    Discover(discover::Discover),
    /// Score every edge of the model's graph
    #[cfg(feature = "torch")]
    Score(score::Score),
    /// Put the shards of a scoring run together
    Merge(merge::Merge),
    /// Measure a circuit on fresh pairs
    #[cfg(feature = "torch")]
    Evaluate(evaluate::Evaluate),
    /// How good methods are at finding circuits
    #[cfg(feature = "torch")]
    Bench {
        #[command(subcommand)]
        command: bench::BenchCommand,
    },
    /// Run a prompt with edits: what comes next and goes on, before and after
    #[cfg(feature = "torch")]
    Run(run::RunCommand),
    /// Whether a later layer's output, put back earlier, mends wrong answers
    #[cfg(feature = "torch")]
    Backpatch(backpatch::Backpatch),
    /// Every neuron over a text: where it is active, how often, and what it writes
    #[cfg(feature = "torch")]
    Observe(observe::Observe),
    /// What one prompt holds, said by another
    #[cfg(feature = "torch")]
    Patchscope(patchscope::Patchscope),
    /// An edit with a free amount: what it does, what it costs
    #[cfg(feature = "torch")]
    Sweep(sweep::Sweep),
    /// Directions from two sets of prompts, for edits
    #[cfg(feature = "torch")]
    Vector {
        #[command(subcommand)]
        command: vector::VectorCommand,
    },
    /// Dictionaries of features (sparse autoencoders): train, look at, measure, convert
    #[cfg(feature = "torch")]
    Sae {
        #[command(subcommand)]
        command: sae::SaeCommand,
    },
    /// What the model would say after each layer
    #[cfg(feature = "torch")]
    Lens(lens::Lens),
    /// Train a tuned lens on a text, for `penjing lens --lens`
    #[cfg(feature = "torch")]
    TuneLens(tune_lens::TuneLens),
    /// Exchange values between clean and corrupt runs, place by place, and draw the effects
    #[cfg(feature = "torch")]
    Patch(patch::Patch),
    /// What a component's ablation costs directly, and who makes up for it
    #[cfg(feature = "torch")]
    #[command(mut_arg("prompt", |of| of.value_name("TASK|PROMPT").help("A task, or with --answer a prompt")))]
    Repair(repair::RepairCommand),
    /// Draw circuit files, and write them for other tools
    Render(render::Render),
    /// Compare circuits: of one model edge by edge, across models by what their nodes do
    Compare(compare::Compare),
    /// List, show, check or start tasks
    Task {
        #[command(subcommand)]
        command: task::TaskCommand,
    },
    /// Show models and check their numbers
    #[cfg(feature = "torch")]
    Model {
        #[command(subcommand)]
        command: model::ModelCommand,
    },
    /// Show versions, devices, threads and what is missing
    Doctor,
}

/// How a command ended, apart from errors.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Done,
    /// A check failed or a target was not reached.
    Failed,
}

pub fn main() -> ExitCode {
    quiet_panics();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are not errors; both paths print where they should.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run_caught(arguments) {
        Ok(Ended::Done) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::from(1),
        Err(error) => {
            // A reader that went away (`penjing ... | head`) is no error.
            let gone = error.chain().any(|cause| {
                cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            });
            if gone {
                return ExitCode::SUCCESS;
            }
            term::error(&error);
            ExitCode::from(error.downcast_ref::<term::Interrupted>().map_or(2, |stopped| stopped.exit_code))
        }
    }
}

/// Runs the command; where libtorch ran out of memory outside of the code that can do with less, that is an error.
fn run_caught(arguments: Arguments) -> anyhow::Result<Ended> {
    #[cfg(feature = "torch")]
    return penjing::measure::memory::out_of_memory(|| run(arguments)).unwrap_or_else(|| {
        let message = "out of memory".to_owned();
        Err(term::Usage { message, hint: "take fewer --pairs, a smaller model, or --device cpu".into() }.into())
    });
    #[cfg(not(feature = "torch"))]
    run(arguments)
}

fn run(Arguments { json, command }: Arguments) -> anyhow::Result<Ended> {
    match command {
        #[cfg(feature = "torch")]
        Command::Discover(command) => discover::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Score(command) => score::run(&command, json),
        Command::Merge(command) => merge::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Evaluate(command) => evaluate::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Bench { command } => bench::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Run(command) => run::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Lens(command) => lens::run(&command, json),
        #[cfg(feature = "torch")]
        Command::TuneLens(command) => tune_lens::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Backpatch(command) => backpatch::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Observe(command) => observe::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Patchscope(command) => patchscope::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Sweep(command) => sweep::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Vector { command } => vector::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Sae { command } => sae::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Patch(command) => patch::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Repair(command) => repair::run(&command, json),
        Command::Render(command) => render::run(&command, json),
        Command::Compare(command) => compare::run(&command, json),
        Command::Task { command } => task::run(command, json, &model_tokenizer),
        #[cfg(feature = "torch")]
        Command::Model { command } => model::run(&command, json),
        Command::Doctor => doctor::run(json),
    }
}

/// The tokenizer of a model by the name that commands take.
fn model_tokenizer(model: &str) -> anyhow::Result<penjing::tokenizer::Tokenizer> {
    #[cfg(feature = "torch")]
    return Ok(penjing::model::load::load_tokenizer(model, hub::cache().as_deref()).map_err(penjing::Error::from)?);
    #[cfg(not(feature = "torch"))]
    return Ok(penjing::tokenizer::Tokenizer::from_file(std::path::Path::new(model).join("tokenizer.json"))
        .map_err(penjing::Error::from)?);
}

/// An internal error says what happened and how to report it, in a few lines, without a C++ backtrace.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        #[cfg(feature = "torch")]
        if penjing::measure::memory::is_out_of_memory(text) {
            return; // caught: the run goes on with smaller batches, or ends with an error
        }
        let text = text.split("Exception raised from").next().unwrap_or(text).trim();
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        eprintln!(
            "error: internal error{place}: {text}\n\nhint: this is a bug in penjing; please report the command and this message"
        );
        std::process::exit(2);
    }));
}
