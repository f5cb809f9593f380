//! What runs until a signal ends it.

use crate::failure::{Context, Exit, Failure};
use crate::notice;
use crate::signals::{Signal, Signals};
use crate::streams;
use troupe_broker::Node;

/// Waits for what ends a node. Made before the node is, so that no signal meets the default action, and nothing
/// that is said waits for its reader.
pub struct Foreground {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    /// What must be done even if a second signal leaves no time for anything else.
    last: Box<dyn FnOnce() + Send>,
}

impl Foreground {
    pub fn new() -> Result<Foreground, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.with_context(|| "cannot wait for signals".to_owned())?;
        let guard = runtime.enter();
        let signals = Signals::new()?;
        drop(guard);
        streams::never_wait().with_context(|| "cannot start threads".to_owned())?;
        Ok(Foreground { runtime, signals, last: Box::new(|| {}) })
    }

    /// This is done before a second signal ends the process.
    pub fn at_last(&mut self, last: impl FnOnce() + Send + 'static) {
        self.last = Box::new(last);
    }

    /// What happened first.
    ///
    /// # Errors
    /// It was a signal.
    pub fn wait<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Signal> {
        self.runtime.block_on(async {
            tokio::select! {
                signal = self.signals.next() => Err(signal),
                outcome = other => Ok(outcome),
            }
        })
    }

    /// Stops the node at a signal; a second one ends the process at once.
    pub fn run(mut self, node: Node) -> Result<(), Failure> {
        if self.wait(node.failed()).is_ok() {
            return Err(match self.wait(node.ready()) {
                Ok(Err(error)) => Failure::new(Exit::Failed, "the node cannot go on", error),
                Ok(Ok(())) | Err(_) => {
                    let cause = "the node stopped by itself; what it said before tells why";
                    Failure::new(Exit::Failed, "", cause)
                }
            });
        }
        self.end(node);
        Ok(())
    }

    /// Stops the node, as a signal has asked for; another one ends the process at once.
    pub fn end(self, node: Node) {
        self.hurry();
        tracing::info!("stopping");
        node.stop();
    }

    /// From now on, a signal ends the process at once.
    pub fn hurry(mut self) {
        std::thread::spawn(move || {
            if let Err(signal) = self.wait(std::future::pending::<()>()) {
                notice!("stopped without waiting; the next start recovers");
                (self.last)();
                signal.end_at_once();
            }
        });
    }
}
