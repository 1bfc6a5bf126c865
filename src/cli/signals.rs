//! Ctrl-C and SIGTERM ask a run to stop at its next safe point; a second one ends it at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Listens until it is dropped; from then on signals end the process as if nobody had listened.
pub struct Signals {
    /// The number of the signal that came last, 0 if none has.
    received: Arc<AtomicUsize>,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> std::io::Result<Signals> {
        let signals = Signals { received: Arc::default(), at_once: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // In the order in which they are to act: the first signal only sets what the second one finds.
            flag::register_conditional_default(signal, Arc::clone(&signals.at_once))?;
            flag::register(signal, Arc::clone(&signals.at_once))?;
            flag::register_usize(signal, Arc::clone(&signals.received), signal as usize)?;
        }
        Ok(signals)
    }

    /// The signal that asks the run to stop, by number.
    pub fn received(&self) -> Option<u8> {
        u8::try_from(self.received.load(Ordering::SeqCst)).ok().filter(|&signal| signal > 0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.at_once.store(true, Ordering::SeqCst);
    }
}

/// How a signal is called.
pub fn name(signal: u8) -> &'static str {
    if i32::from(signal) == SIGINT { "Ctrl-C" } else { "SIGTERM" }
}
