//! What a call to the client can come to, and the two answers that every caller needs: may it be tried
//! again, and did it surely not happen.
//!
//! The broker's own refusals pass through unchanged as [`ClientError::Refused`]; the other variants are
//! the client's.

use crate::formats::RecordField;
use crate::topic_partition::TopicPartition;
use std::io;
use std::time::Duration;
use thiserror::Error;
use tonic::Status;
use troupe_proto::batch::BatchError;
use troupe_proto::error::{Error as Refusal, ErrorCode};
use troupe_proto::ids::{Offset, PartitionId};

/// Why something did not work. Cheap to clone: all records of a failed batch share one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection was made, so nothing was asked of anybody.
    #[error("cannot connect to {server}: {cause}{hint}")]
    CannotConnect { server: String, cause: String, hint: &'static str },
    /// The broker's answer, or what became of a call whose connection broke.
    #[error("{0}")]
    Refused(Refusal),
    /// Nothing is wrong with this record: its batch was refused for others, which have errors of their own. It can be
    /// sent again.
    #[error("not appended, as other records of its batch were refused: {0}")]
    RefusedWithBatch(Refusal),
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No node answered in time what there is to know about a topic (P2, T21).
    #[error("{topic} partition {partition} is not known after {} ms; the topic has {count}", waited.as_millis())]
    UnknownPartition { topic: String, partition: PartitionId, count: u32, waited: Duration },
    /// The partitioner's own words, or a partition that it chose and that does not exist (T22).
    #[error("the partitioner failed for topic {topic}: {what}")]
    Partitioner { topic: String, what: String },
    /// P3.
    #[error("a record of {actual} bytes is larger than {setting} = {limit}")]
    RecordTooLarge { actual: usize, limit: usize, setting: &'static str },
    /// P2. `buffer_memory` was full of records that the brokers had not answered for.
    #[error("no buffer space for {needed} bytes after {} ms: the brokers answer too slowly, or buffer_memory is too small", waited.as_millis())]
    BufferExhausted { needed: usize, waited: Duration },
    /// P18, P19. `sent`: it left this machine at least once and no answer said that it was refused.
    #[error("{topic} partition {partition}: not delivered within delivery_timeout = {} ms{}{}", after.as_millis(),
        if *sent { ", outcome unknown" } else { "" },
        match last { Some(error) => format!("; last: {error}"), None => String::new() })]
    DeliveryTimeout {
        topic: String,
        partition: PartitionId,
        after: Duration,
        sent: bool,
        last: Option<Box<ClientError>>,
    },
    /// P23. The producer was closed before the record was answered.
    #[error("the producer was closed{}", if *sent { " while the record was on its way, outcome unknown" } else { "" })]
    Closed { sent: bool },
    /// X20. Not sent, as something of its transaction has failed before: the transaction can only be aborted.
    #[error("the transaction has failed, abort it: {cause}")]
    TransactionFailed { cause: Box<ClientError> },
    /// The transaction was aborted before the record was answered: readers of committed records never see it.
    #[error("the transaction was aborted{}", if *sent { " while the record was on its way" } else { "" })]
    TransactionAborted { sent: bool },
    /// What was read is not what was written.
    #[error("{topic} partition {partition} at offset {offset}: {cause}")]
    Corrupt { topic: String, partition: PartitionId, offset: Offset, cause: BatchError },
    /// A batch could not be built.
    #[error("{0}")]
    Batch(BatchError),
    /// What was asked for does not go with what the consumer is doing (C2, C8), or has been.
    #[error("{what}")]
    IllegalState { what: String },
    /// C7. Nothing is committed for these, and `auto_offset_reset` is none: seek.
    #[error("no offset is committed for {}, and auto_offset_reset is none", names(partitions))]
    NoOffset { partitions: Vec<TopicPartition> },
    /// C19. The position stays at the record; seek past it to go on.
    #[error(
        "{topic} partition {partition} at offset {offset}: the {field} cannot be deserialised: {what}"
    )]
    Deserialization {
        topic: String,
        partition: PartitionId,
        offset: Offset,
        field: RecordField,
        what: String,
    },
    /// The application's value has no such form. Nothing was sent.
    #[error("the {field} of a record for topic {topic} cannot be serialised: {what}")]
    Serialization { topic: String, field: RecordField, what: String },
    /// C21. The call was interrupted from elsewhere.
    #[error("woken up")]
    Wakeup,
    /// An answer that no broker of this contract gives.
    #[error("{server} does not speak the protocol: {what}")]
    Protocol { server: String, what: String },
}

