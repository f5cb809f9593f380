//! The metadata log as a Raft group: openraft, with everything it keeps in sled.
//!
//! Owns the Raft core and its arbiter. Promise: what is answered is on disk at a majority of the voters;
//! here, that is this node. The quorum of several voters only needs another [`network`].

mod entries;
mod image;
mod network;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;
mod types;

use crate::config::{ControllerConfig, ControllerStartError};
use crate::metadata_log::{Leadership, MetadataLog, Proposal, ProposeError, Proposed};
use actix_rt::Arbiter;
use entries::EntryLog;
use futures::StreamExt;
use futures::future::BoxFuture;
use image::ImageMachine;
use network::NoPeers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::Storage;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::NodeId;
use types::{RaftNodeId, TypeConfig, Verdict};

type Raft = openraft::Raft<TypeConfig, ImageMachine>;
type Reply = oneshot::Sender<Result<(), ProposeError>>;

/// Proposals that may wait; the actor has fewer under way.
pub(crate) const MAX_PROPOSALS: usize = 1024;
/// Decisions that go to Raft, and so to disk, together.
const PROPOSALS_AT_ONCE: usize = 64;
/// Entries that stay behind a snapshot, for followers that are only a little late.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 100;
/// How long a directory may still be held by a predecessor in the same process.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct RaftLog {
    proposals: mpsc::Sender<(Proposal, Reply)>,
    image: watch::Receiver<Arc<ClusterImage>>,
    leadership: watch::Receiver<Leadership>,
    running: Mutex<Option<Running>>,
}

/// What has to end before the directory is free again.
struct Running {
    raft: Raft,
    arbiter: Arbiter,
    storage: Storage,
}

impl RaftLog {
    /// Opens the log and takes part in its quorum. A single voter leads within milliseconds.
    pub async fn start(config: &ControllerConfig) -> Result<RaftLog, ControllerStartError> {
        let id = RaftNodeId::try_from(config.node_id.0)
            .map_err(|_| ControllerStartError::NegativeNodeId(config.node_id))?;
        let storage = open(config).await?;
        let machine = ImageMachine::restore(&storage)?;
        let (image, applied_bytes) = (machine.watch(), machine.bytes_since_snapshot());
        let entries = EntryLog::open(&storage)
            .map_err(|source| ControllerStartError::Open { dir: config.dir.clone(), source })?;
        let arbiter = Arbiter::new();
        let (done, started) = oneshot::channel();
        let raft_config = raft_config(config)?;
        let spawned = arbiter.spawn(async move {
            let _ = done.send(start_raft(id, raft_config, entries, machine).await);
        });
        let stopped = || ControllerStartError::Raft("its arbiter stopped".to_owned());
        let started = if spawned { started.await.map_err(|_| stopped()) } else { Err(stopped()) };
        let raft = match started.flatten() {
            Ok(raft) => raft,
            Err(error) => {
                arbiter.stop();
                return Err(error);
            }
        };
        let (tell, leadership) = watch::channel(Leadership::default());
        let (proposals, waiting) = mpsc::channel(MAX_PROPOSALS);
        arbiter.spawn(propose_in_order(raft.clone(), waiting));
        let limit = config.snapshot_bytes;
        arbiter.spawn(follow_metrics(raft.clone(), tell, move || applied_bytes.take_over(limit)));
        let running = Mutex::new(Some(Running { raft, arbiter, storage }));
        Ok(RaftLog { proposals, image, leadership, running })
    }
}

impl MetadataLog for RaftLog {
    fn propose(&self, proposal: Proposal) -> Proposed {
        let (reply, proposed) = oneshot::channel();
        if let Err(refused) = self.proposals.try_send((proposal, reply)) {
            let (_, reply) = refused.into_inner();
            let _ = reply.send(Err(ProposeError::NotLeader { leader: None }));
        }
        proposed
    }

    fn image(&self) -> watch::Receiver<Arc<ClusterImage>> {
        self.image.clone()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Some(Running { raft, arbiter, storage }) = self.running.lock().await.take() else {
                return;
            };
            if let Err(error) = raft.shutdown().await {
                tracing::warn!(%error, "raft did not stop in good order");
            }
            drop(raft);
            arbiter.stop();
            let joined = tokio::task::spawn_blocking(move || {
                let _ = arbiter.join();
                storage.close()
            });
            match joined.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the metadata log was not closed"),
                Err(error) => tracing::error!(%error, "closing the metadata log panicked"),
            }
        })
    }
}

