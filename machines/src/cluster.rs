//! The cluster, as a machine that decides and replays: topics, partitions, brokers, producer ids.
//!
//! Owns what the metadata log says, as one immutable image: the [`ClusterImage`]. A decision reads the
//! image and gives records and an answer; [`ClusterImage::replay`] alone changes it. So the controller that
//! decides, a standby, and a node that starts again all come to the same image.
//!
//! Promises: a decision that is refused gives no records; the same records in the same order give equal
//! images; a copy of an image costs nothing, however many topics there are.
//! Never here: when a record counts as committed, random numbers (a seed is an argument), new ids.

mod balance;
mod brokers;
mod configs;
mod delta;
mod election;
mod error;
mod health;
mod image;
mod limits;
mod names;
mod overtaken;
mod partitions;
mod placement;
mod reassignment;
mod replay;
mod retirement;
#[cfg(test)]
mod tests;
mod topics;
mod versions;

pub use balance::plan::{BrokerLoad, Plan, PlanGoal, PlanRequest, PlannedBroker, PlannedPartition};
pub use configs::{AlterConfigs, Alteration, Configured, Overrides};
pub use delta::Delta;
pub use error::ClusterError;
pub use health::{Finding, Problem};
pub use image::{Broker, ClusterImage, Partition, Topic};
pub use limits::PartitionLimit;
pub use names::{check_topic_name, check_topic_names};
pub use overtaken::{DecisionOrder, Subject};
pub use partitions::PerPartition;
pub use placement::classic::{Candidate, assign_classic};
pub use reassignment::{PerReassignment, Reassigned};
pub use replay::{ClusterSnapshot, Fault, ReplayError};
pub use versions::{
    METADATA_VERSION, REASSIGNMENTS, SETTINGS_VERSION, TRANSACTIONS, version_of_topic,
};

use std::collections::{BTreeMap, BTreeSet};
use troupe_proto::ids::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionKey, ProducerId,
};
use troupe_proto::internal::v1::{MetadataRecord, metadata_record::Record};

/// More partitions than this make a topic a mistake, and its creation a very large record.
pub const MAX_PARTITIONS_PER_TOPIC: u32 = 100_000;
/// How many producer ids a broker gets at once (K23).
pub const PRODUCER_ID_BLOCK: u64 = 1000;
/// Topics that Troupe keeps for itself.
pub const INTERNAL_TOPICS: [&str; 2] = [OFFSETS_TOPIC, TRANSACTION_TOPIC];
/// Where groups are remembered, and how far they have read.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Where transactions are remembered.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";

/// Whether a topic of that name is the cluster's own.
pub fn is_internal_name(name: &str) -> bool {
    name.starts_with("__")
}

/// Records to append, and the answer to give once they are committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<T> {
    /// Empty: nothing to do, or only asked whether it could be done.
    pub records: Vec<MetadataRecord>,
    pub answer: T,
}

/// What the operator has settled for the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPolicy {
    /// `num.partitions`: for topics created without a number (T3).
    pub num_partitions: u32,
    /// `default.replication.factor`: for topics created without one (T3).
    pub default_replication_factor: u32,
    /// `min.insync.replicas`: for topics created without it; the topic keeps it.
    pub min_insync_replicas: u32,
    /// `unclean.leader.election.enable`: for topics created without it; the topic keeps it.
    pub unclean_leader_election: bool,
    /// `delete.topic.enable` (T7).
    pub delete_topic_enable: bool,
    pub partition_limits: PartitionLimits,
}

/// How many partitions there may be, so that no single request can bring the cluster down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLimits {
    /// `max.partitions.per.request`: that one request may create.
    pub per_request: u32,
    /// `max.partitions.per.node`: replicas on one node.
    pub per_node: u32,
    /// `max.partitions.per.cluster`.
    pub per_cluster: u32,
}

