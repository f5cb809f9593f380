//! Waiting for the signals that ask a command to end: SIGINT, SIGTERM, and SIGHUP unless it was started to ignore
//! that one.
//!
//! Promises: the first one lets the command end in order, and its exit code says which it was, as shells count:
//! 128 and the signal's number. A second one ends the process at once.

use crate::exit::{self, Signal};
use crate::failure::{Context, Failure};
use crate::streams;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};
use tokio::sync::watch;

/// Ends the process, as a shell counts an end by this signal.
pub fn end_at_once(signal: Signal) -> ! {
    streams::finish();
    std::process::exit(signal.exit() as i32)
}

/// Those that come from now on.
pub struct Signals {
    interrupt: Stream,
    terminate: Stream,
    hangup: Option<Stream>,
}

impl Signals {
    /// Within a runtime.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn new() -> Result<Signals, Failure> {
        let listen = |kind| signal(kind).with_context(|| "cannot wait for signals".to_owned());
        let hangup = match is_ignored(libc::SIGHUP) {
            // By `nohup`: it shall outlive its terminal.
            true => None,
            false => Some(listen(SignalKind::hangup())?),
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup,
        })
    }

    /// Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = hangup => Signal::Hangup,
        };
        exit::catch(signal);
        signal
    }
}

/// The first signal, waited for by a task of its own: whoever is to stop may be busy with a reader that takes
/// nothing. The second one ends the process at once.
#[derive(Clone)]
pub struct Stop(watch::Receiver<Option<Signal>>);

impl Stop {
    /// Within a runtime of several threads.
    ///
    /// # Errors
    /// As [`Signals::new`].
    pub fn new() -> Result<Stop, Failure> {
        let mut signals = Signals::new()?;
        // It may have come between two parts of a command.
        let (sender, receiver) = watch::channel(exit::caught());
        tokio::spawn(async move {
            sender.send_replace(Some(signals.next().await));
            end_at_once(signals.next().await);
        });
        Ok(Stop(receiver))
    }

    /// Whether it has come.
    pub fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Cancel-safe.
    pub async fn wait(&mut self) -> Signal {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(signal)) => *signal,
            // The task ends with the runtime, and this one too.
            _ => std::future::pending().await,
        }
    }

    /// What comes first: the other thing, or a signal.
    ///
    /// # Errors
    /// It was a signal.
    pub async fn or<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Signal> {
        tokio::select! {
            outcome = other => Ok(outcome),
            signal = self.wait() => Err(signal),
        }
    }
}

fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: the call only fills the struct, for which zeros are a value like others.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
