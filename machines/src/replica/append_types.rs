//! The types of an append: what is asked, what is decided, what is answered, why it is refused.

use super::verifying::Verification;
use crate::config::{FlushPolicy, TimestampType, TopicConfig};
use crate::txn::{ClientVersion, Producer};
use thiserror::Error;
use troupe_proto::batch::{Attributes, BatchHeader, OVERHEAD, ProducerStamp};
use troupe_proto::error::{Error as WireError, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

/// Names one parked answer. The actor chooses it and gets it back with [`super::Effect::Answer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// When an append is answered (P12–P14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Before it is tried.
    None,
    /// Once it is in the leader's log.
    Leader,
    /// Once it is committed: on every in-sync replica, as the flush policy counts.
    All,
}

impl From<troupe_proto::v1::Acks> for Acks {
    fn from(acks: troupe_proto::v1::Acks) -> Self {
        match acks {
            troupe_proto::v1::Acks::Unspecified | troupe_proto::v1::Acks::All => Acks::All,
            troupe_proto::v1::Acks::Leader => Acks::Leader,
            troupe_proto::v1::Acks::None => Acks::None,
        }
    }
}

impl From<Acks> for troupe_proto::v1::Acks {
    fn from(acks: Acks) -> Self {
        match acks {
            Acks::None => troupe_proto::v1::Acks::None,
            Acks::Leader => troupe_proto::v1::Acks::Leader,
            Acks::All => troupe_proto::v1::Acks::All,
        }
    }
}

/// Who appends: only Troupe itself may write markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    Internal,
}

/// What of the topic's configuration a replica goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaConfig {
    pub flush_policy: FlushPolicy,
    pub min_insync_replicas: u32,
    /// Of a whole batch: payload and [`OVERHEAD`].
    pub max_message_bytes: u64,
    pub segment_bytes: u64,
    /// Records without a key are refused (T15).
    pub compacted: bool,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: u64,
    pub timestamp_after_max_ms: u64,
    pub producer_id_expiration_ms: u64,
    /// A follower that has not had the leader's end for so long is out of sync (R6).
    pub replica_lag_time_max_ms: u64,
}

impl ReplicaConfig {
    /// Kafka's `producer.id.expiration.ms`: a day (I9).
    pub const PRODUCER_ID_EXPIRATION_MS: u64 = 86_400_000;
    /// Kafka's `replica.lag.time.max.ms`.
    pub const REPLICA_LAG_TIME_MAX_MS: u64 = 30_000;

    pub fn from_topic(topic: &TopicConfig, producer_id_expiration_ms: u64) -> ReplicaConfig {
        ReplicaConfig {
            flush_policy: topic.flush_policy,
            min_insync_replicas: topic.min_insync_replicas,
            max_message_bytes: topic.max_message_bytes,
            segment_bytes: topic.segment_bytes,
            compacted: topic.cleanup.compact,
            timestamp_type: topic.timestamp_type,
            timestamp_before_max_ms: topic.timestamp_before_max_ms,
            timestamp_after_max_ms: topic.timestamp_after_max_ms,
            producer_id_expiration_ms,
            replica_lag_time_max_ms: ReplicaConfig::REPLICA_LAG_TIME_MAX_MS,
        }
    }
}

/// A batch that asks to be appended: what the codec found in it, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendFacts {
    pub producer: Option<ProducerStamp>,
    pub record_count: u32,
    pub base_timestamp: i64,
    /// Of the records, each for itself.
    pub min_timestamp: i64,
    pub max_timestamp: i64,
    pub attributes: Attributes,
    pub payload_crc: u32,
    pub payload_len: u32,
    /// Some record has no key.
    pub keyless: bool,
    pub acks: Acks,
    /// The leader epoch that the caller believes in, if it said so (R1).
    pub expected_leader_epoch: Option<LeaderEpoch>,
    pub origin: Origin,
    /// How its client speaks of transactions, if it came with a transactional id.
    pub transaction: Option<ClientVersion>,
    /// The coordinator has let its transaction open here.
    pub verified: Option<Verification>,
}

