//! What every service of a node shares.

use crate::NodeConfig;
use crate::admission::Admission;
use crate::controller_channel::ControllerChannel;
use crate::forward::{ActiveController, Clocks, Leaders};
use crate::group::GroupCoordinators;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::operations::{
    Administration, DEFAULT_REQUEST_TIMEOUT, Fetch, Groups, Offsets, Produce, ProducerIds,
    TopicLookup, Topics,
};
use crate::partition::Supervisor;
use crate::peers::Peers;
use crate::replication::Replicator;
use crate::service::{DeliveryPool, Subscriptions};
use actix::Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use troupe_actor::StallDetector;
use troupe_proto::ids::NodeId;

pub struct Context {
    pub config: NodeConfig,
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub controller: Arc<ControllerChannel>,
    pub active_controller: Arc<ActiveController>,
    pub metadata: Arc<MetadataCache>,
    pub leaders: Arc<Leaders>,
    pub clocks: Arc<Clocks>,
    pub topics: Arc<Topics>,
    pub topic_lookup: Arc<TopicLookup>,
    pub produce: Arc<Produce>,
    pub fetch: Arc<Fetch>,
    pub offsets: Arc<Offsets>,
    pub producer_ids: Arc<ProducerIds>,
    pub administration: Administration,
    /// Of the consumer groups that this node leads the partitions of.
    pub groups: Arc<GroupCoordinators>,
    pub group_operations: Arc<Groups>,
    /// By shard.
    pub supervisors: Vec<Addr<Supervisor>>,
    pub metrics: Arc<NodeMetrics>,
    /// What producers may have under way here at once.
    pub admission: Arc<Admission>,
    /// The way to other brokers.
    pub peers: Arc<Peers>,
    /// By shard: the streams from the leaders of what is followed here.
    pub replicators: Vec<Arc<Replicator>>,
    /// Group members that this node delivers to.
    pub subscriptions: Arc<Subscriptions>,
    /// What the streams of records share.
    pub delivery: Arc<DeliveryPool>,
    /// Whether this process may promise anything.
    pub stall_detector: Arc<StallDetector>,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

impl Context {
    /// What a batch gets whose sender names no time.
    pub fn request_timeout(&self) -> Duration {
        DEFAULT_REQUEST_TIMEOUT
    }
}
