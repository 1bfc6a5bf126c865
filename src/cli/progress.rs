//! Progress of long work with an estimate of the time left, on stderr and only on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

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

    /// A phase that an earlier run has done a share of: what is left is estimated from what is done from here on.
    pub fn bar_from(phase: &str, share: f64) -> Progress {
        let progress = Progress::bar(phase);
        progress.set(share);
        progress.bar.reset_eta();
        progress
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

    /// Prints a line above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| super::term::note(text));
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