impl AppendFacts {
    /// Bytes of the whole batch in the log.
    pub fn encoded_len(&self) -> u64 {
        OVERHEAD as u64 + u64::from(self.payload_len)
    }
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendDecision {
    /// Append it with this header, then tell [`super::Replica::on_appended`].
    Append(BatchHeader),
    /// It is in the log already (I4): tell [`super::Replica::on_duplicate`].
    Duplicate(Duplicate),
    /// It opens a transaction here (X19): have the coordinator add the partition, and come again with a ticket of
    /// [`super::Replica::begin_verifying`].
    Verify(Producer),
}

/// Where a batch stands that was sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    pub base_offset: Offset,
    pub end_offset: Offset,
    /// The batch's largest timestamp; with log append time, the leader's clock back then.
    pub timestamp: i64,
}

/// A successful append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: Offset,
    pub end_offset: Offset,
    /// The leader's clock, if the topic uses log append time.
    pub log_append_time: Option<i64>,
    pub log_start: Offset,
    /// It had been appended before.
    pub duplicate: bool,
}

/// Why a batch was not appended, or what is not known about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("leader epoch {expected} is over; the partition is at {current}")]
    FencedLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    #[error("leader epoch {expected} is not known here yet; this node is at {current}")]
    UnknownLeaderEpoch { expected: LeaderEpoch, current: LeaderEpoch },
    #[error("the replica is offline after a disk failure")]
    Offline,
    #[error("{in_sync} replicas are in sync, {required} are required")]
    NotEnoughReplicas { in_sync: u32, required: u32 },
    #[error(
        "appended, but replicas fell out of sync before it was committed: {in_sync} of {required}"
    )]
    NotEnoughReplicasAfterAppend { in_sync: u32, required: u32 },
    #[error("a batch of {actual} bytes is larger than the limit of {limit}")]
    RecordTooLarge { limit: u64, actual: u64 },
    #[error("a batch without records")]
    NoRecords,
    #[error("a record without a key in a compacted topic")]
    MissingKey,
    #[error("{what}")]
    NotAllowed { what: &'static str },
    #[error("timestamp {timestamp} is outside of {earliest} to {latest}")]
    TimestampOutOfRange { timestamp: i64, earliest: i64, latest: i64 },
    #[error("log append time is the leader's to set")]
    SentAsLogAppendTime,
    #[error("sequence {actual} of producer {producer} where {expected} was expected")]
    OutOfOrderSequence { producer: ProducerId, expected: Sequence, actual: Sequence },
    #[error("epoch {actual} of producer {producer} is over; it is at {current}")]
    ProducerFenced { producer: ProducerId, current: ProducerEpoch, actual: ProducerEpoch },
    #[error("producer {producer} has an open transaction here, and this batch is of none")]
    InOpenTransaction { producer: ProducerId },
    #[error("the transaction of producer {producer} in epoch {open} has not ended here yet")]
    EarlierTransactionOpen { producer: ProducerId, open: ProducerEpoch },
    #[error(
        "the transaction of producer {producer} has ended meanwhile: abort it, and go on with the next"
    )]
    TransactionEnded { producer: ProducerId },
    #[error("coordinator epoch {actual} is over; a marker was written in {current}")]
    CoordinatorFenced { current: LeaderEpoch, actual: LeaderEpoch },
    #[error("appended at offset {base_offset}, but not committed in time; it may still be")]
    TimedOut { base_offset: Offset },
    #[error("the replica stopped leading before the append was committed; it may still be")]
    OutcomeUnknown,
    #[error("the disk failed before the append was committed")]
    StorageFailure,
}