/// Settings that do not go together, or a value that means nothing (P19, P26).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    #[error("{setting} = {value}: {rule}")]
    Value { setting: &'static str, value: String, rule: &'static str },
    #[error("{first} = {first_value} does not go with {second} = {second_value}: {rule}")]
    Conflict {
        first: &'static str,
        first_value: String,
        second: &'static str,
        second_value: String,
        rule: &'static str,
    },
}

impl ClientError {
    /// The reason in the words of the wire.
    pub fn reason(&self) -> ErrorCode {
        match self {
            Self::CannotConnect { .. } => ErrorCode::LeaderNotAvailable,
            Self::Refused(refusal) | Self::RefusedWithBatch(refusal) => refusal.code,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::UnknownPartition { .. } => ErrorCode::UnknownPartition,
            Self::Partitioner { .. } => ErrorCode::InvalidRequest,
            Self::RecordTooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::BufferExhausted { .. } => ErrorCode::Throttled,
            Self::DeliveryTimeout { .. } => ErrorCode::RequestTimedOut,
            Self::Closed { sent: true } => ErrorCode::OutcomeUnknown,
            Self::Closed { sent: false } => ErrorCode::ShuttingDown,
            Self::TransactionFailed { cause } => cause.reason(),
            Self::TransactionAborted { .. } => ErrorCode::TransactionAbortable,
            Self::Corrupt { .. } => ErrorCode::CorruptLog,
            Self::Batch(cause) => cause.code(),
            Self::IllegalState { .. } => ErrorCode::InvalidRequest,
            Self::NoOffset { .. } => ErrorCode::NoCommittedOffset,
            Self::Deserialization { .. } | Self::Serialization { .. } => ErrorCode::InvalidRecord,
            Self::Wakeup => ErrorCode::Unspecified,
            Self::Protocol { .. } => ErrorCode::Internal,
        }
    }

    /// Whether trying the same again can succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.is_retriable(),
            Self::CannotConnect { .. }
            | Self::UnknownPartition { .. }
            | Self::BufferExhausted { .. }
            | Self::Wakeup
            | Self::RefusedWithBatch(_)
            | Self::DeliveryTimeout { .. } => true,
            Self::Config(_)
            | Self::Partitioner { .. }
            | Self::RecordTooLarge { .. }
            | Self::Closed { .. }
            | Self::TransactionFailed { .. }
            | Self::TransactionAborted { .. }
            | Self::Corrupt { .. }
            | Self::Batch(_)
            | Self::IllegalState { .. }
            | Self::NoOffset { .. }
            | Self::Deserialization { .. }
            | Self::Serialization { .. }
            | Self::Protocol { .. } => false,
        }
    }

    /// Whether what was asked for surely was not done. False: it may have been, now or later.
    pub fn surely_not_done(&self) -> bool {
        match self {
            Self::Refused(refusal) | Self::RefusedWithBatch(refusal) => refusal.surely_not_done(),
            Self::DeliveryTimeout { sent, .. }
            | Self::Closed { sent }
            | Self::TransactionAborted { sent } => !sent,
            Self::Protocol { .. } => false,
            Self::CannotConnect { .. }
            | Self::Config(_)
            | Self::UnknownPartition { .. }
            | Self::Partitioner { .. }
            | Self::RecordTooLarge { .. }
            | Self::BufferExhausted { .. }
            | Self::TransactionFailed { .. }
            | Self::Corrupt { .. }
            | Self::IllegalState { .. }
            | Self::NoOffset { .. }
            | Self::Deserialization { .. }
            | Self::Serialization { .. }
            | Self::Wakeup
            | Self::Batch(_) => true,
        }
    }

    /// Whether the metadata of the cluster that led here is old.
    pub(crate) fn refresh_metadata(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.code.refresh_metadata(),
            other => matches!(other, Self::CannotConnect { .. } | Self::UnknownPartition { .. }),
        }
    }

    /// Of a batch's error, what it says of the record at this place of it.
    pub(crate) fn of_record(self, index: u32) -> ClientError {
        let Self::Refused(refusal) = self else { return self };
        let named = refusal.records().iter().find(|record| record.index == index).cloned();
        // Of many records, the first are named: of those behind nothing is known.
        let last = refusal.records().last().map(|record| record.index);
        let is_known = refusal.names_all_records() || last.is_some_and(|last| index < last);
        match named {
            Some(record) => {
                let message = format!("record {index} of its batch: {}", record.message);
                let code = record.reason();
                let refusal = refusal.with_records(vec![record]);
                Self::Refused(Refusal { code, message, ..refusal })
            }
            None if is_known => Self::RefusedWithBatch(refusal),
            None => Self::Refused(refusal),
        }
    }

    pub(crate) fn unknown_topic(topic: &str) -> ClientError {
        Self::Refused(
            Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic {topic}"))
                .with("topic", topic),
        )
    }

    pub(crate) fn no_leader(topic: &str, partition: PartitionId) -> ClientError {
        Self::Refused(Refusal::new(
            ErrorCode::LeaderNotAvailable,
            format!("{topic} partition {partition} has no leader at the moment"),
        ))
    }

    pub(crate) fn outcome_unknown(what: impl Into<String>) -> ClientError {
        Self::Refused(Refusal::new(ErrorCode::OutcomeUnknown, what))
    }
}

