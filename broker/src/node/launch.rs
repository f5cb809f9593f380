//! A node on threads of its own, and what whoever started it holds of it.

use super::progress::{Addresses, Ending, ListenerAddress, Progress};
use super::running;
use super::start_error::StartError;
use crate::NodeConfig;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::watch;
use troupe_actor::PauseGate;

/// A running node. Dropping it stops it too.
pub struct Node {
    addresses: Addresses,
    ending: Ending,
    progress: watch::Receiver<Progress>,
    stopped: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
    /// Who ends the node ends its pause.
    pause: Arc<PauseGate>,
}

impl Node {
    /// Starts a node on threads of its own. A node alone serves when this returns; one of several listens, and
    /// serves when [`Node::ready`] says so: that takes a majority of the controllers.
    pub fn start(config: NodeConfig) -> Result<Node, StartError> {
        crate::descriptors::raise_limit();
        let paths = config.log_directories();
        let directories = troupe_log::LogDirectories::open(&config.metadata_directory(), &paths)?;
        let ending = Ending::default();
        let (progress_sender, progress) = watch::channel(Progress::Joining);
        let (started, outcome) = mpsc::sync_channel(1);
        let (stopped_sender, stopped) = watch::channel(false);
        let pause = Arc::<PauseGate>::default();
        let thread = {
            let (ending, pause) = (ending.clone(), Arc::clone(&pause));
            std::thread::Builder::new()
                .name("node".to_owned())
                .spawn(move || {
                    let outcomes = (started, progress_sender);
                    running::run(config, directories, pause, ending, outcomes);
                    stopped_sender.send_replace(true);
                })
                .map_err(StartError::Thread)?
        };
        match outcome.recv() {
            Ok(Ok(addresses)) => {
                Ok(Node { addresses, ending, progress, stopped, thread: Some(thread), pause })
            }
            failed => {
                // The thread ends by itself; a panic in it has been printed.
                let _ = thread.join();
                Err(failed.map_or(StartError::Stopped, |outcome| match outcome {
                    Err(error) => error,
                    Ok(_) => StartError::Stopped,
                }))
            }
        }
    }

    /// Address of the gRPC listener by which nodes reach each other.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// All listeners for clients and brokers.
    pub fn listeners(&self) -> &[ListenerAddress] {
        &self.addresses.listeners
    }

    /// Address of the HTTP listener.
    pub fn http_addr(&self) -> SocketAddr {
        self.addresses.http
    }

    pub fn cluster_id(&self) -> &str {
        &self.addresses.cluster_id
    }

    /// Resolves when the node serves.
    ///
    /// # Errors
    /// It will not: why.
    pub async fn ready(&self) -> Result<(), Arc<StartError>> {
        let mut progress = self.progress.clone();
        let joined = progress.wait_for(|progress| !matches!(progress, Progress::Joining)).await;
        match joined.as_deref() {
            Ok(Progress::Ready) => Ok(()),
            Ok(Progress::Failed(error)) => Err(Arc::clone(error)),
            Ok(Progress::Joining) | Err(_) => Err(Arc::new(StartError::Stopped)),
        }
    }

    /// Resolves when the node has stopped, by itself or not.
    pub async fn failed(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that the sender is gone, and the thread with it.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// Stops gracefully; returns when everything is on disk and closed.
    pub fn stop(mut self) {
        self.halt();
    }

    /// Stops without a goodbye, as if the process had been killed, except that this returns when its data
    /// directory can be opened again.
    pub fn kill(mut self) {
        self.ending.at_once.cancel();
        self.halt();
    }

    fn halt(&mut self) {
        self.ending.gracefully.cancel();
        self.pause.remove();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.halt();
    }
}
