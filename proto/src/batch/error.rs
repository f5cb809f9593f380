//! Why bytes are no batch, or no batch that Troupe accepts.

use super::Compression;
use crate::error::{Error, ErrorCode, RecordError};

/// What is wrong with a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch ends too early")]
    Truncated,
    #[error("not a protobuf message: {what}")]
    BadFrame { what: &'static str },
    #[error("the batch is not in the form that a leader writes: {what}")]
    NotCanonical { what: &'static str },
    #[error("the header contradicts itself: {what}")]
    BadHeader { what: &'static str },
    #[error("header checksum {computed:#010x} does not match the stored {stored:#010x}")]
    HeaderChecksum { stored: u32, computed: u32 },
    #[error("payload checksum {computed:#010x} does not match the stored {stored:#010x}")]
    PayloadChecksum { stored: u32, computed: u32 },
    #[error("a payload of {bytes} bytes exceeds the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("compression {id} is not supported; use none, gzip, snappy, lz4 or zstd")]
    UnsupportedCompression { id: u32 },
    #[error("the payload is not valid {compression}: {reason}")]
    BadCompression { compression: Compression, reason: String },
    #[error("the payload unpacks to more than {limit} bytes; send it in smaller batches")]
    Bomb { limit: usize },
    #[error("record {index}: {what}")]
    BadRecord { index: u32, what: &'static str },
    #[error("the header declares {declared} records, the payload holds {found}")]
    CountMismatch { declared: u32, found: u32 },
    #[error("the header declares the largest timestamp as {declared}, it is {found}")]
    MaxTimestamp { declared: i64, found: i64 },
    #[error("a batch holds at least one record")]
    Empty,
}

impl BatchError {
    /// The reason that a producer is told. A log that finds the same in its own files calls it
    /// [`ErrorCode::CorruptLog`].
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Truncated
            | Self::BadFrame { .. }
            | Self::NotCanonical { .. }
            | Self::HeaderChecksum { .. }
            | Self::PayloadChecksum { .. }
            | Self::BadCompression { .. } => ErrorCode::CorruptBatch,
            Self::BadHeader { .. }
            | Self::BadRecord { .. }
            | Self::CountMismatch { .. }
            | Self::MaxTimestamp { .. }
            | Self::Empty => ErrorCode::InvalidRecord,
            Self::TooLarge { .. } | Self::Bomb { .. } => ErrorCode::RecordTooLarge,
            Self::UnsupportedCompression { .. } => ErrorCode::UnsupportedCompression,
        }
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        let wire = Error::new(error.code(), error.to_string());
        match error {
            BatchError::TooLarge { bytes, limit } => {
                wire.with("actual", bytes).with("limit", limit)
            }
            BatchError::Bomb { limit } => wire.with("limit", limit),
            BatchError::BadRecord { index, what } => {
                let (reason, message) = (wire.code.into(), what.to_owned());
                let record = RecordError { index, reason, message };
                // What comes behind it was not looked at.
                wire.with("record_index", index).with_records(vec![record])
            }
            BatchError::Truncated
            | BatchError::BadFrame { .. }
            | BatchError::NotCanonical { .. }
            | BatchError::BadHeader { .. }
            | BatchError::HeaderChecksum { .. }
            | BatchError::PayloadChecksum { .. }
            | BatchError::UnsupportedCompression { .. }
            | BatchError::BadCompression { .. }
            | BatchError::CountMismatch { .. }
            | BatchError::MaxTimestamp { .. }
            | BatchError::Empty => wire,
        }
    }
}
