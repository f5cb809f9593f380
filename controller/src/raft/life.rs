//! One life of Raft after another, on one log: whatever ends it, it begins again from what is on disk.
//!
//! Promises: a life begins on a log that was looked through; one that ended by damage is followed by one that
//! recovers, one that ended by a disk that was full or did not answer by one that finds all that was durable, as soon
//! as the disk lets it. In between this node leads nothing and says so. Only where nobody can fill a damaged log
//! again it is over, and whoever has the controller is told.
//! Never here: what damage is, or what a voter may do that recovers.

use super::endpoint::RaftEndpoint;
use super::fault::{Damage, Fault};
use super::identity::{self, Identity};
use super::leading::{follow_metrics, propose_in_order, successor};
use super::network::{Peers, Refusals, Versions};
use super::opening::{self, Opened};
use super::publication::Publication;
use super::recovery::Recovery;
use super::storage::{self, Storage};
use super::succession::Succession;
use super::types::RaftNodeId;
use super::verification::Verification;
use super::{Proposals, Raft, bootstrap_quorum, raft_config, voters};
use crate::config::{ControllerConfig, ControllerStartError};
use crate::metadata_log::{Leadership, MetadataLogHealth};
use openraft::async_runtime::WatchReceiver;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use troupe_machines::cluster::ClusterImage;

/// Before a log that could not go on is opened again; twice as long each time, up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// How a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Another takes over before it is gone.
    InGoodOrder,
    /// As if the process had been killed.
    Abandoned,
}

/// Told of the first life: it runs, or why it does not.
pub(super) type Started = oneshot::Sender<Result<(), ControllerStartError>>;

/// What others see of all lives.
pub(super) struct Seen {
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub refusals: watch::Receiver<Refusals>,
    pub versions: Versions,
    pub health: watch::Receiver<MetadataLogHealth>,
    pub endpoint: RaftEndpoint,
}

pub(super) struct Lives {
    id: RaftNodeId,
    config: ControllerConfig,
    identity: Option<Arc<Identity>>,
    peers: Peers,
    endpoint: RaftEndpoint,
    publication: Arc<Publication>,
    health: watch::Sender<MetadataLogHealth>,
    tell: watch::Sender<Leadership>,
    waiting: Proposals,
}

/// How one life ended.
enum Ended {
    Told(Box<Storage>),
    /// By itself; `None`: nobody knows why.
    Failed(Option<Fault>),
}

impl Lives {
    pub fn new(
        config: ControllerConfig,
        identity: Option<Arc<Identity>>,
        tell: watch::Sender<Leadership>,
        waiting: Proposals,
    ) -> Result<(Lives, Seen), ControllerStartError> {
        let id = RaftNodeId::try_from(config.node_id.0)
            .map_err(|_| ControllerStartError::NegativeNodeId(config.node_id))?;
        let refusals = Arc::<watch::Sender<Refusals>>::default();
        let addresses = identity::addresses(&config);
        let terms = (config.timings.election_min, config.connector.clone());
        let peers = Peers::new(identity.clone(), addresses, terms, Arc::clone(&refusals));
        let endpoint = RaftEndpoint::new(identity.clone(), peers.clone());
        let publication = Arc::<Publication>::default();
        let health = watch::Sender::<MetadataLogHealth>::default();
        let seen = Seen {
            image: publication.watch(),
            refusals: refusals.subscribe(),
            versions: peers.versions(),
            health: health.subscribe(),
            endpoint: endpoint.clone(),
        };
        let lives =
            Lives { id, config, identity, peers, endpoint, publication, health, tell, waiting };
        Ok((lives, seen))
    }

    /// Until it is told to end, or is over. What it leaves is to be closed.
    pub async fn run(
        mut self,
        started: Started,
        mut ending: oneshot::Receiver<Ending>,
    ) -> Option<Storage> {
        let (mut started, mut distrusted, mut pause) = (Some(started), None, FIRST_PAUSE);
        loop {
            if started.is_none() && distrusted.is_none() {
                distrusted = self.missing();
            }
            let lived = self.live(&mut started, distrusted.take(), &mut ending).await;
            self.endpoint.close();
            self.tell.send_replace(Leadership::default());
            let failure = match lived {
                Ok(Ended::Told(storage)) => return Some(*storage),
                Ok(Ended::Failed(fault)) => {
                    pause = FIRST_PAUSE;
                    if let Some(Fault::Damaged(damage)) = &fault {
                        distrusted = Some(damage.clone());
                    }
                    fault.map_or_else(|| "it ended without a word".to_owned(), |it| it.to_string())
                }
                Err(error) => match started.take() {
                    Some(started) => {
                        let _ = started.send(Err(error));
                        return None;
                    }
                    None if matches!(error, ControllerStartError::Damaged { .. }) => {
                        tracing::error!(%error, "the metadata log cannot go on");
                        return None;
                    }
                    None => error.to_string(),
                },
            };
            tracing::error!(%failure, "the metadata log could not go on; it is opened again");
            self.health.send_modify(|health| health.failure = Some(failure));
            let paused = tokio::time::timeout(pause, &mut ending).await;
            if paused.is_ok() {
                return None;
            }
            pause = (2 * pause).min(LAST_PAUSE);
        }
    }