impl Default for PartitionLimits {
    fn default() -> Self {
        PartitionLimits { per_request: 10_000, per_node: 100_000, per_cluster: 1_000_000 }
    }
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        ClusterPolicy {
            num_partitions: 1,
            default_replication_factor: 1,
            min_insync_replicas: 1,
            unclean_leader_election: false,
            delete_topic_enable: true,
            partition_limits: PartitionLimits::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTopic {
    pub name: String,
    /// `None` or -1: as the cluster's policy says.
    pub partitions: Option<i32>,
    /// `None` or -1: as the cluster's policy says.
    pub replication_factor: Option<i32>,
    /// Instead of the two above: the replicas of partition 0, 1, 2, …, the preferred leader first.
    pub assignments: Vec<Vec<NodeId>>,
    pub configs: BTreeMap<String, String>,
    /// The caller knows that the topic is the cluster's own.
    pub internal: bool,
    pub validate_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateTopic {
    pub name: String,
    pub set: BTreeMap<String, String>,
    pub unset: Vec<String>,
    /// The caller knows that the topic is the cluster's own.
    pub internal: bool,
    pub validate_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreatePartitions {
    pub name: String,
    /// The new total.
    pub total: i32,
    /// Replicas of the new partitions only; empty: placed evenly.
    pub assignments: Vec<Vec<NodeId>>,
    /// The caller knows that the topic is the cluster's own.
    pub internal: bool,
    pub validate_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteTopic {
    pub name: String,
    /// The caller knows that the topic is the cluster's own.
    pub internal: bool,
    pub validate_only: bool,
}

/// What logs of this version can take, their own and from a leader. 1: gaps between batches, records that are missing
/// in a batch, and a delete horizon, as cleaning leaves them. 0: none of that.
pub const LOG_VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterBroker {
    pub node_id: NodeId,
    /// Drawn by the broker at each start.
    pub incarnation: [u8; 16],
    /// The cluster that the broker believes it belongs to, if it knows.
    pub cluster_id: Option<String>,
    pub endpoint: String,
    /// As in [`Broker::listeners`].
    pub listeners: BTreeMap<String, String>,
    pub http_endpoint: String,
    pub rack: Option<String>,
    /// [`LOG_VERSION`] of the broker.
    pub log_version: u32,
    /// [`METADATA_VERSION`] of the broker.
    pub metadata_version: u32,
}

/// What is known of a broker that comes, beside what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// Somebody holds a session under the same id.
    pub predecessor_alive: bool,
    /// The broker epoch that ended in a clean stop, as the broker found it on its disk.
    pub stopped_cleanly: Option<BrokerEpoch>,
    /// There is no partition on its disk: whatever it had before is lost.
    pub holds_nothing: bool,
    /// Brokers that are not heard just now, or not yet: none of them may have learnt of anything since.
    pub silent: BTreeSet<NodeId>,
}

/// R34: what the replicas of partitions are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartitionReassignments {
    /// Each succeeds or fails for itself.
    pub partitions: Vec<ReassignPartition>,
    /// Whether a target may have more or fewer replicas than there are (KIP-860).
    pub allow_replication_factor_change: bool,
    pub validate_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReassignPartition {
    pub topic: String,
    pub partition: i32,
    /// The preferred leader first. `None`: what is under way is cancelled.
    pub target: Option<Vec<NodeId>>,
}

/// R9: a leader's request for another ISR. What is committed counts; the request does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    pub key: PartitionKey,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<IsrMember>,
    /// R15: the leader has nothing (more) to recover from an unclean election.
    pub recovered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrMember {
    pub node: NodeId,
    /// Under which it fetches, as far as the leader knows; a member under another one is refused.
    pub broker_epoch: Option<BrokerEpoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// R17: the first replica, if it is in sync.
    Preferred,
    /// R15: of a partition without leader any active replica; committed records may be lost.
    Unclean,
}

/// `leader.imbalance.per.broker.percentage`, and how much is moved at once (R17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderBalance {
    /// A broker may lack this part of the leaderships it is preferred for.
    pub percentage_per_broker: u32,
    pub max_elections: usize,
}

impl Default for LeaderBalance {
    fn default() -> Self {
        LeaderBalance { percentage_per_broker: 10, max_elections: 1000 }
    }
}

/// Producer ids that nobody else gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub len: u64,
}

fn wrap(record: Record) -> MetadataRecord {
    MetadataRecord { record: Some(record) }
}
