//! Makes batches. Records are encoded as they come into one growing buffer, behind room for the header.
//!
//! Promise: an uncompressed batch goes out in the buffer it was built in; a payload is never copied.

use super::checksum::crc32c;
use super::header::{FIELDS_LEN, PAYLOAD_FRAME_LEN};
use super::record::{
    HEADER_KEY_TAG, HEADER_TAG, HEADER_VALUE_TAG, KEY_TAG, OFFSET_DELTA_TAG, RECORD_TAG,
    TIMESTAMP_DELTA_TAG, VALUE_TAG,
};
use super::wire::{Scratch, to_zigzag, varint_len};
use super::{
    Attributes, BatchError, BatchHeader, Compression, MAX_PAYLOAD, Packing, ProducerStamp,
};
use crate::ids::{LeaderEpoch, Offset};
use bytes::{Bytes, BytesMut};

/// `payload_crc_present = true`.
const CRC_PRESENT: [u8; 2] = [0x68, 0x01];
/// What stands before the payload on the wire.
const FRONT: usize = FIELDS_LEN + CRC_PRESENT.len() + PAYLOAD_FRAME_LEN;

/// Collects the records of one batch.
#[derive(Clone, Debug, Default)]
pub struct RecordSetBuilder {
    /// Empty, or room for the header and then the records.
    buffer: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    min_timestamp: i64,
    max_timestamp: i64,
}

/// A batch that is ready to be sent or appended. Offset and leader epoch are zero.
#[derive(Clone, Debug)]
pub struct BuiltBatch {
    /// May be changed before the batch goes out: a producer stamp set late, more attributes.
    pub header: BatchHeader,
    pub payload: Bytes,
    /// Of the records, each for itself.
    pub min_timestamp: i64,
    /// Room for the header, then the payload.
    buffer: Bytes,
}

impl RecordSetBuilder {
    /// Allocates nothing until the first record.
    pub const fn new() -> RecordSetBuilder {
        RecordSetBuilder {
            buffer: Vec::new(),
            count: 0,
            base_timestamp: 0,
            min_timestamp: 0,
            max_timestamp: 0,
        }
    }

    /// With room for `payload_len` bytes.
    pub fn with_capacity(payload_len: usize) -> RecordSetBuilder {
        RecordSetBuilder { buffer: Vec::with_capacity(FRONT + payload_len), ..Self::new() }
    }

