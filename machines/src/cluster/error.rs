//! Why the cluster refuses.

use super::PartitionLimit;
use crate::config::ConfigError;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionKey, TopicId};

/// A refusal by [`super::ClusterImage`]'s decisions. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    #[error("'{name}' is no topic name: {reason}")]
    InvalidTopicName { name: String, reason: &'static str },
    #[error("'{name}' differs from an existing topic only in '.' and '_'")]
    TopicCollides { name: String },
    #[error("topic '{name}' cannot be changed like that: {reason}")]
    ClustersOwn { name: String, reason: &'static str },
    #[error("topic '{name}' exists")]
    TopicExists { name: String },
    #[error("there is no topic '{name}'")]
    UnknownTopic { name: String },
    #[error("{asked} is no number of partitions; ask for at least 1")]
    InvalidPartitions { asked: i32 },
    #[error("{asked} partitions are more than the limit of {limit} per topic")]
    TooManyPartitions { asked: i32, limit: u32 },
    #[error("{asked} more partitions are over the limit of {limit} for {scope}: {left} are left ({})", .scope.key())]
    PartitionLimitReached { scope: PartitionLimit, limit: u32, asked: u32, left: u64 },
    #[error("the topic has {current} partitions and can only grow; {asked} are not more")]
    PartitionsNotMore { asked: i32, current: u32 },
    #[error("{asked} is no replication factor; ask for at least 1")]
    InvalidReplicationFactor { asked: i32 },
    #[error("replication factor {asked} with {brokers} brokers")]
    NotEnoughBrokers { asked: u32, brokers: u32 },
    #[error("no broker is active")]
    NoActiveBroker,
    #[error(
        "topic '{name}' has {factor} replicas of a partition, and there are {brokers} brokers for them; lower its \
         replication factor first: `troupe reassign plan --topics {name} --replication-factor {brokers}`"
    )]
    TooFewBrokersFor { name: String, factor: u32, brokers: u32 },
    #[error("broker {node_id} can take no replicas: {reason}")]
    CannotTakeReplicas { node_id: NodeId, reason: &'static str },
    #[error(
        "brokers {} have no rack, and others do; give them one (broker.rack), or plan without racks \
         (--disable-rack-aware)",
        .without.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
    )]
    RacksIncomplete { without: Vec<NodeId> },
    #[error("broker {node_id} is the last one")]
    LastBroker { node_id: NodeId },
    #[error("the assignment cannot be: {reason}")]
    InvalidAssignment { reason: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("deleting topics is switched off (delete.topic.enable)")]
    DeletionDisabled,
    #[error("this is cluster '{actual}', not '{asked}'")]
    WrongCluster { asked: String, actual: String },
    #[error("broker {node_id} is not registered")]
    UnknownBroker { node_id: NodeId },
    #[error("broker {node_id} has registered anew; epoch {asked} is over")]
    StaleBrokerEpoch { node_id: NodeId, asked: BrokerEpoch, current: BrokerEpoch },
    #[error("another process runs as broker {node_id}; give this one an id of its own")]
    DuplicateBroker { node_id: NodeId },
    #[error(
        "broker {node_id} knows metadata of version {version}, and this cluster has some of version {needed}; start it \
         with the version of the others"
    )]
    BrokerBehind { node_id: NodeId, version: u32, needed: u32 },
    #[error(
        "not before every node is known to be of a version that knows it: update and start {}", numbers(.nodes)
    )]
    NodesBehind { nodes: Vec<NodeId> },
    #[error("broker {node_id} is alive; stop it first")]
    BrokerAlive { node_id: NodeId },
    #[error("broker {node_id} still holds {count} replicas, which nobody would replace: {first}")]
    BrokerHoldsReplicas { node_id: NodeId, count: usize, first: String },
    #[error("there is no topic with id {topic_id}")]
    UnknownTopicId { topic_id: TopicId },
    #[error("there is no partition {key}")]
    UnknownPartition { key: PartitionKey },
    #[error("partition {key} has epochs that this controller does not know yet")]
    EpochFromTheFuture { key: PartitionKey },
    #[error("leader epoch {asked} of partition {key} is over; it is {current}")]
    FencedLeaderEpoch { key: PartitionKey, asked: LeaderEpoch, current: LeaderEpoch },
    #[error("broker {node_id} does not lead partition {key}")]
    NotTheLeader { key: PartitionKey, node_id: NodeId },
    #[error("partition {key} has changed; its epoch is {current}, not {asked}")]
    StalePartitionEpoch { key: PartitionKey, asked: PartitionEpoch, current: PartitionEpoch },
    #[error("this cannot be an ISR: {reason}")]
    InvalidIsr { reason: &'static str },
    #[error("broker {node_id} cannot be in sync: {reason}")]
    IneligibleReplica { node_id: NodeId, reason: &'static str },
    #[error("partition {key} has the leader it should have")]
    ElectionNotNeeded { key: PartitionKey },
    #[error(
        "the preferred leader, broker {preferred}, is not in sync, not active, or being retired"
    )]
    PreferredNotAvailable { preferred: NodeId },
    #[error("no replica of partition {key} is active")]
    NoActiveReplica { key: PartitionKey },
    #[error("topic '{topic}' has no partition {partition}")]
    NoSuchPartition { topic: String, partition: i32 },
    #[error(
        "the replicas of '{topic}' partition {partition} are not being reassigned: there is nothing to cancel"
    )]
    NoReassignmentInProgress { topic: String, partition: i32 },
    #[error(
        "the replication factor would change from {current} to {asked}, which the request does not allow"
    )]
    ReplicationFactorWouldChange { current: u32, asked: u32 },
}

