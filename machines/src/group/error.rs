//! Why a group's coordinator refuses.

use super::GroupPartition;
use crate::cluster::ClusterError;
use crate::producer::Producer;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, ProducerEpoch};

/// A refusal by [`super::Groups`]. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    #[error(
        "'{group}' is no group id: {reason}; use 1 to 255 characters, none of them a control character"
    )]
    InvalidGroupId { group: String, reason: &'static str },
    #[error("there is no group '{group}'; 'troupe group list' shows those that there are")]
    GroupNotFound { group: String },
    #[error("group '{group}' is not empty (members: {members}); stop them first")]
    GroupNotEmpty { group: String, members: usize },
    #[error(
        "'{member_id}' is no member of group '{group}' any more; join again without a member id"
    )]
    UnknownMember { group: String, member_id: String },
    #[error("group '{group}' has neither a member nor an instance '{member}'")]
    NoSuchMember { group: String, member: String },
    #[error(
        "member '{member_id}' had not given up what it was told to within {timeout_ms} ms; join again \
         without a member id, and call more often or ask for a longer rebalance timeout"
    )]
    RebalanceTimedOut { member_id: String, timeout_ms: u32 },
    #[error(
        "member '{member_id}' is in epoch {current}, not {asked}, or does not hold what it named; drop all \
         partitions and join again without a member id"
    )]
    FencedMemberEpoch { member_id: String, asked: u32, current: u32 },
    #[error("member '{member_id}' has come back by another stream; use that one")]
    MemberElsewhere { member_id: String },
    #[error(
        "epoch {asked} of member '{member_id}' does not count here, it is {current}; try again with the \
         epoch that the coordinator told last"
    )]
    StaleMemberEpoch { member_id: String, asked: u32, current: u32 },
    #[error(
        "member '{member_id}' has not held {partition} from epoch {asked} on until now, in epoch {current}; abort the \
         transaction, and go on from what is committed"
    )]
    GivenUp { member_id: String, partition: GroupPartition, asked: u32, current: u32 },
    #[error(
        "another process has joined as instance '{instance_id}'; give each process an instance id of its own"
    )]
    FencedInstanceId { instance_id: String },
    #[error("'{asked}' is no assignor; choose range, roundrobin, sticky or cooperative-sticky")]
    UnsupportedAssignor { asked: String },
    #[error(
        "the members of the group use assignor '{current}', not '{asked}'; ask for the same or for none, \
         or stop all members to change it"
    )]
    InconsistentAssignor { asked: String, current: String },
    #[error(
        "the group has {limit} members, and no more are allowed (group.max.size); stop one first"
    )]
    GroupMaxSizeReached { limit: usize },
    #[error(
        "a session timeout of {asked} ms is outside of {min} to {max} ms; choose one inside, or 0"
    )]
    InvalidSessionTimeout { asked: u32, min: u32, max: u32 },
    #[error(
        "{actual} bytes of metadata are more than the limit of {limit} (offset.metadata.max.bytes)"
    )]
    OffsetMetadataTooLarge { actual: usize, limit: usize },
    #[error("member '{member_id}' does not hold {partition}; commit what it is assigned to only")]
    NotAssigned { member_id: String, partition: GroupPartition },
    #[error(
        "commit {asked} of its committer comes after {current}, which stands: nothing is to be done"
    )]
    CommitSuperseded { asked: u64, current: u64 },
    #[error(
        "another request about the same offsets may have been carried out after this one began; nothing was done; ask \
         what is committed before you decide what to do"
    )]
    Overtaken,
    #[error(
        "{asked} comes too late: that transaction has ended, the producer is in epoch {current}; nothing was committed"
    )]
    ProducerFenced { asked: Producer, current: ProducerEpoch },
    #[error(
        "the coordinator of the transactions of {producer} in epoch {asked} has been replaced by one in epoch {current}"
    )]
    CoordinatorFenced { producer: Producer, asked: LeaderEpoch, current: LeaderEpoch },
    #[error(
        "the offset of {partition} in group '{group}' is part of a transaction that is open; ask again soon"
    )]
    UnstableOffsetCommit { group: String, partition: GroupPartition },
    #[error(transparent)]
    InvalidTopic(#[from] ClusterError),
    #[error("there is no topic '{topic}' with this id; look the topic up again")]
    UnknownTopic { topic: String },
    #[error("topic '{topic}' has {partitions} partitions and no partition {partition}")]
    UnknownPartition { topic: String, partition: i32, partitions: u32 },
    #[error("{reason}")]
    InvalidRequest { reason: String },
    #[error("'{pattern}' is no regular expression in the syntax of RE2; correct it: {reason}")]
    InvalidRegularExpression { pattern: String, reason: String },
    #[error("members of group '{group}' subscribe to topic '{topic}'; stop them first")]
    GroupSubscribedToTopic { group: String, topic: String },
}

