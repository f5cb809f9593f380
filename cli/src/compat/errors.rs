//! Kafka's names of errors: what its tools print in front of a message.

use troupe_client::ClientError;
use troupe_proto::error::{Error, ErrorCode};

const PACKAGE: &str = "org.apache.kafka.common.errors.";

/// A refusal as Kafka's tools print one: the exception, and the message.
pub fn named(error: &Error) -> String {
    format!("{}: {}", exception(error.code), error.message)
}

/// The same of a call that has failed.
pub fn named_client(error: &ClientError) -> String {
    format!("{}: {}", exception(error.reason()), message(error))
}

/// Only what it says.
pub fn message(error: &ClientError) -> String {
    match error {
        ClientError::Refused(refusal) => refusal.message.clone(),
        other => other.to_string(),
    }
}

/// The class of exception that Kafka has for it.
pub fn exception(code: ErrorCode) -> String {
    let name = match code {
        ErrorCode::UnknownTopic | ErrorCode::UnknownPartition => "UnknownTopicOrPartitionException",
        ErrorCode::TopicExists => "TopicExistsException",
        ErrorCode::InvalidTopic => "InvalidTopicException",
        ErrorCode::InvalidPartitions => "InvalidPartitionsException",
        ErrorCode::InvalidReplicationFactor => "InvalidReplicationFactorException",
        ErrorCode::InvalidReplicaAssignment => "InvalidReplicaAssignmentException",
        ErrorCode::InvalidConfig => "InvalidConfigurationException",
        ErrorCode::TopicDeletionDisabled => "TopicDeletionDisabledException",
        ErrorCode::GroupNotFound => "GroupIdNotFoundException",
        ErrorCode::GroupNotEmpty => "GroupNotEmptyException",
        ErrorCode::GroupSubscribedToTopic => "GroupSubscribedToTopicException",
        ErrorCode::InvalidGroupId => "InvalidGroupIdException",
        ErrorCode::OffsetOutOfRange => "OffsetOutOfRangeException",
        ErrorCode::NotLeader => "NotLeaderOrFollowerException",
        ErrorCode::LeaderNotAvailable => "LeaderNotAvailableException",
        ErrorCode::NotController => "NotControllerException",
        ErrorCode::BrokerNotRegistered => "BrokerIdNotRegisteredException",
        ErrorCode::ElectionNotNeeded => "ElectionNotNeededException",
        ErrorCode::IneligibleReplica => "EligibleLeadersNotAvailableException",
        ErrorCode::NoReassignmentInProgress => "NoReassignmentInProgressException",
        ErrorCode::TransactionalIdNotFound => "TransactionalIdNotFoundException",
        ErrorCode::RequestTimedOut | ErrorCode::OutcomeUnknown => "TimeoutException",
        ErrorCode::RecordTooLarge => "RecordTooLargeException",
        ErrorCode::InvalidRecord => "InvalidRecordException",
        ErrorCode::NotEnoughReplicas => "NotEnoughReplicasException",
        ErrorCode::InvalidRequest => "InvalidRequestException",
        other => return format!("{PACKAGE}ApiException [{}]", other.reason()),
    };
    format!("{PACKAGE}{name}")
}
