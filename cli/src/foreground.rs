//! What runs until a signal ends it.

use crate::failure::{During, Exit, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use troupe_broker::Node;

/// Waits for what ends a node. Made before the node is, so that no signal meets the default action.
pub struct Foreground {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
}

impl Foreground {
    pub fn new() -> Result<Foreground, Failure> {
        let what = || "cannot wait for signals".to_owned();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().during(what)?;
        let guard = runtime.enter();
        let terminate = signal(SignalKind::terminate()).during(what)?;
        let interrupt = signal(SignalKind::interrupt()).during(what)?;
        drop(guard);
        Ok(Foreground { runtime, terminate, interrupt })
    }

    /// What happened first; None: SIGTERM or SIGINT.
    pub fn wait<T>(&mut self, other: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => None,
                _ = self.interrupt.recv() => None,
                outcome = other => Some(outcome),
            }
        })
    }

    /// Stops the node at SIGTERM or SIGINT; a second one ends the process at once.
    pub fn run(mut self, node: Node) -> Result<(), Failure> {
        if self.wait(node.failed()).is_some() {
            return Err(match self.wait(node.ready()) {
                Some(Err(error)) => Failure::new(Exit::Failed, "the node cannot go on", error),
                Some(Ok(())) | None => {
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
            self.wait(std::future::pending::<()>());
            eprintln!("stopped without waiting; the next start recovers");
            std::process::exit(Exit::Interrupted as i32);
        });
    }
}
