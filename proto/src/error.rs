//! Every reason for which Troupe refuses, and the four answers that a caller needs about each:
//! the gRPC code, whether to retry, whether it surely did not happen, whether to refresh metadata.
//!
//! The answers are exhaustive matches without `_`: a new reason does not compile until it has all four.

mod detail;
mod records;
mod refusal;
#[cfg(feature = "grpc")]
mod status;

pub use records::{MAX_RECORDS, RefusedRecords};
pub use refusal::{Error, LeaderHint, Publication};
#[cfg(feature = "grpc")]
pub use status::redirect;

use crate::v1::ErrorReason;

/// What became of one partition of a publication, and what is wrong with one record. The same messages as on the wire.
pub use crate::v1::{PartitionOutcome, RecordError};

/// Why Troupe refused, or what became of a request. The same enum as on the wire.
pub type ErrorCode = ErrorReason;

/// The gRPC status codes that Troupe uses, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum GrpcCode {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
}

impl ErrorCode {
    /// The status code of a call that failed as a whole for this reason.
    pub const fn grpc_code(self) -> GrpcCode {
        match self {
            Self::UnknownTopic
            | Self::UnknownPartition
            | Self::UnknownActor
            | Self::BrokerNotRegistered
            | Self::GroupNotFound
            | Self::TransactionalIdNotFound
            | Self::UnknownAckId
            | Self::NoCommittedOffset => GrpcCode::NotFound,
            Self::TopicExists | Self::DuplicateBroker => GrpcCode::AlreadyExists,
            Self::InvalidTopic
            | Self::InvalidPartitions
            | Self::InvalidReplicationFactor
            | Self::InvalidReplicaAssignment
            | Self::InvalidConfig
            | Self::InvalidRequest
            | Self::RecordTooLarge
            | Self::InvalidRecord
            | Self::UnsupportedCompression
            | Self::InvalidTimestamp
            | Self::InvalidGroupId
            | Self::UnsupportedAssignor
            | Self::InvalidSessionTimeout
            | Self::OffsetMetadataTooLarge
            | Self::InvalidTransactionalId
            | Self::InvalidTransactionTimeout
            | Self::InvalidRegularExpression => GrpcCode::InvalidArgument,
            Self::TopicDeletionDisabled
            | Self::NotLeader
            | Self::FencedLeaderEpoch
            | Self::StaleTopicId
            | Self::StalePartitionEpoch
            | Self::IneligibleReplica
            | Self::ElectionNotNeeded
            | Self::StaleBrokerEpoch
            | Self::InconsistentClusterId
            | Self::InconsistentVoterSet
            | Self::NotCoordinator
            | Self::InconsistentAssignor
            | Self::GroupNotEmpty
            | Self::GroupSubscribedToTopic
            | Self::NotAssigned
            | Self::NodeHoldsReplicas
            | Self::NoReassignmentInProgress
            | Self::NewLeaderElected
            | Self::CoordinatorFenced
            | Self::AckGap
            | Self::OrderingMismatch
            | Self::InvalidTransactionState
            | Self::MessageTooLarge => GrpcCode::FailedPrecondition,
            Self::LeaderNotAvailable
            | Self::NotController
            | Self::NotEnoughReplicas
            | Self::NotEnoughReplicasAfterAppend
            | Self::OutcomeUnknown
            | Self::UnknownLeaderEpoch
            | Self::ShuttingDown
            | Self::CoordinatorLoading
            | Self::StorageUnavailable
            | Self::ConcurrentTransactions
            | Self::UnstableOffsetCommit
            | Self::CoordinatorNotAvailable => GrpcCode::Unavailable,
            Self::RequestTimedOut | Self::RequestTooLate => GrpcCode::DeadlineExceeded,
            Self::OffsetOutOfRange => GrpcCode::OutOfRange,
            Self::OutOfOrderSequence
            | Self::ProducerFenced
            | Self::LeaseLost
            | Self::UnknownMember
            | Self::FencedMemberEpoch
            | Self::StaleMemberEpoch
            | Self::FencedInstanceId
            | Self::CommitSuperseded
            | Self::InvalidProducerIdMapping
            | Self::TransactionAbortable
            | Self::Overtaken => GrpcCode::Aborted,
            Self::Throttled
            | Self::DiskFull
            | Self::GroupMaxSizeReached
            | Self::RequestTooLarge
            | Self::PartitionLimitReached
            | Self::TooManyConnections => GrpcCode::ResourceExhausted,
            Self::CorruptBatch | Self::CorruptLog => GrpcCode::DataLoss,
            Self::ChaosDisabled => GrpcCode::PermissionDenied,
            Self::StorageFailure | Self::Internal | Self::Unspecified => GrpcCode::Internal,
        }
    }

