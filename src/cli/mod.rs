//! The command line: what can be typed, and which function answers it.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 a check failed or a target was not reached, 2 bad usage, task,
//! model or file.

#[cfg(feature = "torch")]
mod discover;
mod doctor;
#[cfg(feature = "torch")]
mod evaluate;
#[cfg(feature = "torch")]
mod options;
#[cfg(feature = "torch")]
mod progress;
mod render;
#[cfg(feature = "torch")]
mod score;
mod task;
mod term;
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
    /// Measure a circuit on fresh pairs
    #[cfg(feature = "torch")]
    Evaluate(evaluate::Evaluate),
    /// Draw a circuit file
    Render(render::Render),
    /// List, show, check or start tasks
    Task {
        #[command(subcommand)]
        command: task::TaskCommand,
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
    match run(arguments) {
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
            ExitCode::from(2)
        }
    }
}

fn run(Arguments { json, command }: Arguments) -> anyhow::Result<Ended> {
    match command {
        #[cfg(feature = "torch")]
        Command::Discover(command) => discover::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Score(command) => score::run(&command, json),
        #[cfg(feature = "torch")]
        Command::Evaluate(command) => evaluate::run(&command, json),
        Command::Render(command) => render::run(&command, json),
        Command::Task { command } => task::run(command, json, &model_tokenizer),
        Command::Doctor => doctor::run(json),
    }
}

/// The tokenizer of a model by the name that commands take.
fn model_tokenizer(model: &str) -> anyhow::Result<penjing::tokenizer::Tokenizer> {
    #[cfg(feature = "torch")]
    return Ok(penjing::model::load::load_tokenizer(model).map_err(penjing::Error::from)?);
    #[cfg(not(feature = "torch"))]
    return Ok(penjing::tokenizer::Tokenizer::from_file(std::path::Path::new(model).join("tokenizer.json"))
        .map_err(penjing::Error::from)?);
}

/// An internal error says what happened and how to report it, in a few lines, without a C++ backtrace.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no message");
        let text = text.split("Exception raised from").next().unwrap_or(text).trim();
        let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        eprintln!(
            "error: internal error{place}: {text}\n\nhint: this is a bug in penjing; please report the command and this message"
        );
        std::process::exit(2);
    }));
}
