//! Ctrl-C and SIGTERM ask a run to stop at its next safe point; a second one ends it at once.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

// Signals are the process's, and so is this. Whether a first Ctrl-C or SIGTERM was there: one more then ends the
// process, and so does any while nobody listens.
static INTERRUPTED: AtomicBool = AtomicBool::new(true);
static TERMINATED: AtomicBool = AtomicBool::new(true);
/// The number of the signal that came last, 0 if none has.
static RECEIVED: AtomicUsize = AtomicUsize::new(0);
static HANDLED: Mutex<bool> = Mutex::new(false);

/// Listens until it is dropped; from then on signals end the process as if nobody had listened.
pub struct Signals(());

impl Signals {
    /// # Errors
    /// When the system refuses the handlers.
    pub fn listen() -> std::io::Result<Signals> {
        let mut handled = HANDLED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*handled {
            // Two threads can take the two signals at the same moment. Each says that it was there before it looks
            // for the other, so that one of them at least finds that it is the second.
            for (signal, this, other) in [(SIGINT, &INTERRUPTED, &TERMINATED), (SIGTERM, &TERMINATED, &INTERRUPTED)] {
                flag::register_conditional_default(signal, this)?;
                flag::register(signal, this)?;
                flag::register_conditional_default(signal, other)?;
                flag::register_usize(signal, &RECEIVED, signal as usize)?;
            }
            *handled = true;
        }
        RECEIVED.store(0, Ordering::SeqCst);
        next_ends_the_process(false);
        Ok(Signals(()))
    }

    /// The signal that asks the run to stop, by number.
    pub fn received(&self) -> Option<u8> {
        u8::try_from(RECEIVED.load(Ordering::SeqCst)).ok().filter(|&signal| signal > 0)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        next_ends_the_process(true);
    }
}

fn next_ends_the_process(does: bool) {
    INTERRUPTED.store(does, Ordering::SeqCst);
    TERMINATED.store(does, Ordering::SeqCst);
}

/// How a signal is called.
pub fn name(signal: u8) -> &'static str {
    if i32::from(signal) == SIGINT { "Ctrl-C" } else { "SIGTERM" }
}
