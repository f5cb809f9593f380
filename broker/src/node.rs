//! A node: a controller, shards with their partitions and listeners, and the loop that keeps the
//! partitions here in step with the cluster's image.
//!
//! Owns the threads, the data directory's lock and the order of starting and stopping. Stopping drains:
//! long streams are ended, what was appended is flushed and answered, logs are closed cleanly.

mod advertised;
mod controllers;
mod duplicate_broker;
mod owner;
mod reconcile;
mod running;
mod session;
mod sockets;
mod space;

use crate::NodeConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_controller::ControllerStartError;
use troupe_log::DirectoryError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot listen on {address}: {source}; choose another with {key}")]
    Listen { address: SocketAddr, key: &'static str, source: std::io::Error },
    #[error("the metadata in {path} cannot be opened: {source}", path = path.display())]
    Controller { path: PathBuf, source: Box<ControllerStartError> },
    #[error(
        "the metadata in {metadata} is new, but {count} partitions of an earlier life stand beside it; \
         restore the metadata, or move the partitions away",
        metadata = metadata.display()
    )]
    ForeignPartitions { metadata: PathBuf, count: usize },
    #[error(
        "the cluster's metadata is new: this broker was registered at {before} before, and at {current} now, but \
         {count} partitions of then are in its data directory; restore the metadata, or move the partitions away"
    )]
    NewMetadata {
        count: usize,
        before: troupe_proto::ids::BrokerEpoch,
        current: troupe_proto::ids::BrokerEpoch,
    },
    #[error(
        "{metadata} holds the decisions of a controller, and process.roles are `{roles}` now; make it a controller \
         again, or move that directory away: a controller that forgets what it has decided must not come back",
        metadata = metadata.display()
    )]
    FormerController { metadata: PathBuf, roles: String },
    #[error(
        "{count} partitions are in {directory}, and process.roles are `{roles}` now: nobody would serve them; make it \
         a broker again, or choose another log.dir",
        directory = directory.display()
    )]
    FormerBroker { directory: PathBuf, count: usize, roles: String },
    #[error("controller.quorum.voters: {0}")]
    Voters(#[from] troupe_controller::VotersError),
    #[error(
        "the data directory is not formatted, and cluster.id is not set: a cluster's nodes have to agree on \
         one; `troupe storage format` writes it, `troupe storage random-uuid` makes one"
    )]
    NotFormatted,
    #[error("this node cannot be a part of the quorum: {0}")]
    Quorum(Box<ControllerStartError>),
    #[error("the node cannot register with the controller: {0}")]
    Register(troupe_proto::error::Error),
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    #[error(
        "the metadata log has failed: what was said before tells why; the next start recovers it"
    )]
    MetadataLog,
    #[error("the node stopped while it was starting")]
    Stopped,
}

impl StartError {
    /// What to try, where the error does not say it.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            StartError::Directory(DirectoryError::OtherNode { .. }) => Some(
                "node.id and cluster.id as they were, or another log.dir: what is in this one stays that node's",
            ),
            StartError::Controller { source, .. } => match **source {
                ControllerStartError::WrongVoters { .. } => Some(
                    "controller.quorum.voters with these nodes, or another log.dir: who decides in a cluster is \
                     settled at its first start",
                ),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Where in the data directory the controller keeps its log.
const METADATA_DIR: &str = "metadata";

/// Where a node that started can be reached.
#[derive(Clone, Debug)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    cluster_id: String,
}

/// How far a node is.
#[derive(Clone, Debug)]
enum Progress {
    Joining,
    Ready,
    Failed(Arc<StartError>),
}

/// What a node is told in the end.
#[derive(Clone, Debug, Default)]
struct Ending {
    gracefully: CancellationToken,
    at_once: CancellationToken,
}

impl Ending {
    async fn begun(&self) {
        tokio::select! {
            () = self.gracefully.cancelled() => {}
            () = self.at_once.cancelled() => {}
        }
    }
}

/// A running node. Dropping it stops it too.
pub struct Node {
    addresses: Addresses,
    ending: Ending,
    progress: watch::Receiver<Progress>,
    stopped: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node on threads of its own. A node alone serves when this returns; one of several listens, and
    /// serves when [`Node::ready`] says so: that takes a majority of the controllers.
    pub fn start(config: NodeConfig) -> Result<Node, StartError> {
        crate::descriptors::raise_limit();
        let directory = troupe_log::DataDirectory::open(&config.log_dir)?;
        let ending = Ending::default();
        let (progress_sender, progress) = watch::channel(Progress::Joining);
        let (started, outcome) = mpsc::sync_channel(1);
        let (stopped_sender, stopped) = watch::channel(false);
        let thread = {
            let ending = ending.clone();
            std::thread::Builder::new()
                .name("node".to_owned())
                .spawn(move || {
                    running::run(config, directory, ending, started, progress_sender);
                    stopped_sender.send_replace(true);
                })
                .map_err(StartError::Thread)?
        };
        match outcome.recv() {
            Ok(Ok(addresses)) => {
                Ok(Node { addresses, ending, progress, stopped, thread: Some(thread) })
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

    /// Address of the gRPC listener.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.addresses.grpc
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