impl ClusterError {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidTopicName { .. }
            | Self::TopicCollides { .. }
            | Self::ClustersOwn { .. } => ErrorCode::InvalidTopic,
            Self::PartitionLimitReached { .. } => ErrorCode::PartitionLimitReached,
            Self::TopicExists { .. } => ErrorCode::TopicExists,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopic,
            Self::InvalidPartitions { .. }
            | Self::TooManyPartitions { .. }
            | Self::PartitionsNotMore { .. } => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor { .. }
            | Self::NotEnoughBrokers { .. }
            | Self::TooFewBrokersFor { .. }
            | Self::NoActiveBroker => ErrorCode::InvalidReplicationFactor,
            Self::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::ReplicationFactorWouldChange { .. } => ErrorCode::InvalidReplicationFactor,
            Self::NoReassignmentInProgress { .. } => ErrorCode::NoReassignmentInProgress,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::WrongCluster { .. } => ErrorCode::InconsistentClusterId,
            Self::UnknownBroker { .. } => ErrorCode::BrokerNotRegistered,
            Self::StaleBrokerEpoch { .. } => ErrorCode::StaleBrokerEpoch,
            Self::DuplicateBroker { .. } => ErrorCode::DuplicateBroker,
            Self::BrokerAlive { .. }
            | Self::BrokerBehind { .. }
            | Self::NodesBehind { .. }
            | Self::CannotTakeReplicas { .. }
            | Self::RacksIncomplete { .. }
            | Self::LastBroker { .. }
            | Self::NotTheLeader { .. }
            | Self::InvalidIsr { .. } => ErrorCode::InvalidRequest,
            Self::BrokerHoldsReplicas { .. } => ErrorCode::NodeHoldsReplicas,
            Self::UnknownTopicId { .. } => ErrorCode::UnknownTopic,
            Self::UnknownPartition { .. } | Self::NoSuchPartition { .. } => {
                ErrorCode::UnknownPartition
            }
            Self::EpochFromTheFuture { .. } => ErrorCode::NotController,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::StalePartitionEpoch { .. } => ErrorCode::StalePartitionEpoch,
            Self::IneligibleReplica { .. } => ErrorCode::IneligibleReplica,
            Self::ElectionNotNeeded { .. } => ErrorCode::ElectionNotNeeded,
            Self::PreferredNotAvailable { .. } | Self::NoActiveReplica { .. } => {
                ErrorCode::LeaderNotAvailable
            }
        }
    }
}