/// A predecessor in this process may need a moment to let go of the directory.
async fn open(config: &ControllerConfig) -> Result<Storage, ControllerStartError> {
    let give_up = tokio::time::Instant::now() + OPEN_PATIENCE;
    loop {
        let dir = config.dir.clone();
        let opened = tokio::task::spawn_blocking(move || Storage::open(&dir)).await;
        let source = match opened.map_err(std::io::Error::other).flatten() {
            Ok(storage) => return Ok(storage),
            Err(source) => source,
        };
        if !storage::is_locked(&source) || tokio::time::Instant::now() >= give_up {
            return Err(ControllerStartError::Open { dir: config.dir.clone(), source });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn raft_config(config: &ControllerConfig) -> Result<Arc<Config>, ControllerStartError> {
    let raft = Config {
        cluster_name: "troupe".to_owned(),
        // Shorter timeouts lose leaders to a slow disk under load.
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        heartbeat_interval: 250,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_in_snapshot_log_to_keep: ENTRIES_BEHIND_SNAPSHOT,
        api_channel_size: Some(MAX_PROPOSALS as u64),
        notification_channel_size: Some(1024),
        ..Config::default()
    };
    let raft = raft.validate().map_err(|error| ControllerStartError::Raft(error.to_string()))?;
    Ok(Arc::new(raft))
}

async fn start_raft(
    id: RaftNodeId,
    config: Arc<Config>,
    entries: EntryLog,
    machine: ImageMachine,
) -> Result<Raft, ControllerStartError> {
    let fault = |error: &dyn std::fmt::Display| ControllerStartError::Raft(error.to_string());
    let raft =
        Raft::new(id, config, NoPeers, entries, machine).await.map_err(|error| fault(&error))?;
    if !raft.is_initialized().await.map_err(|error| fault(&error))? {
        let voters = BTreeMap::from([(id, BasicNode::default())]);
        raft.initialize(voters).await.map_err(|error| fault(&error))?;
    } else if !raft.metrics().borrow_watched().state.is_leader() {
        // Nobody else can be leading: no reason to wait for a timeout.
        raft.trigger().elect(false).await.map_err(|error| fault(&error))?;
    }
    Ok(raft)
}

/// Hands proposals to Raft in the order they came, those that have gathered at once.
async fn propose_in_order(raft: Raft, mut waiting: mpsc::Receiver<(Proposal, Reply)>) {
    let mut gathered = Vec::with_capacity(PROPOSALS_AT_ONCE);
    while waiting.recv_many(&mut gathered, PROPOSALS_AT_ONCE).await > 0 {
        let (proposals, replies): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
        // If this fails the replies are dropped: whether anything was written is not known.
        let Ok(mut results) = raft.client_write_many(proposals.into_iter().map(Into::into)).await
        else {
            continue;
        };
        actix_rt::spawn(async move {
            for reply in replies {
                let Some(Ok(result)) = results.next().await else { return };
                let _ = reply.send(match result {
                    Ok(written) => match written.response {
                        Verdict::Applied => Ok(()),
                        Verdict::Superseded => Err(ProposeError::Superseded),
                    },
                    Err(ClientWriteError::ForwardToLeader(to)) => {
                        Err(ProposeError::NotLeader { leader: to.leader_id.and_then(node_id) })
                    }
                    Err(_) => Err(ProposeError::OutcomeUnknown),
                });
            }
        });
    }
}

/// Tells who leads, and has a snapshot made when `due` says that the log has grown large.
async fn follow_metrics(raft: Raft, tell: watch::Sender<Leadership>, due: impl Fn() -> bool) {
    let mut metrics = raft.metrics();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            Leadership {
                leader: metrics.current_leader.and_then(node_id),
                term: metrics.current_term,
                here: metrics.state.is_leader() && metrics.running_state.is_ok(),
            }
        };
        tell.send_if_modified(|told| std::mem::replace(told, now) != now);
        if due() && raft.trigger().snapshot().await.is_err() {
            break;
        }
        if metrics.changed().await.is_err() {
            break;
        }
    }
    tell.send_replace(Leadership::default());
}

fn node_id(id: RaftNodeId) -> Option<NodeId> {
    i32::try_from(id).ok().map(NodeId)
}
