//! Why a transaction's coordinator refuses.

use super::partition::Producer;
use super::state::{Outcome, State};
use crate::group::GroupError;
use thiserror::Error;
use troupe_proto::error::{Error as WireError, ErrorCode};

/// A refusal by [`super::Transactions`]. Nothing was changed, unless it is said where the refusal comes from.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxnError {
    #[error(
        "'{id}' is no transactional id: {reason}; use 1 to 255 characters, none of them a control character"
    )]
    InvalidTransactionalId { id: String, reason: &'static str },
    #[error("nothing is known of the transactional id '{id}'; it may have expired")]
    TransactionalIdNotFound { id: String },
    #[error(
        "'{id}' does not belong to {asked}, or has expired; initialise transactions anew, and go on if no other \
         instance has come"
    )]
    InvalidProducerIdMapping { id: String, asked: Producer },
    #[error(
        "{asked} is fenced: another instance of '{id}' has come, or its transaction lasted longer than it may; close \
         this producer"
    )]
    ProducerFenced { id: String, asked: Producer },
    #[error("{asked} of a transaction that is {state}: {reason}")]
    InvalidTransactionState { asked: &'static str, state: State, reason: &'static str },
    #[error(
        "a transaction that may last {asked} ms is outside of 1 to {max} ms (transaction.max.timeout.ms); choose a \
         time inside"
    )]
    InvalidTransactionTimeout { asked: u32, max: u32 },
    #[error("the transaction of '{id}' before is being completed; try again in a moment")]
    ConcurrentTransactions { id: String },
    #[error(
        "{topic}-{partition} is not part of the transaction; abort it, and go on with the next one"
    )]
    TransactionAbortable { topic: String, partition: i32 },
    #[error(
        "the transaction's partitions take {actual} bytes to remember, {limit} are allowed; end it, and write to \
         fewer partitions in each"
    )]
    TooManyPartitions { actual: usize, limit: usize },
    #[error(
        "the transaction was changed after this request began, which may be of the past; nothing was done"
    )]
    Overtaken,
    #[error("no producer id is at hand for the moment; try again")]
    NoProducerId,
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("there is no topic '{topic}' with this id; look the topic up again")]
    UnknownTopic { topic: String },
    #[error("topic '{topic}' has {partitions} partitions and no partition {partition}")]
    UnknownPartition { topic: String, partition: i32, partitions: u32 },
    #[error("name a partition, or a group")]
    NothingNamed,
}

impl TxnError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidTransactionalId { .. } => ErrorCode::InvalidTransactionalId,
            Self::TransactionalIdNotFound { .. } => ErrorCode::TransactionalIdNotFound,
            Self::InvalidProducerIdMapping { .. } => ErrorCode::InvalidProducerIdMapping,
            Self::ProducerFenced { .. } => ErrorCode::ProducerFenced,
            Self::InvalidTransactionState { .. } => ErrorCode::InvalidTransactionState,
            Self::InvalidTransactionTimeout { .. } => ErrorCode::InvalidTransactionTimeout,
            Self::ConcurrentTransactions { .. } => ErrorCode::ConcurrentTransactions,
            Self::TransactionAbortable { .. } => ErrorCode::TransactionAbortable,
            Self::TooManyPartitions { .. } => ErrorCode::PartitionLimitReached,
            Self::Overtaken => ErrorCode::Overtaken,
            Self::NoProducerId => ErrorCode::CoordinatorNotAvailable,
            Self::Group(error) => error.code(),
            Self::UnknownTopic { .. } => ErrorCode::UnknownTopic,
            Self::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            Self::NothingNamed => ErrorCode::InvalidRequest,
        }
    }

    pub(super) fn fenced(id: &str, asked: Producer) -> TxnError {
        TxnError::ProducerFenced { id: id.to_owned(), asked }
    }

    pub(super) fn mapping(id: &str, asked: Producer) -> TxnError {
        TxnError::InvalidProducerIdMapping { id: id.to_owned(), asked }
    }

    pub(super) fn concurrent(id: &str) -> TxnError {
        TxnError::ConcurrentTransactions { id: id.to_owned() }
    }

    pub(super) fn cannot_end(outcome: Outcome, state: State, reason: &'static str) -> TxnError {
        let asked = match outcome {
            Outcome::Commit => "a commit",
            Outcome::Abort => "an abort",
        };
        TxnError::InvalidTransactionState { asked, state, reason }
    }
}

impl From<TxnError> for WireError {
    fn from(error: TxnError) -> Self {
        let wire = WireError::new(error.code(), error.to_string());
        match error {
            TxnError::Group(error) => error.into(),
            TxnError::InvalidTransactionalId { id, .. }
            | TxnError::TransactionalIdNotFound { id }
            | TxnError::ConcurrentTransactions { id } => wire.with("transactional_id", id),
            TxnError::InvalidProducerIdMapping { id, asked }
            | TxnError::ProducerFenced { id, asked } => wire
                .with("transactional_id", id)
                .with("producer_id", asked.id)
                .with("actual_epoch", asked.epoch),
            TxnError::InvalidTransactionState { state, .. } => wire.with("state", state),
            TxnError::InvalidTransactionTimeout { asked, max } => {
                wire.with("actual", asked).with("max", max)
            }
            TxnError::TransactionAbortable { topic, partition } => {
                wire.with("topic", topic).with("partition", partition)
            }
            TxnError::TooManyPartitions { actual, limit } => {
                wire.with("actual", actual).with("limit", limit)
            }
            TxnError::UnknownTopic { topic } => wire.with("topic", topic),
            TxnError::UnknownPartition { topic, partition, partitions } => wire
                .with("topic", topic)
                .with("partition", partition)
                .with("partitions", partitions),
            TxnError::Overtaken | TxnError::NoProducerId | TxnError::NothingNamed => wire,
        }
    }
}

/// A record of `__transaction_state` that cannot be: the log is damaged, or newer software wrote it. Going on would
/// mean to forget a decision, so the coordinator stops instead.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    #[error("a record of a transactional id of a kind that this version does not know")]
    UnknownKind,
    #[error("a record of a transactional id in format {0}, which this version does not know")]
    UnknownVersion(u32),
    #[error("a malformed {0} in a record of a transactional id")]
    Malformed(&'static str),
    /// X3: what was decided would be forgotten. Never from a sound machine.
    #[error("'{id}' would go from {from:?} to {to}")]
    Impossible { id: String, from: Option<State>, to: State },
}