/// Nodes as a list; none: the cluster has no id yet.
fn numbers(nodes: &[NodeId]) -> String {
    let numbers: Vec<_> = nodes.iter().map(|node| format!("node {node}")).collect();
    if numbers.is_empty() { "the first node".to_owned() } else { numbers.join(", ") }
}

impl From<ClusterError> for WireError {
    fn from(error: ClusterError) -> Self {
        let wire = WireError::new(error.code(), error.to_string());
        match error {
            ClusterError::Config(error) => error.into(),
            ClusterError::InvalidTopicName { name, .. }
            | ClusterError::TopicCollides { name }
            | ClusterError::ClustersOwn { name, .. }
            | ClusterError::TopicExists { name }
            | ClusterError::UnknownTopic { name } => wire.with("topic", name),
            ClusterError::InvalidPartitions { asked }
            | ClusterError::InvalidReplicationFactor { asked } => wire.with("actual", asked),
            ClusterError::TooManyPartitions { asked, limit } => {
                wire.with("actual", asked).with("limit", limit)
            }
            ClusterError::PartitionLimitReached { scope, limit, asked, left } => wire
                .with("key", scope.key())
                .with("limit", limit)
                .with("actual", asked)
                .with("left", left),
            ClusterError::PartitionsNotMore { asked, current } => {
                wire.with("actual", asked).with("current", current)
            }
            ClusterError::TooFewBrokersFor { name, factor, brokers } => {
                wire.with("topic", name).with("actual", factor).with("brokers", brokers)
            }
            ClusterError::NotEnoughBrokers { asked, brokers } => {
                wire.with("actual", asked).with("brokers", brokers)
            }
            ClusterError::WrongCluster { asked, actual } => {
                wire.with("expected", actual).with("actual", asked)
            }
            ClusterError::UnknownBroker { node_id }
            | ClusterError::DuplicateBroker { node_id }
            | ClusterError::BrokerAlive { node_id }
            | ClusterError::LastBroker { node_id }
            | ClusterError::CannotTakeReplicas { node_id, .. }
            | ClusterError::NotTheLeader { node_id, .. }
            | ClusterError::IneligibleReplica { node_id, .. }
            | ClusterError::PreferredNotAvailable { preferred: node_id } => {
                wire.with("node_id", node_id)
            }
            ClusterError::BrokerBehind { node_id, version, needed } => {
                wire.with("node_id", node_id).with("actual", version).with("expected", needed)
            }
            ClusterError::NodesBehind { nodes } => wire.with("nodes", numbers(&nodes)),
            ClusterError::BrokerHoldsReplicas { node_id, count, first } => {
                wire.with("node_id", node_id).with("replicas", count).with("partitions", first)
            }
            ClusterError::NoSuchPartition { topic, partition }
            | ClusterError::NoReassignmentInProgress { topic, partition } => {
                wire.with("topic", topic).with("partition", partition)
            }
            ClusterError::ReplicationFactorWouldChange { current, asked } => {
                wire.with("actual", asked).with("current", current)
            }
            ClusterError::UnknownTopicId { topic_id } => wire.with("topic_id", topic_id),
            ClusterError::UnknownPartition { key }
            | ClusterError::EpochFromTheFuture { key }
            | ClusterError::ElectionNotNeeded { key }
            | ClusterError::NoActiveReplica { key } => wire.with("partition", key),
            ClusterError::FencedLeaderEpoch { asked, current, .. } => {
                wire.with("actual_epoch", asked).with("current_epoch", current)
            }
            ClusterError::StalePartitionEpoch { asked, current, .. } => {
                wire.with("actual_epoch", asked).with("current_epoch", current)
            }
            ClusterError::StaleBrokerEpoch { node_id, asked, current } => wire
                .with("node_id", node_id)
                .with("actual_epoch", asked)
                .with("current_epoch", current),
            ClusterError::NoActiveBroker
            | ClusterError::InvalidAssignment { .. }
            | ClusterError::RacksIncomplete { .. }
            | ClusterError::InvalidIsr { .. }
            | ClusterError::DeletionDisabled => wire,
        }
    }
}
