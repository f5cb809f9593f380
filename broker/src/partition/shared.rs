//! What all partitions of a shard share.

use super::beside::Beside;
use super::controller_requests::ControllerRequests;
use super::flusher::Flusher;
use super::leader_streams::LeaderStreams;
use super::throttles::ReplicationThrottles;
use crate::metrics::NodeMetrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use troupe_actor::StallDetector;
use troupe_log::{LogDirectories, Space};
use troupe_machines::txn::Producer;
use troupe_proto::error::Error;
use troupe_proto::ids::{NodeId, PartitionKey};

/// What a node has settled for all of its replicas.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaTimes {
    /// `replica.lag.time.max.ms`
    pub lag_max_ms: u64,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: u64,
}

/// Who has transactions' coordinators add partitions to them.
pub trait TransactionGate: Send + Sync {
    /// The partition becomes part of the producer's transaction, or it is said why not. Not on this thread, which others
    /// wait for; a `reply` that is dropped is a refusal.
    fn add_partition(
        &self,
        transactional_id: Arc<str>,
        producer: Producer,
        partition: (Arc<str>, PartitionKey),
        reply: Box<dyn FnOnce(Result<(), Error>) + Send>,
    );
}

pub struct Shared {
    pub node_id: NodeId,
    /// How many logs are recovered at the same time, over all shards.
    pub recoveries: Arc<Semaphore>,
    pub flusher: Flusher,
    pub metrics: Arc<NodeMetrics>,
    pub controller: ControllerRequests,
    pub leader_streams: Arc<dyn LeaderStreams>,
    /// Of the node's process.
    pub stall_detector: Arc<StallDetector>,
    /// Of the shard's thread.
    pub thread_stall_detector: Arc<StallDetector>,
    /// How long a new high watermark may wait for a batch to travel with to the followers.
    pub ends_delay: Duration,
    pub times: ReplicaTimes,
    /// Which partition belongs where.
    pub directories: Arc<LogDirectories>,
    /// Whether the disk has room for records.
    pub space: Arc<Space>,
    /// How fast new replicas are filled; of the node.
    pub throttles: Arc<ReplicationThrottles>,
    pub cleaner: Arc<Beside>,
    pub transactions: Arc<dyn TransactionGate>,
}
