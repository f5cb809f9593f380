//! Why the cluster refuses.

use crate::config::ConfigError;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, NodeId};

/// A refusal by [`super::ClusterImage`]'s decisions. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    #[error("'{name}' is no topic name: {reason}")]
    InvalidTopicName { name: String, reason: &'static str },
    #[error("'{name}' differs from an existing topic only in '.' and '_'")]
    TopicCollides { name: String },
    #[error("topic '{name}' exists")]
    TopicExists { name: String },
    #[error("there is no topic '{name}'")]
    UnknownTopic { name: String },
    #[error("{asked} is no number of partitions; ask for at least 1")]
    InvalidPartitions { asked: i32 },
    #[error("{asked} partitions are more than the limit of {limit} per topic")]
    TooManyPartitions { asked: i32, limit: u32 },
    #[error("the topic has {current} partitions and can only grow; {asked} are not more")]
    PartitionsNotMore { asked: i32, current: u32 },
    #[error("{asked} is no replication factor; ask for at least 1")]
    InvalidReplicationFactor { asked: i32 },
    #[error("replication factor {asked} with {brokers} brokers")]
    NotEnoughBrokers { asked: u32, brokers: u32 },
    #[error("no broker is active")]
    NoActiveBroker,
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
}

impl ClusterError {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidTopicName { .. } | Self::TopicCollides { .. } => ErrorCode::InvalidTopic,
            Self::TopicExists { .. } => ErrorCode::TopicExists,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopic,
            Self::InvalidPartitions { .. }
            | Self::TooManyPartitions { .. }
            | Self::PartitionsNotMore { .. } => ErrorCode::InvalidPartitions,
            Self::InvalidReplicationFactor { .. }
            | Self::NotEnoughBrokers { .. }
            | Self::NoActiveBroker => ErrorCode::InvalidReplicationFactor,
            Self::InvalidAssignment { .. } => ErrorCode::InvalidReplicaAssignment,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::WrongCluster { .. }
            | Self::UnknownBroker { .. }
            | Self::StaleBrokerEpoch { .. } => ErrorCode::InvalidRequest,
        }
    }
}

impl From<ClusterError> for WireError {
    fn from(error: ClusterError) -> Self {
        let wire = WireError::new(error.code(), error.to_string());
        match error {
            ClusterError::Config(error) => error.into(),
            ClusterError::InvalidTopicName { name, .. }
            | ClusterError::TopicCollides { name }
            | ClusterError::TopicExists { name }
            | ClusterError::UnknownTopic { name } => wire.with("topic", name),
            ClusterError::InvalidPartitions { asked }
            | ClusterError::InvalidReplicationFactor { asked } => wire.with("actual", asked),
            ClusterError::TooManyPartitions { asked, limit } => {
                wire.with("actual", asked).with("limit", limit)
            }
            ClusterError::PartitionsNotMore { asked, current } => {
                wire.with("actual", asked).with("current", current)
            }
            ClusterError::NotEnoughBrokers { asked, brokers } => {
                wire.with("actual", asked).with("brokers", brokers)
            }
            ClusterError::WrongCluster { asked, actual } => {
                wire.with("expected", actual).with("actual", asked)
            }
            ClusterError::UnknownBroker { node_id } => wire.with("node_id", node_id),
            ClusterError::StaleBrokerEpoch { node_id, asked, current } => wire
                .with("node_id", node_id)
                .with("actual_epoch", asked)
                .with("current_epoch", current),
            ClusterError::NoActiveBroker
            | ClusterError::InvalidAssignment { .. }
            | ClusterError::DeletionDisabled => wire,
        }
    }
}