impl AppendError {
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::NotLeader => ErrorCode::NotLeader,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::Offline => ErrorCode::LeaderNotAvailable,
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            Self::NotEnoughReplicasAfterAppend { .. } => ErrorCode::NotEnoughReplicasAfterAppend,
            Self::RecordTooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::NoRecords | Self::MissingKey | Self::NotAllowed { .. } => {
                ErrorCode::InvalidRecord
            }
            Self::TimestampOutOfRange { .. } | Self::SentAsLogAppendTime => {
                ErrorCode::InvalidTimestamp
            }
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequence,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::InOpenTransaction { .. } => ErrorCode::InvalidTransactionState,
            Self::EarlierTransactionOpen { .. } => ErrorCode::ConcurrentTransactions,
            Self::TransactionEnded { .. } => ErrorCode::TransactionAbortable,
            Self::CoordinatorFenced { .. } => ErrorCode::CoordinatorFenced,
            Self::TimedOut { .. } => ErrorCode::RequestTimedOut,
            Self::OutcomeUnknown => ErrorCode::OutcomeUnknown,
            Self::StorageFailure => ErrorCode::StorageFailure,
        }
    }
}

impl AppendError {
    /// Why a batch was refused for a record of this timestamp, with or without a key; `None` if it was not for this one.
    pub fn of_record(&self, timestamp: i64, has_key: bool) -> Option<String> {
        match self {
            Self::MissingKey if !has_key => Some("no key in a compacted topic".to_owned()),
            Self::TimestampOutOfRange { earliest, latest, .. }
                if timestamp < *earliest || timestamp > *latest =>
            {
                Some(format!("timestamp {timestamp} is out of range"))
            }
            _ => None,
        }
    }

    /// It is for some of the batch's records, and not for the batch.
    pub const fn is_of_records(&self) -> bool {
        matches!(self, Self::MissingKey | Self::TimestampOutOfRange { .. })
    }
}

impl From<AppendError> for WireError {
    fn from(error: AppendError) -> Self {
        let wire = WireError::new(error.code(), error.to_string());
        match error {
            AppendError::FencedLeaderEpoch { expected, current }
            | AppendError::UnknownLeaderEpoch { expected, current } => {
                wire.with("leader_epoch", current).with("expected_leader_epoch", expected)
            }
            AppendError::NotEnoughReplicas { in_sync, required }
            | AppendError::NotEnoughReplicasAfterAppend { in_sync, required } => {
                wire.with("in_sync", in_sync).with("required", required)
            }
            AppendError::RecordTooLarge { limit, actual } => {
                wire.with("limit", limit).with("actual", actual)
            }
            AppendError::TimestampOutOfRange { timestamp, earliest, latest } => {
                wire.with("actual", timestamp).with("earliest", earliest).with("latest", latest)
            }
            AppendError::OutOfOrderSequence { producer, expected, actual } => wire
                .with("producer_id", producer)
                .with("expected_sequence", expected)
                .with("actual_sequence", actual),
            AppendError::ProducerFenced { producer, current, actual } => wire
                .with("producer_id", producer)
                .with("current_epoch", current)
                .with("actual_epoch", actual),
            AppendError::InOpenTransaction { producer }
            | AppendError::TransactionEnded { producer } => wire.with("producer_id", producer),
            AppendError::EarlierTransactionOpen { producer, open } => {
                wire.with("producer_id", producer).with("open_epoch", open)
            }
            AppendError::CoordinatorFenced { current, actual } => {
                wire.with("current_epoch", current).with("actual_epoch", actual)
            }
            AppendError::TimedOut { base_offset } => wire.with("base_offset", base_offset),
            AppendError::NotLeader
            | AppendError::Offline
            | AppendError::NoRecords
            | AppendError::MissingKey
            | AppendError::NotAllowed { .. }
            | AppendError::SentAsLogAppendTime
            | AppendError::OutcomeUnknown
            | AppendError::StorageFailure => wire,
        }
    }
}
