//! Talk: errors, notes and progress, all on stderr.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use penjing::circuit::file::write_atomically;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Prints an error and, after a blank line, its hint.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error:#}");
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<penjing::Error>()?.hint());
    let hint = hint.or_else(|| error.downcast_ref::<Usage>().map(|usage| usage.hint.clone()));
    if let Some(hint) = hint {
        text.push_str(&format!("\n\nhint: {hint}"));
    }
    eprintln!("{text}");
}

/// A mistake on the command line that clap cannot see.
#[derive(Debug)]
pub struct Usage {
    pub message: String,
    pub hint: String,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Usage {}

/// A note to the user.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes data to stdout, with a line feed.
///
/// # Errors
/// When stdout is closed.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Prints one JSON document.
///
/// # Errors
/// When stdout is closed.
pub fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?)
}

/// A phase of a long command: a bar with an estimate of the time left, or a line of text; nothing unless stderr is a
/// terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A phase whose share done is known.
    pub fn bar(phase: &str) -> Progress {
        Progress::start(phase, "{msg:22} {bar:30} {percent:>3} %  {elapsed} gone, {eta} to go", Some(1000))
    }

    /// A phase of unknown length.
    pub fn text(phase: &str) -> Progress {
        Progress::start(phase, "{msg}  {elapsed}", None)
    }

    fn start(phase: &str, template: &str, length: Option<u64>) -> Progress {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(length, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(phase.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress { bar }
    }

    /// Sets the share done, from 0 to 1.
    pub fn set(&self, share: f64) {
        self.bar.set_position((share * 1000.0) as u64);
    }

    pub fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Makes the output folder, so that an unwritable one is known before the work.
///
/// # Errors
/// When it cannot be made or written.
pub fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let failed = |source| penjing::error::FileError::writing(folder)(source);
    std::fs::create_dir_all(folder).map_err(failed).map_err(penjing::Error::from)?;
    tempfile::NamedTempFile::new_in(folder).map_err(failed).map_err(penjing::Error::from)?;
    Ok(())
}

/// Writes a file of the output folder under a temporary name and renames it.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    write_atomically(&folder.join(name), bytes).map_err(penjing::Error::from)?;
    Ok(())
}
