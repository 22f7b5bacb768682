//! Ctrl-C and its kin, as an error at the next step, so that everything on the way out is cleaned up.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Knows whether this process was asked to stop.
pub struct Interrupt(Arc<AtomicUsize>);

/// The error that a request to stop turns into.
#[derive(Debug)]
pub struct Interrupted {
    signal: usize,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "interrupted by signal {}; the arrays are removed", self.signal)
    }
}

impl std::error::Error for Interrupted {}

impl Interrupt {
    /// Catches the signals that ask a process to stop.
    pub fn watch() -> std::io::Result<Self> {
        let caught = Arc::new(AtomicUsize::new(0));
        for signal in [
            SIGINT,
            SIGTERM,
            #[cfg(unix)]
            signal_hook::consts::SIGHUP,
        ] {
            flag::register_usize(signal, Arc::clone(&caught), signal as usize)?;
        }
        Ok(Self(caught))
    }

    #[cfg(test)]
    pub fn as_if_caught(signal: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(signal)))
    }

    /// An error if this process was asked to stop.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Interrupted { signal }),
        }
    }
}

/// What a shell expects of a process that ends like this: 128 and the signal, or 1.
pub fn exit_code(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let signal = error.downcast_ref::<Interrupted>().map(|interrupted| interrupted.signal);
    signal.and_then(|signal| u8::try_from(128 + signal).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
