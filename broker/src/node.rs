//! A node: a controller, shards with their partitions and listeners, and the loop that keeps the
//! partitions here in step with the cluster's image.
//!
//! Owns the threads, the data directory's lock and the order of starting and stopping. Stopping drains:
//! long streams are ended, what was appended is flushed and answered, logs are closed cleanly.

mod reconcile;
mod running;

use crate::NodeConfig;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Directory(#[from] troupe_log::DirectoryError),
    #[error("cannot listen on {address}: {source}; choose another with {key}")]
    Listen { address: SocketAddr, key: &'static str, source: std::io::Error },
    #[error("the metadata in {path} cannot be opened: {source}", path = path.display())]
    Controller { path: PathBuf, source: troupe_controller::ControllerStartError },
    #[error(
        "the metadata in {metadata} is new, but {count} partitions of an earlier life stand beside it; \
         restore the metadata, or move the partitions away",
        metadata = metadata.display()
    )]
    ForeignPartitions { metadata: PathBuf, count: usize },
    #[error("the node cannot register with the controller: {0}")]
    Register(troupe_proto::error::Error),
    #[error("no thread could be started: {0}")]
    Thread(std::io::Error),
    #[error("the node stopped while it was starting")]
    Stopped,
}

/// Where a node that started can be reached.
#[derive(Clone, Debug)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    cluster_id: String,
}

/// A running node. Dropping it stops it too.
pub struct Node {
    addresses: Addresses,
    stop: CancellationToken,
    stopped: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts a node on threads of its own and returns when it serves.
    pub fn start(config: NodeConfig) -> Result<Node, StartError> {
        raise_descriptor_limit();
        let directory = troupe_log::DataDirectory::open(&config.log_dir)?;
        let stop = CancellationToken::new();
        let (started, outcome) = mpsc::sync_channel(1);
        let (stopped_sender, stopped) = watch::channel(false);
        let thread = {
            let stop = stop.clone();
            std::thread::Builder::new()
                .name("node".to_owned())
                .spawn(move || {
                    running::run(config, directory, stop, started);
                    stopped_sender.send_replace(true);
                })
                .map_err(StartError::Thread)?
        };
        match outcome.recv() {
            Ok(Ok(addresses)) => Ok(Node { addresses, stop, stopped, thread: Some(thread) }),
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

    fn halt(&mut self) {
        self.stop.cancel();
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

/// Every partition in use takes a descriptor, every connection another.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max
        {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
