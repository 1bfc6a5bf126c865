//! Talk on stderr, data on stdout and into the output folder.

use penjing::circuit::file::write_atomically;
use std::io::Write;
use std::path::Path;

/// Prints an error and, after a blank line, its hint.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("error: {error}");
    let hint = error.chain().find_map(|cause| cause.downcast_ref::<penjing::Error>()?.hint());
    let hint = hint.or_else(|| error.downcast_ref::<Usage>().map(|usage| usage.hint.clone()));
    let hint = hint.or_else(|| error.downcast_ref::<Interrupted>().map(|stopped| stopped.hint.clone()));
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

/// A signal ended the run.
#[derive(Debug)]
pub struct Interrupted {
    pub message: String,
    pub hint: String,
    /// 128 and the signal's number, as shells have it.
    pub exit_code: u8,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Interrupted {}

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
