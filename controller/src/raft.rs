//! The metadata log as a Raft group: openraft, with everything it keeps in sled.
//!
//! Owns the Raft core and its arbiter. Promise: what is answered is on disk at a majority of the voters.
//! [`network`] calls the other voters, [`endpoint`] is called by them; a node that votes alone needs neither,
//! and leads within milliseconds.

mod endpoint;
mod entries;
mod identity;
mod image;
mod network;
mod reading;
mod snapshot;
mod storage;
#[cfg(test)]
mod tests;
mod types;

use crate::config::{ControllerConfig, ControllerStartError};
use crate::metadata_log::{Leadership, MetadataLog, Proposal, ProposeError, Proposed};
use crate::priority;
use actix_rt::Arbiter;
use entries::EntryLog;
use futures::StreamExt;
use futures::future::BoxFuture;
use identity::Identity;
use image::ImageMachine;
use network::Peers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::Storage;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::NodeId;
use types::{RaftNodeId, TypeConfig, Verdict};

pub use endpoint::RaftEndpoint;
pub(crate) use network::Refusals;
pub use reading::{
    MetadataEntry, MetadataLogContent, MetadataPayload, MetadataPosition, MetadataQuorum,
    MetadataReadError, MetadataSnapshot, MetadataVote,
};

type Raft = openraft::Raft<TypeConfig, ImageMachine>;
type Reply = oneshot::Sender<Result<(), ProposeError>>;

/// Proposals that may wait; the actor has fewer under way.
pub(crate) const MAX_PROPOSALS: usize = 1024;
/// Decisions that go to Raft, and so to disk, together.
const PROPOSALS_AT_ONCE: usize = 64;
/// Entries that stay behind a snapshot, for followers that are only a little late.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 100;
/// A snapshot has this long to reach a voter that is far behind.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a directory may still be held by a predecessor in the same process.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct RaftLog {
    proposals: mpsc::Sender<(Proposal, Reply)>,
    image: watch::Receiver<Arc<ClusterImage>>,
    leadership: watch::Receiver<Leadership>,
    refusals: watch::Receiver<Refusals>,
    endpoint: RaftEndpoint,
    running: Mutex<Option<Running>>,
    /// How long another voter may take to take over.
    transfer_timeout: Duration,
}

/// What has to end before the directory is free again.
struct Running {
    raft: Raft,
    arbiter: Arbiter,
    storage: Storage,
}

impl RaftLog {
    /// Opens the log and takes part in its quorum. A single voter leads within milliseconds; several need
    /// their [`RaftLog::endpoint`] to be served.
    pub async fn start(config: &ControllerConfig) -> Result<RaftLog, ControllerStartError> {
        let id = RaftNodeId::try_from(config.node_id.0)
            .map_err(|_| ControllerStartError::NegativeNodeId(config.node_id))?;
        let identity = Identity::of(config)?;
        let storage = open(config).await?;
        let machine = ImageMachine::restore(&storage)?;
        let (image, applied_bytes) = (machine.watch(), machine.bytes_since_snapshot());
        let mut entries = EntryLog::open(&storage)
            .map_err(|source| ControllerStartError::Open { dir: config.dir.clone(), source })?;
        Identity::settle(identity.as_ref(), &mut entries, config).await?;
        let identity = identity.map(Arc::new);
        let addresses = identity::addresses(config);
        let peers = Peers::new(identity.clone(), addresses, config.timings.election_min);
        let refusals = peers.refusals();
        let arbiter = Arbiter::new();
        arbiter.spawn(async { priority::first() });
        let (done, started) = oneshot::channel();
        let raft_config = raft_config(config)?;
        let voters = voters(id, config);
        let spawned = arbiter.spawn(async move {
            let started = Raft::new(id, raft_config, peers, entries, machine).await;
            let started = started.map_err(|error| ControllerStartError::Raft(error.to_string()));
            let _ = done.send(match started {
                Ok(raft) => bootstrap_quorum(&raft, voters).await.map(|()| raft),
                Err(error) => Err(error),
            });
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
        let patience = (!config.is_alone()).then_some(2 * config.timings.election_max);
        let due = move || applied_bytes.take_over(limit);
        arbiter.spawn(follow_metrics(raft.clone(), tell, patience, due));
        let endpoint = RaftEndpoint::new(identity, raft.clone());
        let running = Mutex::new(Some(Running { raft, arbiter, storage }));
        let transfer_timeout = config.timings.election_min + config.timings.election_max;
        Ok(RaftLog { proposals, image, leadership, refusals, endpoint, running, transfer_timeout })
    }

    pub fn endpoint(&self) -> RaftEndpoint {
        self.endpoint.clone()
    }

    /// Which voters refuse this one.
    pub fn refusals(&self) -> watch::Receiver<Refusals> {
        self.refusals.clone()
    }

    /// A leader that goes has another voter take over, instead of leaving the others to find out. If nobody
    /// does in time, they will.
    async fn transfer_leadership(&self, raft: &Raft) {
        let Some(successor) = successor(raft) else { return };
        if raft.trigger().transfer_leader(successor).await.is_err() {
            return;
        }
        let mut leadership = self.leadership.clone();
        let gone = leadership.wait_for(|leadership| !leadership.here);
        if tokio::time::timeout(self.transfer_timeout, gone).await.is_err() {
            tracing::warn!(successor, "nobody took over the metadata quorum in time");
        }
    }

    /// Ends everything and lets go of the directory.
    async fn stop(&self, Running { raft, arbiter, storage }: Running) {
        self.endpoint.close();
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

    fn leader_heard(&self) -> Option<Instant> {
        self.endpoint.heard()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(running) = self.running.lock().await.take() {
                self.transfer_leadership(&running.raft).await;
                self.stop(running).await;
            }
        })
    }

    fn abandon(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(running) = self.running.lock().await.take() {
                self.stop(running).await;
            }
        })
    }
}