    /// Whether trying the same again can succeed.
    pub const fn is_retriable(self) -> bool {
        match self {
            Self::NotLeader
            | Self::FencedLeaderEpoch
            | Self::LeaderNotAvailable
            | Self::NotController
            | Self::NotEnoughReplicas
            | Self::NotEnoughReplicasAfterAppend
            | Self::OutcomeUnknown
            | Self::RequestTimedOut
            | Self::Throttled
            | Self::TooManyConnections
            | Self::StorageFailure
            | Self::StorageUnavailable
            | Self::DiskFull
            | Self::ShuttingDown
            | Self::UnknownLeaderEpoch
            | Self::DuplicateBroker
            | Self::NotCoordinator
            | Self::CoordinatorLoading
            | Self::CoordinatorNotAvailable
            | Self::StaleMemberEpoch
            | Self::RequestTooLate
            | Self::ConcurrentTransactions
            | Self::UnstableOffsetCommit
            | Self::CorruptBatch => true,
            Self::Unspecified
            | Self::UnknownTopic
            | Self::UnknownPartition
            | Self::TopicExists
            | Self::InvalidTopic
            | Self::InvalidPartitions
            | Self::InvalidReplicationFactor
            | Self::InvalidReplicaAssignment
            | Self::InvalidConfig
            | Self::InvalidRequest
            | Self::TopicDeletionDisabled
            | Self::StaleTopicId
            | Self::OffsetOutOfRange
            | Self::RecordTooLarge
            | Self::InvalidRecord
            | Self::UnsupportedCompression
            | Self::InvalidTimestamp
            | Self::OutOfOrderSequence
            | Self::ProducerFenced
            | Self::CorruptLog
            | Self::ChaosDisabled
            | Self::UnknownActor
            | Self::StalePartitionEpoch
            | Self::IneligibleReplica
            | Self::ElectionNotNeeded
            | Self::StaleBrokerEpoch
            | Self::BrokerNotRegistered
            | Self::InconsistentClusterId
            | Self::InconsistentVoterSet
            | Self::GroupNotFound
            | Self::InvalidGroupId
            | Self::UnknownMember
            | Self::FencedMemberEpoch
            | Self::FencedInstanceId
            | Self::UnsupportedAssignor
            | Self::InconsistentAssignor
            | Self::GroupNotEmpty
            | Self::GroupSubscribedToTopic
            | Self::GroupMaxSizeReached
            | Self::InvalidSessionTimeout
            | Self::OffsetMetadataTooLarge
            | Self::NotAssigned
            | Self::InvalidRegularExpression
            | Self::OrderingMismatch
            | Self::NoCommittedOffset
            | Self::NodeHoldsReplicas
            | Self::NoReassignmentInProgress
            | Self::NewLeaderElected
            | Self::CoordinatorFenced
            | Self::LeaseLost
            | Self::UnknownAckId
            | Self::AckGap
            | Self::RequestTooLarge
            | Self::PartitionLimitReached
            | Self::MessageTooLarge
            | Self::CommitSuperseded
            | Self::InvalidTransactionalId
            | Self::TransactionalIdNotFound
            | Self::InvalidProducerIdMapping
            | Self::InvalidTransactionState
            | Self::InvalidTransactionTimeout
            | Self::TransactionAbortable
            | Self::Overtaken
            | Self::Internal => false,
        }
    }

    /// Whether what was asked for surely was not done. False: it may have been, now or later.
    pub const fn surely_not_done(self) -> bool {
        match self {
            Self::NotEnoughReplicasAfterAppend
            | Self::OutcomeUnknown
            | Self::NewLeaderElected
            | Self::RequestTimedOut
            | Self::StorageFailure
            | Self::Internal
            | Self::Unspecified => false,
            Self::UnknownTopic
            | Self::UnknownPartition
            | Self::TopicExists
            | Self::InvalidTopic
            | Self::InvalidPartitions
            | Self::InvalidReplicationFactor
            | Self::InvalidReplicaAssignment
            | Self::InvalidConfig
            | Self::InvalidRequest
            | Self::TopicDeletionDisabled
            | Self::StaleTopicId
            | Self::NotLeader
            | Self::FencedLeaderEpoch
            | Self::LeaderNotAvailable
            | Self::NotController
            | Self::NotEnoughReplicas
            | Self::OffsetOutOfRange
            | Self::RecordTooLarge
            | Self::InvalidRecord
            | Self::CorruptBatch
            | Self::UnsupportedCompression
            | Self::InvalidTimestamp
            | Self::OutOfOrderSequence
            | Self::ProducerFenced
            | Self::Throttled
            | Self::TooManyConnections
            | Self::DiskFull
            | Self::StorageUnavailable
            | Self::CorruptLog
            | Self::ShuttingDown
            | Self::ChaosDisabled
            | Self::UnknownLeaderEpoch
            | Self::StalePartitionEpoch
            | Self::IneligibleReplica
            | Self::ElectionNotNeeded
            | Self::StaleBrokerEpoch
            | Self::BrokerNotRegistered
            | Self::DuplicateBroker
            | Self::InconsistentClusterId
            | Self::InconsistentVoterSet
            | Self::GroupNotFound
            | Self::InvalidGroupId
            | Self::NotCoordinator
            | Self::CoordinatorLoading
            | Self::CoordinatorNotAvailable
            | Self::UnknownMember
            | Self::FencedMemberEpoch
            | Self::StaleMemberEpoch
            | Self::FencedInstanceId
            | Self::UnsupportedAssignor
            | Self::InconsistentAssignor
            | Self::GroupNotEmpty
            | Self::GroupSubscribedToTopic
            | Self::GroupMaxSizeReached
            | Self::InvalidSessionTimeout
            | Self::OffsetMetadataTooLarge
            | Self::NotAssigned
            | Self::InvalidRegularExpression
            | Self::OrderingMismatch
            | Self::NoCommittedOffset
            | Self::NodeHoldsReplicas
            | Self::NoReassignmentInProgress
            | Self::RequestTooLarge
            | Self::PartitionLimitReached
            | Self::MessageTooLarge
            | Self::CommitSuperseded
            | Self::RequestTooLate
            | Self::InvalidTransactionalId
            | Self::TransactionalIdNotFound
            | Self::InvalidProducerIdMapping
            | Self::InvalidTransactionState
            | Self::InvalidTransactionTimeout
            | Self::CoordinatorFenced
            | Self::LeaseLost
            | Self::UnknownAckId
            | Self::AckGap
            | Self::TransactionAbortable
            | Self::ConcurrentTransactions
            | Self::UnstableOffsetCommit
            | Self::Overtaken
            | Self::UnknownActor => true,
        }
    }

