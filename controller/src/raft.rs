//! The metadata log as a Raft group: openraft, with everything it keeps in sled.
//!
//! Owns the Raft core and its arbiter. Promise: what is answered is on disk at a majority of the voters.
//! [`network`] calls the other voters, [`endpoint`] is called by them; a node that votes alone needs neither,
//! and leads within milliseconds. [`succession`]: a leader whose process is gone is not waited for. [`life`]: Raft
//! begins anew, from disk, whenever it ended, and whatever it ended by; [`opening`]: what is damaged is found before it
//! is used, and [`recovery`]: the others fill it again.

mod conversion;
mod endpoint;
mod entries;
mod fault;
mod identity;
mod image;
mod leading;
mod life;
mod network;
mod opening;
mod publication;
mod quorum_state;
mod reading;
mod recovery;
mod sealed;
mod snapshot;
mod storage;
mod succession;
#[cfg(test)]
mod tests;
mod types;
mod verification;

use crate::config::{ControllerConfig, ControllerStartError};
use crate::metadata_log::{
    Leadership, MetadataLog, MetadataLogHealth, Proposal, ProposeError, Proposed,
};
use crate::priority;
use actix_rt::Arbiter;
use futures::future::BoxFuture;
use identity::Identity;
use image::ImageMachine;
use life::{Ending, Lives, Seen};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::impls::BasicNode;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use storage::Storage;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::NodeId;
use types::{RaftNodeId, TypeConfig};

pub use endpoint::RaftEndpoint;
pub(crate) use network::Refusals;
use network::Versions;
pub use reading::{
    MetadataEntry, MetadataLogContent, MetadataPayload, MetadataPosition, MetadataQuorum,
    MetadataReadError, MetadataSnapshot, MetadataVote,
};

type Raft = openraft::Raft<TypeConfig, ImageMachine>;
type Reply = oneshot::Sender<Result<(), ProposeError>>;
type Proposals = mpsc::Receiver<(Proposal, Reply)>;

/// Proposals that may wait; the actor has fewer under way.
pub(crate) const MAX_PROPOSALS: usize = 1024;
/// Entries that stay behind a snapshot, for followers that are only a little late.
const ENTRIES_BEHIND_SNAPSHOT: u64 = 100;
/// A snapshot has this long to reach a voter that is far behind.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct RaftLog {
    proposals: mpsc::Sender<(Proposal, Reply)>,
    image: watch::Receiver<Arc<ClusterImage>>,
    leadership: watch::Receiver<Leadership>,
    refusals: watch::Receiver<Refusals>,
    /// The other voters, and what those that have answered know.
    others: (Vec<NodeId>, Versions),
    health: watch::Receiver<MetadataLogHealth>,
    endpoint: RaftEndpoint,
    running: Mutex<Option<Running>>,
}

/// What has to end before the directory is free again.
struct Running {
    arbiter: Arbiter,
    end: oneshot::Sender<Ending>,
    /// What is left when all has ended.
    ended: oneshot::Receiver<Option<Storage>>,
}

impl RaftLog {
    /// Opens the log and takes part in its quorum. A single voter leads within milliseconds; several need
    /// their [`RaftLog::endpoint`] to be served.
    pub async fn start(config: &ControllerConfig) -> Result<RaftLog, ControllerStartError> {
        let identity = Identity::of(config)?.map(Arc::new);
        let (tell, leadership) = watch::channel(Leadership::default());
        let (proposals, waiting) = mpsc::channel(MAX_PROPOSALS);
        let (lives, seen) = Lives::new(config.clone(), identity, tell, waiting)?;
        let arbiter = Arbiter::new();
        arbiter.spawn(async { priority::first() });
        if let Some(pause) = &config.pause {
            arbiter.spawn(Arc::clone(pause).take_part());
        }
        let (done, started) = oneshot::channel();
        let (end, ending) = oneshot::channel();
        let (left, ended) = oneshot::channel();
        let spawned = arbiter.spawn(async move {
            let storage = lives.run(done, ending).await;
            let _ = left.send(storage);
        });
        let stopped = || ControllerStartError::Raft("its arbiter stopped".to_owned());
        let started = if spawned { started.await.map_err(|_| stopped()) } else { Err(stopped()) };
        if let Err(error) = started.flatten() {
            arbiter.stop();
            return Err(error);
        }
        let running = Mutex::new(Some(Running { arbiter, end, ended }));
        let Seen { image, refusals, versions, health, endpoint } = seen;
        let voters = config.voters.iter().map(|voter| voter.node_id);
        let others = voters.filter(|voter| *voter != config.node_id).collect();
        let others = (others, versions);
        Ok(RaftLog { proposals, image, leadership, refusals, others, health, endpoint, running })
    }

    pub fn endpoint(&self) -> RaftEndpoint {
        self.endpoint.clone()
    }

    /// Which voters refuse this one.
    pub fn refusals(&self) -> watch::Receiver<Refusals> {
        self.refusals.clone()
    }

    /// Ends everything and lets go of the directory.
    async fn stop(&self, ending: Ending) {
        let Some(Running { arbiter, end, ended }) = self.running.lock().await.take() else {
            return;
        };
        // Whoever ended already has left what there is to close.
        let _ = end.send(ending);
        let storage = ended.await.ok().flatten();
        arbiter.stop();
        let joined = tokio::task::spawn_blocking(move || {
            let _ = arbiter.join();
            storage.map_or(Ok(()), Storage::close)
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

    fn voters_behind(&self, metadata_version: u32) -> Vec<NodeId> {
        let (voters, versions) = &self.others;
        let versions = versions.lock().unwrap_or_else(PoisonError::into_inner);
        let behind =
            |voter: &&NodeId| versions.get(voter).is_none_or(|known| *known < metadata_version);
        voters.iter().filter(behind).copied().collect()
    }

    fn health(&self) -> watch::Receiver<MetadataLogHealth> {
        self.health.clone()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stop(Ending::InGoodOrder))
    }

    fn abandon(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.stop(Ending::Abandoned))
    }
}

fn raft_config(
    config: &ControllerConfig,
    recovering: bool,
) -> Result<Arc<Config>, ControllerStartError> {
    let raft = Config {
        cluster_name: "troupe".to_owned(),
        election_timeout_min: milliseconds(config.timings.election_min),
        election_timeout_max: milliseconds(config.timings.election_max),
        heartbeat_interval: milliseconds(config.timings.heartbeat),
        install_snapshot_timeout: milliseconds(SNAPSHOT_PATIENCE),
        enable_pre_vote: Some(true),
        enable_elect: !recovering,
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