/// A predecessor in this process may need a moment to let go of the directory.
async fn open(config: &ControllerConfig) -> Result<Storage, ControllerStartError> {
    let give_up = tokio::time::Instant::now() + OPEN_PATIENCE;
    loop {
        let dir = config.dir.clone();
        #[cfg(not(test))]
        let open = {
            let before_flush = config.before_flush.clone();
            move || Storage::open(&dir, before_flush.clone())
        };
        #[cfg(test)]
        let open = {
            let delay = config.flush_delay.clone();
            move || Storage::open_slow(&dir, delay.clone())
        };
        let opened = tokio::task::spawn_blocking(open).await;
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
        election_timeout_min: milliseconds(config.timings.election_min),
        election_timeout_max: milliseconds(config.timings.election_max),
        heartbeat_interval: milliseconds(config.timings.heartbeat),
        install_snapshot_timeout: milliseconds(SNAPSHOT_PATIENCE),
        enable_pre_vote: Some(true),
        // A leader's entries reach the others before its own disk: one that was killed may have lost what they have
        // committed, and would use its numbers again. It has to be elected, which only a log with all of it is.
        enable_leader_restore: Some(config.is_alone()),
        // A voter whose disk was replaced is filled again, by the leader that knew its old log too: that would wait
        // for ever for what is gone. One at a time, as with any quorum: what was on two of three disks is lost.
        allow_log_reversion: Some(true),
        // A leader that hears nobody, but is heard, makes room for another.
        quorum_loss_probe_interval: Some(2 * milliseconds(config.timings.election_max)),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_entries),
        max_in_snapshot_log_to_keep: ENTRIES_BEHIND_SNAPSHOT,
        api_channel_size: Some(MAX_PROPOSALS as u64),
        notification_channel_size: Some(1024),
        ..Config::default()
    };
    let raft = raft.validate().map_err(|error| ControllerStartError::Raft(error.to_string()))?;
    Ok(Arc::new(raft))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn voters(id: RaftNodeId, config: &ControllerConfig) -> BTreeMap<RaftNodeId, BasicNode> {
    if config.is_alone() {
        return BTreeMap::from([(id, BasicNode::default())]);
    }
    let others = identity::addresses(config);
    // Addresses come from the configuration at every start; the log keeps only who votes.
    others.into_keys().chain([id]).map(|id| (id, BasicNode::default())).collect()
}

/// The first thing in a new log is who votes; every voter writes the same, and one becomes the leader.
async fn bootstrap_quorum(
    raft: &Raft,
    voters: BTreeMap<RaftNodeId, BasicNode>,
) -> Result<(), ControllerStartError> {
    let fault = |error: &dyn std::fmt::Display| ControllerStartError::Raft(error.to_string());
    let alone = voters.len() == 1;
    if !raft.is_initialized().await.map_err(|error| fault(&error))? {
        match raft.initialize(voters).await {
            // Somebody who was faster has sent his log already.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) if !alone => {}
            initialized => initialized.map_err(|error| fault(&error))?,
        }
    } else if alone && !raft.metrics().borrow_watched().state.is_leader() {
        // Nobody else can be leading: no reason to wait for a timeout.
        raft.trigger().elect(false).await.map_err(|error| fault(&error))?;
    }
    Ok(())
}

/// Among the other voters the one that was heard last, and of those the one that has most of the log.
fn successor(raft: &Raft) -> Option<RaftNodeId> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    if !metrics.state.is_leader() {
        return None;
    }
    let replication = metrics.replication.as_ref()?;
    let others = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
    others.max_by_key(|id| {
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(id).copied().flatten());
        let matched = replication.get(id).copied().flatten();
        (matched, heard.map(|heard| *heard))
    })
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

/// Tells who leads, and has a snapshot made when `due` says that the log has grown large. A leader that no
/// majority has answered for as long as the others' patience lasts leads nobody: they have another by now, or
/// are not there. Ends with Raft, and nobody tells of a leader any more.
async fn follow_metrics(
    raft: Raft,
    tell: watch::Sender<Leadership>,
    patience: Option<Duration>,
    due: impl Fn() -> bool,
) {
    let mut metrics = raft.metrics();
    loop {
        let (now, look_again) = {
            let metrics = metrics.borrow_watched();
            if let Err(fatal) = &metrics.running_state {
                if !matches!(fatal, Fatal::Stopped) {
                    tracing::error!(%fatal, "the metadata log has failed");
                }
                break;
            }
            let leads = metrics.state.is_leader();
            let acked = metrics.last_quorum_acked.as_ref().filter(|_| leads);
            let left = acked.zip(patience).map(|(acked, patience)| {
                patience.saturating_sub(openraft::Instant::elapsed(&**acked))
            });
            let followed = left.is_none_or(|left| !left.is_zero());
            let leader = metrics.current_leader.and_then(node_id);
            let leadership = Leadership {
                leader: leader.filter(|_| followed),
                term: metrics.current_term,
                here: leads && followed,
            };
            (leadership, left.filter(|_| followed))
        };
        tell.send_if_modified(|told| std::mem::replace(told, now) != now);
        if due() && raft.trigger().snapshot().await.is_err() {
            break;
        }
        let changed = match look_again {
            Some(left) => tokio::time::timeout(left, metrics.changed()).await,
            None => Ok(metrics.changed().await),
        };
        if matches!(changed, Ok(Err(_))) {
            break;
        }
    }
    tell.send_replace(Leadership::default());
}

fn node_id(id: RaftNodeId) -> Option<NodeId> {
    i32::try_from(id).ok().map(NodeId)
}
