//! A node in the foreground: starting it, saying where it listens, and running it until a signal ends it.
//!
//! Promises: a first signal stops the node in order, a second one ends the process at once.

use crate::exit::{Exit, Signal};
use crate::failure::{Context, Failure};
use crate::output::Output;
use crate::signals::{Signals, end_at_once};
use crate::streams::{self, notice};
use std::path::Path;
use troupe_broker::{Node, NodeConfig, StartError};

/// Waits for what ends a node. Made before the node is, so that no signal meets the default action, and nothing
/// that is said waits for its reader.
pub struct Foreground {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
    /// What must be done even if a second signal leaves no time for anything else.
    forced_exit: Box<dyn FnOnce() + Send>,
}

impl Foreground {
    pub fn new() -> Result<Foreground, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.with_context(|| "cannot wait for signals".to_owned())?;
        let guard = runtime.enter();
        let signals = Signals::new()?;
        drop(guard);
        streams::never_block().with_context(|| "cannot start threads".to_owned())?;
        Ok(Foreground { runtime, signals, forced_exit: Box::new(|| {}) })
    }

    /// This is done before a second signal ends the process.
    pub fn on_forced_exit(&mut self, done: impl FnOnce() + Send + 'static) {
        self.forced_exit = Box::new(done);
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
        self.stop(node);
        Ok(())
    }

    /// Stops the node, as a signal has asked for; another one ends the process at once.
    pub fn stop(self, node: Node) {
        self.exit_on_signal();
        tracing::info!("stopping");
        node.stop();
    }

    /// From now on, a signal ends the process at once.
    pub fn exit_on_signal(mut self) {
        std::thread::spawn(move || {
            if let Err(signal) = self.wait(std::future::pending::<()>()) {
                notice!("stopped without waiting; the next start recovers");
                (self.forced_exit)();
                end_at_once(signal);
            }
        });
    }
}

pub fn start(config: NodeConfig) -> Result<Node, Failure> {
    Node::start(config).map_err(|error| cannot_start("the node cannot start", error))
}

/// Why a node did not start, and what to do about it.
pub fn cannot_start(what: &str, error: StartError) -> Failure {
    let hint = match &error {
        StartError::Listen { .. } => Some(
            "another node may be running: choose other ports with --set, or dev's --listen and --http",
        ),
        _ => error.advice(),
    };
    let failure = Failure::new(Exit::Failed, what, error);
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// Says where the node listens: for a program one line of JSON, for a person what `text` says.
pub fn announce(
    output: &Output,
    node: &Node,
    data_dir: &Path,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    if !output.format.is_json() {
        return output.print(&text());
    }
    let line = serde_json::json!({
        "grpc": node.grpc_addr().to_string(),
        "http": node.http_addr().to_string(),
        "clusterId": node.cluster_id(),
        "dataDir": data_dir.display().to_string(),
        "pid": std::process::id(),
    });
    output.print(&format!("{line}\n"))
}
