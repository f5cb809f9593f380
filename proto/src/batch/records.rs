//! Reads the records of a stored batch: borrowed, or owned without copying keys and values.
//!
//! Promise: a walk that ends without an error has seen exactly the records that the header declares, in
//! the order of their offsets, all within the batch's range.

use super::checksum::crc32c;
use super::record::{RawRecord, RecordRef, Split, bad_record, split_field};
use super::wire::Fault;
use super::{BatchError, BatchHeader, Compression, Limits};
use crate::ids::Offset;
use bytes::Bytes;

/// A batch's unpacked payload with its header.
#[derive(Clone, Debug)]
pub struct RecordSet {
    header: BatchHeader,
    payload: Bytes,
}

/// A record on its own; key and value are slices of the payload, which they keep alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// None is no key; empty is an empty key (T10).
    pub key: Option<Bytes>,
    /// None is a tombstone; empty is an empty value (T10).
    pub value: Option<Bytes>,
    /// In order, duplicates included.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl RecordSet {
    /// Checks the payload's checksum and unpacks it. `payload` is what [`super::Batches`] yields.
    ///
    /// # Errors
    /// [`BatchError::PayloadChecksum`], or what [`Compression::decompress`] says. Records are checked as
    /// they are walked.
    pub fn decode(
        header: &BatchHeader,
        payload: Bytes,
        limits: Limits,
    ) -> Result<RecordSet, BatchError> {
        let computed = crc32c(&payload);
        if computed != header.payload_crc {
            return Err(BatchError::PayloadChecksum { stored: header.payload_crc, computed });
        }
        let payload = match header.attributes.compression() {
            // Its size is no surprise to the one who holds it.
            Compression::None => payload,
            compression => compression.decompress(&payload, limits)?,
        };
        Ok(RecordSet { header: *header, payload })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The unpacked record set: a serialised [`crate::log::v1::RecordSet`].
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Walks the records without copying or allocating. Ends after the first error.
    pub fn iter(&self) -> RecordRefs<'_> {
        RecordRefs { payload: &self.payload, walk: RecordWalk::new(&self.header) }
    }

    /// Walks the records as values of their own. Ends after the first error.
    pub fn records(&self) -> Records {
        Records { payload: self.payload.clone(), walk: RecordWalk::new(&self.header) }
    }
}

impl<'a> IntoIterator for &'a RecordSet {
    type Item = Result<RecordRef<'a>, BatchError>;
    type IntoIter = RecordRefs<'a>;

    fn into_iter(self) -> RecordRefs<'a> {
        self.iter()
    }
}

/// See [`RecordSet::iter`].
#[derive(Clone, Debug)]
pub struct RecordRefs<'a> {
    payload: &'a [u8],
    walk: RecordWalk,
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.walk.next(self.payload)
    }
}

/// See [`RecordSet::records`].
#[derive(Clone, Debug)]
pub struct Records {
    payload: Bytes,
    walk: RecordWalk,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.walk.next(&self.payload)? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let own = |slice: &[u8]| self.payload.slice_ref(slice);
        Some(Ok(Record {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(own),
            value: record.value.map(own),
            headers: record
                .headers()
                .map(|(key, value)| (key.to_owned(), value.map(own)))
                .collect(),
        }))
    }
}

/// Where a walk through the records of one batch stands. It holds no bytes: it goes on whenever the unpacked record set
/// is at hand.
#[derive(Clone, Debug)]
pub struct RecordWalk {
    position: usize,
    found: u32,
    declared: u32,
    /// Smallest delta that the next record may have.
    next_delta: u64,
    last_delta: u64,
    base_offset: Offset,
    base_timestamp: i64,
    /// The timestamp of every record, if it is the leader's (T13).
    append_time: Option<i64>,
    done: bool,
}

impl RecordWalk {
    /// Before the first record of the batch.
    pub fn new(header: &BatchHeader) -> RecordWalk {
        RecordWalk {
            position: 0,
            found: 0,
            declared: header.record_count,
            next_delta: 0,
            last_delta: u64::from(header.last_offset_delta),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: header.attributes.is_log_append_time().then_some(header.max_timestamp),
            done: false,
        }
    }

    /// Where in the unpacked payload the next record is looked for: behind the last one.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    /// The next record of the batch's unpacked payload, which is the same every time. Ends after the first error.
    #[inline]
    pub fn next<'a>(&mut self, payload: &'a [u8]) -> Option<Result<RecordRef<'a>, BatchError>> {
        while self.position < payload.len() {
            match split_field(&payload[self.position..]) {
                Ok(Split::Record(body, rest)) => {
                    self.position = payload.len() - rest.len();
                    return Some(self.record(body).inspect_err(|_| self.position = usize::MAX));
                }
                Ok(Split::Unknown(rest)) => self.position = payload.len() - rest.len(),
                Ok(Split::Cut(_)) => return Some(Err(self.fail(Fault::Cut))),
                Err(fault) => return Some(Err(self.fail(fault))),
            }
        }
        self.end()
    }

    #[inline(always)]
    fn record<'a>(&mut self, body: &'a [u8]) -> Result<RecordRef<'a>, BatchError> {
        let raw = match RawRecord::parse(body) {
            Ok(raw) => raw,
            Err(fault) => return Err(self.fail(fault)),
        };
        let delta = u64::from(raw.offset_delta);
        if delta < self.next_delta || delta > self.last_delta {
            self.done = true;
            let what = "its offset is out of order or outside the batch";
            return Err(BatchError::BadRecord { index: self.found, what });
        }
        self.next_delta = delta + 1;
        self.found += 1;
        Ok(RecordRef {
            offset: self.base_offset.plus(delta),
            timestamp_ms: match self.append_time {
                Some(timestamp) => timestamp,
                None => self.base_timestamp.wrapping_add(raw.timestamp_delta),
            },
            key: raw.key,
            value: raw.value,
            header_fields: raw.header_fields,
        })
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> BatchError {
        self.done = true;
        self.position = usize::MAX;
        bad_record(self.found, fault)
    }

    #[cold]
    fn end<'a>(&mut self) -> Option<Result<RecordRef<'a>, BatchError>> {
        if self.done || self.found == self.declared {
            return None;
        }
        self.done = true;
        Some(Err(BatchError::CountMismatch { declared: self.declared, found: self.found }))
    }
}