impl From<Refusal> for ClientError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let cause = root_cause(&status);
        let mut refusal = Refusal::from(status);
        // tonic says only "transport error"; why is at the end of the chain.
        if let Some(cause) = cause
            && !refusal.message.contains(&cause)
        {
            refusal.message = format!("{}: {cause}", refusal.message);
        }
        Self::Refused(refusal)
    }
}

fn names(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The connection failed, as opposed to a server that answered with an error.
pub(crate) fn is_transport_failure(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// The connection could not be made, so the call surely reached nobody.
pub(crate) fn never_left(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // A connection that was made can break for any other reason.
            return io.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = error.source();
    }
    false
}

/// The last words of an error's chain of causes; of an I/O error its kind.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    loop {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind().to_string());
        }
        match cause.source() {
            Some(next) => cause = next,
            None => return Some(cause.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::error::RecordError;

    #[test]
    fn a_timeout_says_whether_the_record_may_have_arrived() {
        let error = |sent| ClientError::DeliveryTimeout {
            topic: "orders".into(),
            partition: PartitionId(3),
            after: Duration::from_secs(120),
            sent,
            last: None,
        };
        assert!(error(false).surely_not_done());
        assert!(!error(true).surely_not_done());
        assert!(error(true).to_string().contains("outcome unknown"));
    }

    /// T15.
    #[test]
    fn each_record_of_a_refused_batch_is_told_whether_it_is_at_fault() {
        let record = |index| RecordError {
            index,
            reason: ErrorCode::InvalidTimestamp.into(),
            message: "out of range".to_owned(),
        };
        let batch = Refusal::new(ErrorCode::InvalidTimestamp, "2 of 9");
        let batch = batch.of_records(vec![record(2), record(5)], 2);
        let of = |index| ClientError::from(batch.clone()).of_record(index);
        assert!(matches!(of(5), ClientError::Refused(own) if own.records()[0].index == 5));
        for innocent in [0, 3, 8] {
            assert!(matches!(of(innocent), ClientError::RefusedWithBatch(_)), "{innocent}");
            assert!(of(innocent).is_retriable() && of(innocent).surely_not_done());
        }
        let many = batch.clone().of_records(vec![record(2), record(5)], 100);
        let of = |index| ClientError::from(many.clone()).of_record(index);
        assert!(matches!(of(3), ClientError::RefusedWithBatch(_)));
        assert_eq!(of(6), ClientError::Refused(many.clone()), "nobody knows");
    }

    #[test]
    fn a_broker_s_answer_keeps_its_reason_through_a_status() {
        let refusal = Refusal::new(ErrorCode::NotLeader, "node 2 leads").with_leader(2, "n2:7070");
        let error = ClientError::from(Status::from(refusal.clone()));
        assert_eq!(error, ClientError::Refused(refusal));
        assert!(error.is_retriable() && error.surely_not_done() && error.refresh_metadata());
    }
}