impl GroupError {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId { .. } => ErrorCode::InvalidGroupId,
            Self::GroupNotFound { .. } => ErrorCode::GroupNotFound,
            Self::GroupNotEmpty { .. } => ErrorCode::GroupNotEmpty,
            Self::UnknownMember { .. }
            | Self::NoSuchMember { .. }
            | Self::RebalanceTimedOut { .. } => ErrorCode::UnknownMember,
            Self::FencedMemberEpoch { .. } | Self::MemberElsewhere { .. } => {
                ErrorCode::FencedMemberEpoch
            }
            Self::StaleMemberEpoch { .. } | Self::GivenUp { .. } => ErrorCode::StaleMemberEpoch,
            Self::FencedInstanceId { .. } => ErrorCode::FencedInstanceId,
            Self::UnsupportedAssignor { .. } => ErrorCode::UnsupportedAssignor,
            Self::InconsistentAssignor { .. } => ErrorCode::InconsistentAssignor,
            Self::GroupMaxSizeReached { .. } => ErrorCode::GroupMaxSizeReached,
            Self::InvalidSessionTimeout { .. } => ErrorCode::InvalidSessionTimeout,
            Self::OffsetMetadataTooLarge { .. } => ErrorCode::OffsetMetadataTooLarge,
            Self::NotAssigned { .. } => ErrorCode::NotAssigned,
            Self::CommitSuperseded { .. } => ErrorCode::CommitSuperseded,
            Self::Overtaken => ErrorCode::Overtaken,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::CoordinatorFenced { .. } => ErrorCode::CoordinatorFenced,
            Self::UnstableOffsetCommit { .. } => ErrorCode::UnstableOffsetCommit,
            Self::InvalidTopic(_) => ErrorCode::InvalidTopic,
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopic,
            Self::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            Self::InvalidRequest { .. } => ErrorCode::InvalidRequest,
            Self::InvalidRegularExpression { .. } => ErrorCode::InvalidRegularExpression,
            Self::GroupSubscribedToTopic { .. } => ErrorCode::GroupSubscribedToTopic,
        }
    }
}

impl From<GroupError> for WireError {
    fn from(error: GroupError) -> Self {
        let wire = WireError::new(error.code(), error.to_string());
        match error {
            GroupError::InvalidTopic(error) => error.into(),
            GroupError::InvalidGroupId { group, .. } | GroupError::GroupNotFound { group } => {
                wire.with("group", group)
            }
            GroupError::GroupNotEmpty { group, members } => {
                wire.with("group", group).with("members", members)
            }
            GroupError::UnknownMember { group, member_id } => {
                wire.with("group", group).with("member_id", member_id)
            }
            GroupError::NoSuchMember { group, member } => {
                wire.with("group", group).with("member_id", member)
            }
            GroupError::RebalanceTimedOut { member_id, timeout_ms } => {
                wire.with("member_id", member_id).with("limit", timeout_ms)
            }
            GroupError::FencedMemberEpoch { member_id, asked, current }
            | GroupError::StaleMemberEpoch { member_id, asked, current } => wire
                .with("member_id", member_id)
                .with("actual_epoch", asked)
                .with("current_epoch", current),
            GroupError::GivenUp { member_id, partition, asked, current } => wire
                .with("member_id", member_id)
                .with("partition", partition)
                .with("actual_epoch", asked)
                .with("current_epoch", current),
            GroupError::MemberElsewhere { member_id } => wire.with("member_id", member_id),
            GroupError::FencedInstanceId { instance_id } => wire.with("instance_id", instance_id),
            GroupError::UnsupportedAssignor { asked } => wire.with("actual", asked),
            GroupError::InconsistentAssignor { asked, current } => {
                wire.with("actual", asked).with("current", current)
            }
            GroupError::GroupMaxSizeReached { limit } => wire.with("limit", limit),
            GroupError::InvalidSessionTimeout { asked, min, max } => {
                wire.with("actual", asked).with("min", min).with("max", max)
            }
            GroupError::OffsetMetadataTooLarge { actual, limit } => {
                wire.with("actual", actual).with("limit", limit)
            }
            GroupError::NotAssigned { member_id, partition } => {
                wire.with("member_id", member_id).with("partition", partition)
            }
            GroupError::CommitSuperseded { asked, current } => {
                wire.with("actual", asked).with("current", current)
            }
            GroupError::ProducerFenced { asked, current } => wire
                .with("producer_id", asked.id)
                .with("actual_epoch", asked.epoch)
                .with("current_epoch", current),
            GroupError::CoordinatorFenced { producer, asked, current } => wire
                .with("producer_id", producer.id)
                .with("actual_epoch", asked)
                .with("current_epoch", current),
            GroupError::UnstableOffsetCommit { group, partition } => {
                wire.with("group", group).with("partition", partition)
            }
            GroupError::UnknownTopic { topic } => wire.with("topic", topic),
            GroupError::UnknownPartition { topic, partition, partitions } => wire
                .with("topic", topic)
                .with("partition", partition)
                .with("partitions", partitions),
            GroupError::InvalidRegularExpression { pattern, .. } => wire.with("actual", pattern),
            GroupError::GroupSubscribedToTopic { group, topic } => {
                wire.with("group", group).with("topic", topic)
            }
            GroupError::InvalidRequest { .. } | GroupError::Overtaken => wire,
        }
    }
}

/// A record of `__consumer_offsets` that cannot be: the log is damaged, or newer software wrote it. Going on
/// would mean to forget something, so the coordinator stops instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    #[error("a record of a group of a kind that this version does not know")]
    UnknownKind,
    #[error("a malformed {0} in a record of a group")]
    Malformed(&'static str),
    /// I13: this would be data read twice. Never from a sound machine.
    #[error("{partition} would be held by member '{second}' while member '{first}' holds it")]
    HeldTwice { partition: GroupPartition, first: String, second: String },
    /// Nobody would ever miss that one. Never from a sound machine.
    #[error("'{0}' would be given partitions, and is no member")]
    NotAMember(String),
}