    /// Bytes of the payload so far, uncompressed.
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_sub(FRONT)
    }

    /// Records so far.
    pub const fn count(&self) -> u32 {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The largest timestamp so far, if there is a record.
    pub fn max_timestamp(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max_timestamp)
    }

    /// Adds a record. The first one's timestamp becomes the batch's base.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        self.push_with(timestamp_ms, key, value, headers.iter().copied());
    }

    /// As [`RecordSetBuilder::push`], with headers that do not lie in a slice of pairs.
    pub fn push_with<'h>(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)> + Clone,
    ) {
        let (offset_delta, timestamp_delta) = self.next_deltas(timestamp_ms);
        let body_len = body_len(offset_delta, timestamp_delta, key, value, headers.clone());
        if self.buffer.is_empty() {
            self.buffer.resize(FRONT, 0);
        }
        // Also for the scratch space, which is copied whole.
        self.buffer.reserve(body_len + 64);
        let mut head = Scratch::<48>::new();
        head.put_u8(RECORD_TAG);
        head.put_varint(body_len as u64);
        if offset_delta != 0 {
            head.put_u8(OFFSET_DELTA_TAG);
            head.put_varint(u64::from(offset_delta));
        }
        if timestamp_delta != 0 {
            head.put_u8(TIMESTAMP_DELTA_TAG);
            head.put_varint(timestamp_delta);
        }
        if let Some(key) = key {
            head.put_u8(KEY_TAG);
            head.put_varint(key.len() as u64);
            head.append_to(&mut self.buffer);
            self.buffer.extend_from_slice(key);
            head = Scratch::new();
        }
        if let Some(value) = value {
            head.put_u8(VALUE_TAG);
            head.put_varint(value.len() as u64);
            head.append_to(&mut self.buffer);
            self.buffer.extend_from_slice(value);
        } else {
            head.append_to(&mut self.buffer);
        }
        for (name, value) in headers {
            self.put_header(name, value);
        }
        self.base_timestamp = if self.count == 0 { timestamp_ms } else { self.base_timestamp };
        self.min_timestamp =
            if self.count == 0 { timestamp_ms } else { self.min_timestamp.min(timestamp_ms) };
        self.max_timestamp =
            if self.count == 0 { timestamp_ms } else { self.max_timestamp.max(timestamp_ms) };
        self.count += 1;
    }

    /// Bytes by which such a record would make the payload longer: exact.
    pub fn encoded_len_of(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> usize {
        self.encoded_len_with(timestamp_ms, key, value, headers.iter().copied())
    }

    /// As [`RecordSetBuilder::encoded_len_of`], with headers that do not lie in a slice of pairs.
    pub fn encoded_len_with<'h>(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> usize {
        let (offset_delta, timestamp_delta) = self.next_deltas(timestamp_ms);
        let body = body_len(offset_delta, timestamp_delta, key, value, headers);
        1 + varint_len(body as u64) + body
    }

    /// The batch of all records so far.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without a record; [`BatchError::TooLarge`] beyond [`MAX_PAYLOAD`].
    pub fn finish(
        self,
        packing: impl Into<Packing>,
        producer: Option<ProducerStamp>,
    ) -> Result<BuiltBatch, BatchError> {
        let packing = packing.into();
        let compression = packing.compression();
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        let buffer = match compression {
            Compression::None => self.buffer,
            _ => {
                let mut packed = vec![0; FRONT];
                compression.compress_onto(packing.level(), &self.buffer[FRONT..], &mut packed)?;
                packed
            }
        };
        let buffer = Bytes::from(buffer);
        let payload = buffer.slice(FRONT..);
        if payload.len() > MAX_PAYLOAD {
            return Err(BatchError::TooLarge { bytes: payload.len(), limit: MAX_PAYLOAD });
        }
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch(0),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer,
            record_count: self.count,
            attributes: Attributes::default().with_compression(compression),
            payload_crc: crc32c(&payload),
            payload_len: payload.len() as u32,
        };
        Ok(BuiltBatch { header, payload, min_timestamp: self.min_timestamp, buffer })
    }

    /// Offset delta, and zigzag-coded timestamp delta, of the next record. Timestamps so far apart that
    /// their difference overflows wrap here and back in the reader.
    fn next_deltas(&self, timestamp_ms: i64) -> (u32, u64) {
        let base = if self.count == 0 { timestamp_ms } else { self.base_timestamp };
        (self.count, to_zigzag(timestamp_ms.wrapping_sub(base)))
    }

    fn put_header(&mut self, name: &str, value: Option<&[u8]>) {
        let mut head = Scratch::<24>::new();
        head.put_u8(HEADER_TAG);
        head.put_varint(header_len(name, value) as u64);
        if !name.is_empty() {
            head.put_u8(HEADER_KEY_TAG);
            head.put_varint(name.len() as u64);
        }
        head.append_to(&mut self.buffer);
        self.buffer.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            let mut head = Scratch::<12>::new();
            head.put_u8(HEADER_VALUE_TAG);
            head.put_varint(value.len() as u64);
            head.append_to(&mut self.buffer);
            self.buffer.extend_from_slice(value);
        }
    }
}

impl BuiltBatch {
    /// Bytes of the batch on the wire.
    pub fn wire_len(&self) -> usize {
        FRONT + self.payload.len()
    }

    /// A serialised [`crate::log::v1::RecordBatch`], for the `batch` field of a produce request. Written
    /// in front of the payload where it lies, unless the payload has been cloned.
    pub fn into_wire(self) -> Bytes {
        let BuiltBatch { header, payload, buffer, .. } = self;
        let own = payload.as_ptr_range() == buffer[FRONT..].as_ptr_range();
        let mut wire = if own {
            drop(payload);
            buffer.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]))
        } else {
            let mut wire = BytesMut::zeroed(FRONT);
            wire.extend_from_slice(&payload);
            wire
        };
        wire[..FIELDS_LEN].copy_from_slice(&header.encode_fields());
        wire[FIELDS_LEN..][..CRC_PRESENT.len()].copy_from_slice(&CRC_PRESENT);
        wire[FRONT - PAYLOAD_FRAME_LEN..FRONT].copy_from_slice(&header.encode_payload_frame());
        wire.freeze()
    }
}

fn body_len<'h>(
    offset_delta: u32,
    timestamp_delta: u64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
) -> usize {
    let number = |value: u64| if value == 0 { 0 } else { 1 + varint_len(value) };
    number(u64::from(offset_delta))
        + number(timestamp_delta)
        + key.map_or(0, field_len)
        + value.map_or(0, field_len)
        + headers.map(|(name, value)| prefixed(header_len(name, value))).sum::<usize>()
}

fn header_len(name: &str, value: Option<&[u8]>) -> usize {
    let name_len = if name.is_empty() { 0 } else { field_len(name.as_bytes()) };
    name_len + value.map_or(0, field_len)
}

#[inline(always)]
fn field_len(content: &[u8]) -> usize {
    prefixed(content.len())
}

/// Tag, length and content.
#[inline(always)]
const fn prefixed(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}
