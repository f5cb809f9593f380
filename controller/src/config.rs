//! What a controller is started with, and why it does not start.

use crate::settings::Settings;
use crate::voters::{Voter, VotersError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tonic::transport::{Channel, Endpoint};
use troupe_actor::PauseGate;
use troupe_machines::cluster::ReplayError;
use troupe_proto::error::Error as WireError;
use troupe_proto::ids::NodeId;

#[derive(Clone, Debug)]
pub struct ControllerConfig {
    pub node_id: NodeId,
    /// Where the metadata log lives; one process at a time.
    pub dir: PathBuf,
    /// The cluster this node belongs to. `None`: whichever the log says, or a new one; with several voters
    /// it has to be said.
    pub cluster_id: Option<String>,
    /// `controller.quorum.voters`. Empty: this node alone.
    pub voters: Vec<Voter>,
    pub timings: QuorumTimings,
    pub sessions: SessionTimings,
    pub settings: Settings,
    /// After this many decisions a snapshot replaces the log before it (K9).
    pub snapshot_entries: u64,
    /// After this many bytes of decisions, too; where a snapshot is larger than that, after as many as it has.
    pub snapshot_bytes: u64,
    /// Called before anything is made durable: on a full disk it may make room.
    pub before_flush: BeforeFlush,
    /// How other voters are connected to.
    pub connector: Connector,
    /// What stops the threads of the controller.
    pub pause: Option<Arc<PauseGate>>,
    /// Between two looks at everything that is kept of the metadata log.
    pub verify_interval: Duration,
    #[cfg(test)]
    pub disk: crate::tests::TestDisk,
}

/// What the owner of the directory does before the metadata log writes.
#[derive(Clone, Default)]
pub struct BeforeFlush(Option<Arc<dyn Fn() -> io::Result<()> + Send + Sync>>);

impl BeforeFlush {
    /// An error is as one of the flush itself.
    pub fn new(hook: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> BeforeFlush {
        BeforeFlush(Some(Arc::new(hook)))
    }

    pub(crate) fn run(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |hook| hook())
    }
}

impl std::fmt::Debug for BeforeFlush {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a hook" } else { "nothing" })
    }
}

/// How a channel to another voter comes about: connected to when it is first used, by default as tonic does.
#[derive(Clone, Default)]
pub struct Connector(Option<Arc<dyn Fn(NodeId, Endpoint) -> Channel + Send + Sync>>);

impl Connector {
    pub fn new(connect: impl Fn(NodeId, Endpoint) -> Channel + Send + Sync + 'static) -> Connector {
        Connector(Some(Arc::new(connect)))
    }

    pub(crate) fn channel(&self, voter: NodeId, endpoint: Endpoint) -> Channel {
        match &self.0 {
            Some(connect) => connect(voter, endpoint),
            None => endpoint.connect_lazy(),
        }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "another's" } else { "tonic's" })
    }
}

impl ControllerConfig {
    pub fn new(node_id: NodeId, dir: impl Into<PathBuf>) -> ControllerConfig {
        ControllerConfig {
            node_id,
            dir: dir.into(),
            cluster_id: None,
            voters: Vec::new(),
            timings: QuorumTimings::default(),
            sessions: SessionTimings::default(),
            settings: Settings::default(),
            snapshot_entries: 5_000,
            snapshot_bytes: 256 << 10,
            before_flush: BeforeFlush::default(),
            connector: Connector::default(),
            pause: None,
            verify_interval: Duration::from_secs(3600),
            #[cfg(test)]
            disk: crate::tests::TestDisk::default(),
        }
    }

    /// Whether nobody else votes.
    pub fn is_alone(&self) -> bool {
        self.voters.len() <= 1
    }
}

/// How long silence lasts before somebody acts (K5). A follower votes for nobody while the leader's lease
/// lasts, which is `election_max`: so a leader that is gone without a word is replaced after `election_max`
/// and what was drawn, together, and two rounds of votes: 1.4 to 1.8 s here, and one more election timeout
/// if two stand at once. A slow disk costs nobody his place: followers hear the leader while they flush.
/// A leader that no majority answers for twice `election_max` knows that it leads nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuorumTimings {
    /// The leader is heard at least this often.
    pub heartbeat: Duration,
    /// After silence of this, and up to the next, drawn at random, a voter stands for election.
    pub election_min: Duration,
    pub election_max: Duration,
}

impl Default for QuorumTimings {
    fn default() -> Self {
        QuorumTimings {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(800),
        }
    }
}

/// How long a broker may be silent (K14, K20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimings {
    /// `broker.heartbeat.interval.ms`: how often brokers are asked to send.
    pub heartbeat: Duration,
    /// `broker.session.timeout.ms`: after this silence a broker is fenced.
    pub timeout: Duration,
    /// `broker.reconnect.grace.ms`: after a session broke, another has to begin in this time.
    pub reconnect_grace: Duration,
}

impl Default for SessionTimings {
    fn default() -> Self {
        SessionTimings {
            heartbeat: Duration::from_millis(300),
            timeout: Duration::from_millis(2000),
            reconnect_grace: Duration::from_millis(1000),
        }
    }
}

/// What the active controller does of itself from time to time (R15, R17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// `auto.leader.rebalance.enable`
    pub leader_rebalance: bool,
    /// `leader.imbalance.check.interval.seconds`
    pub imbalance_check: Duration,
    /// `leader.imbalance.per.broker.percentage`
    pub imbalance_percentage: u32,
    /// Between two looks for partitions that have no leader and may have one by now.
    pub leaderless_check: Duration,
}

impl Default for Upkeep {
    fn default() -> Self {
        Upkeep {
            leader_rebalance: true,
            imbalance_check: Duration::from_secs(300),
            imbalance_percentage: 10,
            leaderless_check: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Error)]
pub enum ControllerStartError {
    #[error("node id {0} is negative")]
    NegativeNodeId(NodeId),
    #[error("controller.quorum.voters: {0}")]
    Voters(#[from] VotersError),
    #[error("several voters need a cluster id that they agree on; format the storage with one")]
    NoClusterId,
    #[error("cannot open the metadata log in {dir}: {source}")]
    Open { dir: PathBuf, source: std::io::Error },
    #[error(
        "the metadata log in {dir} is damaged ({what}), and this node decides alone, so nobody else has it. Nothing was \
         changed. Restore the directory from a backup; without one, what can be read of it is shown by `troupe log \
         dump`, and the topics of a node whose metadata directory is moved away have to be created anew"
    )]
    Damaged { dir: PathBuf, what: String },
    #[error("the metadata log does not make sense: {0}")]
    Replay(#[from] ReplayError),
    #[error("raft did not start: {0}")]
    Raft(String),
    #[error("{dir} belongs to cluster '{actual}', not '{asked}'")]
    WrongCluster { dir: PathBuf, asked: String, actual: String },
    #[error("{dir} belongs to node {actual}, not {asked}")]
    WrongNode { dir: PathBuf, asked: NodeId, actual: NodeId },
    #[error("{dir} was made for the voters {actual:?}; the configuration says {asked:?}")]
    WrongVoters { dir: PathBuf, asked: Vec<i32>, actual: Vec<i32> },
    #[error("no controller became active: {0}")]
    NotActive(WireError),
    #[error("voter {voter} refuses this node: {error}")]
    Refused { voter: NodeId, error: WireError },
}
