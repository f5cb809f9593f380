//! Walks a slice of whole batches: of a segment file, of a fetch.

use super::{BatchError, BatchHeader, OVERHEAD};
use crate::ids::PartitionKey;
use bytes::Bytes;

/// Yields each batch's header and payload; ends after the first error. Copies nothing.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    position: usize,
    key: Option<PartitionKey>,
}

impl Batches {
    /// Checks the form of headers but no checksum; [`super::RecordSet::decode`] checks the payload's.
    pub fn new(bytes: Bytes) -> Batches {
        Batches { rest: bytes, position: 0, key: None }
    }

    /// Also checks that each header is intact and belongs to this partition.
    pub fn verified(bytes: Bytes, key: PartitionKey) -> Batches {
        Batches { rest: bytes, position: 0, key: Some(key) }
    }

    /// Bytes before the next batch. After an error: where the bad batch starts.
    pub fn position(&self) -> usize {
        self.position
    }

    fn take(&mut self) -> Result<(BatchHeader, Bytes), BatchError> {
        let header = match &self.key {
            Some(key) => BatchHeader::decode_verified(&self.rest, key)?,
            None => BatchHeader::decode(&self.rest)?.0,
        };
        let len = header.encoded_len();
        if len > self.rest.len() {
            return Err(BatchError::Truncated);
        }
        let payload = self.rest.split_to(len).slice(OVERHEAD..);
        self.position += len;
        Ok((header, payload))
    }
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest = Bytes::new();
        }
        Some(taken)
    }
}
