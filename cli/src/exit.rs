//! How the process ends: the code that tells a script what happened, and the signal that has asked for the end.
//!
//! Never here: waiting for a signal, or ending anything.

use std::sync::OnceLock;

static CAUGHT: OnceLock<Signal> = OnceLock::new();

/// The first signal that has come, of those that somebody waited for.
pub fn caught() -> Option<Signal> {
    CAUGHT.get().copied()
}

/// Later ones hurry the same end.
pub fn catch(signal: Signal) {
    let _ = CAUGHT.set(signal);
}

/// What the exit code tells a script. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line makes no sense; clap uses the same number.
    Usage = 2,
    NotFound = 3,
    /// The broker understood and said no; the same again would be refused again.
    Refused = 4,
    /// `troupe cluster health`: all is served, with less in reserve than there should be.
    Degraded = 5,
    /// `troupe cluster health`: something that clients ask for is refused, or waits.
    Unhealthy = 6,
    /// A signal ended it, as shells count those: here SIGHUP.
    Hangup = 129,
    /// SIGINT, Ctrl-C.
    Interrupted = 130,
    /// Nobody reads the output any more: as if by SIGPIPE, which ends other tools.
    PipeClosed = 141,
    /// SIGTERM.
    Terminated = 143,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Hangup,
    Interrupt,
    Terminate,
}

impl Signal {
    pub fn exit(self) -> Exit {
        match self {
            Signal::Hangup => Exit::Hangup,
            Signal::Interrupt => Exit::Interrupted,
            Signal::Terminate => Exit::Terminated,
        }
    }
}