    /// Whether the caller's picture of the cluster is old.
    pub const fn refresh_metadata(self) -> bool {
        match self {
            Self::UnknownTopic
            | Self::UnknownPartition
            | Self::StaleTopicId
            | Self::NotLeader
            | Self::FencedLeaderEpoch
            | Self::LeaderNotAvailable
            | Self::StorageFailure
            | Self::StorageUnavailable
            | Self::DiskFull
            | Self::ShuttingDown
            | Self::StalePartitionEpoch
            | Self::NewLeaderElected
            | Self::OutcomeUnknown => true,
            Self::Unspecified
            | Self::TopicExists
            | Self::InvalidTopic
            | Self::InvalidPartitions
            | Self::InvalidReplicationFactor
            | Self::InvalidReplicaAssignment
            | Self::InvalidConfig
            | Self::InvalidRequest
            | Self::TopicDeletionDisabled
            | Self::NotController
            | Self::NotEnoughReplicas
            | Self::NotEnoughReplicasAfterAppend
            | Self::RequestTimedOut
            | Self::OffsetOutOfRange
            | Self::RecordTooLarge
            | Self::InvalidRecord
            | Self::CorruptBatch
            | Self::UnsupportedCompression
            | Self::InvalidTimestamp
            | Self::OutOfOrderSequence
            | Self::ProducerFenced
            | Self::Throttled
            | Self::TooManyConnections
            | Self::CorruptLog
            | Self::ChaosDisabled
            | Self::UnknownActor
            | Self::UnknownLeaderEpoch
            | Self::IneligibleReplica
            | Self::ElectionNotNeeded
            | Self::StaleBrokerEpoch
            | Self::BrokerNotRegistered
            | Self::DuplicateBroker
            | Self::InconsistentClusterId
            | Self::InconsistentVoterSet
            | Self::GroupNotFound
            | Self::InvalidGroupId
            | Self::NotCoordinator
            | Self::CoordinatorLoading
            | Self::CoordinatorNotAvailable
            | Self::UnknownMember
            | Self::FencedMemberEpoch
            | Self::StaleMemberEpoch
            | Self::FencedInstanceId
            | Self::UnsupportedAssignor
            | Self::InconsistentAssignor
            | Self::GroupNotEmpty
            | Self::GroupSubscribedToTopic
            | Self::GroupMaxSizeReached
            | Self::InvalidSessionTimeout
            | Self::OffsetMetadataTooLarge
            | Self::NotAssigned
            | Self::InvalidRegularExpression
            | Self::OrderingMismatch
            | Self::NoCommittedOffset
            | Self::NodeHoldsReplicas
            | Self::NoReassignmentInProgress
            | Self::RequestTooLarge
            | Self::PartitionLimitReached
            | Self::MessageTooLarge
            | Self::CommitSuperseded
            | Self::RequestTooLate
            | Self::InvalidTransactionalId
            | Self::TransactionalIdNotFound
            | Self::InvalidProducerIdMapping
            | Self::InvalidTransactionState
            | Self::InvalidTransactionTimeout
            | Self::TransactionAbortable
            | Self::ConcurrentTransactions
            | Self::CoordinatorFenced
            | Self::LeaseLost
            | Self::UnknownAckId
            | Self::AckGap
            | Self::UnstableOffsetCommit
            | Self::Overtaken
            | Self::Internal => false,
        }
    }

    /// The name on the wire, without the enum's prefix: `NOT_LEADER`.
    pub fn reason(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }
}
