//! What the supervisor tells, and what the actor's own work comes back as.

use actix::Message;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use troupe_log::{FlushDone, LogError};
use troupe_machines::config::TopicConfig;
use troupe_machines::replica::PartitionState;

/// A flush ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flushed {
    pub result: Result<FlushDone, LogError>,
    pub started: Instant,
}

/// The topic's configuration or the partition's leadership changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Update {
    pub config: Arc<TopicConfig>,
    pub state: Arc<PartitionState>,
}

/// Write down how far the log is known to be good.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Checkpoint;

/// Nobody has used the partition for a while: give back descriptors and mappings.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Rest;

/// Delete what need not be kept.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EnforceRetention;

/// A directory of the node has failed: whoever is in it goes offline.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct DirectoryFailed;

/// Why a replica is not wanted on this node any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// The node stops; the replica is there again when it has started.
    Stopping,
    TopicDeleted,
    /// Other nodes have the partition now.
    Reassigned,
}

impl Retirement {
    /// Whether nothing of it is kept.
    pub fn deletes(self) -> bool {
        self != Retirement::Stopping
    }
}

/// Stop for good: flush and close, or delete.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// If it is deleted, nothing needs to reach the disk.
    pub why: Retirement,
    pub done: oneshot::Sender<()>,
}