    /// An earlier life had a database: without it, this would be the first log of a new voter, which has promised
    /// nothing.
    fn missing(&self) -> Option<Damage> {
        let path = storage::database_path(&self.config.dir);
        (!path.exists()).then(|| Damage::new(format!("{} is not there any more", path.display())))
    }

    /// From opening the log to its end.
    async fn live(
        &mut self,
        started: &mut Option<Started>,
        distrusted: Option<Damage>,
        ending: &mut oneshot::Receiver<Ending>,
    ) -> Result<Ended, ControllerStartError> {
        let opened = opening::open(&self.config, &self.publication, distrusted).await?;
        let recovering = opened.recovering();
        self.note_opened(&opened);
        let Opened { storage, mut entries, machine, .. } = opened;
        Identity::settle(self.identity.as_deref(), &mut entries, &self.config).await?;
        let faults = storage.faults();
        let mut recovery = recovering.map(|_| self.recovery(&storage));
        if let Some(recovery) =
            recovery.as_mut().filter(|_| recovering.is_some_and(|it| !it.vote_known))
        {
            tell_started(started);
            tokio::select! {
                learned = recovery.learn_vote(&mut entries) => if let Err(error) = learned {
                    return Ok(Ended::Failed(Some(Fault::from(&error))));
                },
                _ = &mut *ending => return Ok(Ended::Told(Box::new(storage))),
            }
        }
        let applied_bytes = machine.bytes_since_snapshot();
        let verification = Verification::new(&self.config, &storage, self.health.clone());
        let raft_config = raft_config(&self.config, recovering.is_some())?;
        let raft = Raft::new(self.id, raft_config, self.peers.clone(), entries, machine).await;
        let raft = raft.map_err(|error| ControllerStartError::Raft(error.to_string()));
        let raft = match raft {
            Ok(raft) => raft,
            Err(error) => {
                return match faults.first() {
                    Some(fault) => Ok(Ended::Failed(Some(fault))),
                    None => Err(error),
                };
            }
        };
        if recovering.is_none() {
            bootstrap_quorum(&raft, voters(self.id, &self.config)).await?;
        }
        self.endpoint.open(raft.clone(), recovering.is_some());
        tell_started(started);
        let limit = self.config.snapshot_bytes;
        let patience = (!self.config.is_alone()).then_some(2 * self.config.timings.election_max);
        let due = move || applied_bytes.take_over(limit);
        let filled_again = fill_again(
            recovery,
            (raft.clone(), self.endpoint.clone(), Arc::clone(&self.publication)),
            self.health.clone(),
        );
        let succession = Succession::new(self.id, self.peers.clone(), self.endpoint.clone());
        let failed = tokio::select! {
            () = succession.run(&raft, self.tell.subscribe()) => None,
            () = follow_metrics(&raft, &self.tell, patience, due) => None,
            () = propose_in_order(&raft, &mut self.waiting) => None,
            fault = filled_again => Some(fault),
            fault = verification.run(&raft) => Some(fault),
            told = &mut *ending => {
                if told == Ok(Ending::InGoodOrder) {
                    self.transfer_leadership(&raft).await;
                }
                self.end(raft).await;
                return Ok(Ended::Told(Box::new(storage)));
            }
        };
        let fault = failed.or_else(|| faults.first());
        self.end(raft).await;
        // Its own threads hold it a little longer; whoever opens the log again waits for that.
        drop(storage);
        Ok(Ended::Failed(fault))
    }

    fn note_opened(&self, opened: &Opened) {
        self.health.send_modify(|health| {
            health.damages += u64::from(opened.damaged.is_some());
            health.recovering = opened.recovering().is_some();
            health.failure = None;
        });
    }

    fn recovery(&self, storage: &Storage) -> Recovery {
        let others = identity::addresses(&self.config).into_keys().collect();
        Recovery::new(self.id, others, self.peers.clone(), storage.state(), storage.flusher())
    }

    async fn end(&self, raft: Raft) {
        self.endpoint.close();
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%error, "raft did not stop in good order");
        }
    }

    /// A leader that goes has another voter take over, instead of leaving the others to find out. If nobody
    /// does in time, they will.
    async fn transfer_leadership(&self, raft: &Raft) {
        let Some(successor) = successor(raft) else { return };
        if raft.trigger().transfer_leader(successor).await.is_err() {
            return;
        }
        let timings = &self.config.timings;
        let mut metrics = raft.metrics();
        let gone = async {
            while metrics.borrow_watched().state.is_leader() {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        let patience = timings.election_min + timings.election_max;
        if tokio::time::timeout(patience, gone).await.is_err() {
            tracing::warn!(successor, "nobody took over the metadata quorum in time");
        }
    }
}

fn tell_started(started: &mut Option<Started>) {
    if let Some(started) = started.take() {
        let _ = started.send(Ok(()));
    }
}

/// Returns only if that failed.
async fn fill_again(
    recovery: Option<Recovery>,
    (raft, endpoint, publication): (Raft, RaftEndpoint, Arc<Publication>),
    health: watch::Sender<MetadataLogHealth>,
) -> Fault {
    if let Some(recovery) = recovery {
        if let Err(error) = recovery.run(raft, endpoint, publication).await {
            return Fault::from(&error);
        }
        health.send_modify(|health| health.recovering = false);
    }
    std::future::pending().await
}
