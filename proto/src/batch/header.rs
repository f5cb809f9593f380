//! The canonical batch header: fixed positions, every field written, in order.
//!
//! Promise: `decode(encode(header)) == header`, and a prefix that `decode` accepts is exactly what
//! `encode` makes of the result, so nothing in it can change without a checksum or a check finding it.

use super::checksum::{crc32c, header_crc};
use super::{
    Attributes, BODY_HEADER_LEN, BatchError, Compression, FRAME_LEN, MAX_PAYLOAD, OVERHEAD,
};
use crate::ids::{LeaderEpoch, Offset, PartitionKey, ProducerEpoch, ProducerId, Sequence};

/// Bytes of the body that the header checksum covers from its start: up to and with `payload_crc`.
pub(super) const FIELDS_LEN: usize = 71;
/// Tag and padded length before the payload.
pub(super) const PAYLOAD_FRAME_LEN: usize = 5;
const PAYLOAD_FRAME: usize = 76;
const BATCHES_TAG: u8 = 0x0A;
pub(super) const COMPRESSED_RECORDS_TAG: u8 = 0x72;
pub(super) const RECORDS_TAG: u8 = 0x7A;
/// Offsets travel as signed numbers; the offset behind a batch must still be one.
const MAX_END_OFFSET: u64 = i64::MAX as u64;

/// A batch without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    /// Offset of the last record minus `base_offset`; kept when compaction removes records.
    pub last_offset_delta: u32,
    /// Milliseconds since 1970 that the records' deltas count from. With [`Attributes::has_delete_horizon`] also
    /// when the batch's tombstones may go.
    pub base_timestamp: i64,
    /// The largest timestamp in the batch; with log append time, the timestamp of every record. Of a batch whose
    /// records compaction has all removed, what it was before.
    pub max_timestamp: i64,
    pub producer: Option<ProducerStamp>,
    /// None: compaction has removed them all, and kept the batch for its offsets or its producer.
    pub record_count: u32,
    pub attributes: Attributes,
    /// CRC-32C of the payload as it is stored, that is compressed.
    pub payload_crc: u32,
    /// Bytes of the payload as it is stored.
    pub payload_len: u32,
}

/// What an idempotent producer puts on a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
    /// Sequence of the first record.
    pub base_sequence: Sequence,
}

impl ProducerStamp {
    /// Sequence of the last of `record_count` records as produced. Of a compacted batch, count with
    /// `last_offset_delta + 1`.
    pub const fn last_sequence(&self, record_count: u32) -> Sequence {
        self.base_sequence.plus(record_count.saturating_sub(1))
    }
}

impl BatchHeader {
    /// Offset of the last record.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64)
    }

    /// Offset behind the last record: where the next batch starts.
    pub const fn end_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64 + 1)
    }

    /// From when on, in milliseconds since 1970, the tombstones of the batch may go; `None` if no cleaning has seen
    /// any in it yet.
    pub const fn delete_horizon_ms(&self) -> Option<i64> {
        if self.attributes.has_delete_horizon() { Some(self.base_timestamp) } else { None }
    }

    /// This batch when compaction has removed all of its records: offsets, producer and epoch stay, the payload is
    /// empty.
    #[must_use]
    pub fn emptied(&self) -> BatchHeader {
        BatchHeader {
            record_count: 0,
            attributes: self.attributes.with_compression(Compression::None),
            payload_crc: crc32c(&[]),
            payload_len: 0,
            ..*self
        }
    }

    /// Bytes of the whole batch in a file.
    pub const fn encoded_len(&self) -> usize {
        OVERHEAD + self.payload_len as usize
    }

    /// Frame and header as they stand in a file before the payload.
    ///
    /// # Panics
    /// If the payload is larger than [`MAX_PAYLOAD`]: such batches are refused before they get here.
    pub fn encode(&self, key: &PartitionKey) -> [u8; OVERHEAD] {
        assert!(self.payload_len as usize <= MAX_PAYLOAD, "a payload beyond MAX_PAYLOAD");
        let mut out = [0; OVERHEAD];
        let (frame, body) = out.split_at_mut(FRAME_LEN);
        frame[0] = BATCHES_TAG;
        frame[1..].copy_from_slice(&padded(BODY_HEADER_LEN as u32 + self.payload_len));
        let fields = self.encode_fields();
        let payload_frame = self.encode_payload_frame();
        body[..FIELDS_LEN].copy_from_slice(&fields);
        body[FIELDS_LEN] = 0x65;
        let crc = header_crc(key, &fields, &payload_frame);
        body[FIELDS_LEN + 1..PAYLOAD_FRAME].copy_from_slice(&crc.to_le_bytes());
        body[PAYLOAD_FRAME..].copy_from_slice(&payload_frame);
        out
    }

    /// Fields 1 to 11.
    pub(super) fn encode_fields(&self) -> [u8; FIELDS_LEN] {
        let mut out = [0; FIELDS_LEN];
        let (id, epoch, sequence) = match self.producer {
            Some(stamp) => (stamp.id.0, stamp.epoch.0, stamp.base_sequence.0),
            None => (0, 0, 0),
        };
        put_u64(&mut out, 0, 0x09, self.base_offset.0);
        put_u32(&mut out, 9, 0x15, self.leader_epoch.0);
        put_u32(&mut out, 14, 0x1D, self.last_offset_delta);
        put_u64(&mut out, 19, 0x21, self.base_timestamp as u64);
        put_u64(&mut out, 28, 0x29, self.max_timestamp as u64);
        put_u64(&mut out, 37, 0x31, id);
        put_u32(&mut out, 46, 0x3D, epoch);
        put_u32(&mut out, 51, 0x45, sequence);
        put_u32(&mut out, 56, 0x4D, self.record_count);
        put_u32(&mut out, 61, 0x55, self.attributes.bits());
        put_u32(&mut out, 66, 0x5D, self.payload_crc);
        out
    }

    /// Tag and length of the payload.
    pub(super) fn encode_payload_frame(&self) -> [u8; PAYLOAD_FRAME_LEN] {
        let [a, b, c, d] = padded(self.payload_len);
        [payload_tag(self.attributes.compression()), a, b, c, d]
    }

    /// The header at the start of `prefix`, and the header checksum stored with it, unchecked. The payload
    /// need not be there.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] with less than [`OVERHEAD`] bytes; anything but the canonical form.
    pub fn decode(prefix: &[u8]) -> Result<(BatchHeader, u32), BatchError> {
        let Some((head, _)) = prefix.split_first_chunk::<OVERHEAD>() else {
            return Err(BatchError::Truncated);
        };
        let (frame, body) = head.split_at(FRAME_LEN);
        if frame[0] != BATCHES_TAG {
            return Err(BatchError::NotCanonical { what: "the tag of a batch" });
        }
        let body_len = read_padded(&frame[1..])?;
        check_tags(body)?;
        let attributes = Attributes::from_bits(read_u32(body, 61))?;
        if body[PAYLOAD_FRAME] != payload_tag(attributes.compression()) {
            return Err(BatchError::NotCanonical { what: "the payload's tag" });
        }
        let payload_len = read_padded(&body[PAYLOAD_FRAME + 1..])?;
        if body_len != payload_len + BODY_HEADER_LEN as u32 {
            return Err(BatchError::NotCanonical { what: "the lengths of batch and payload" });
        }
        let header = BatchHeader {
            base_offset: Offset(read_u64(body, 0)),
            leader_epoch: LeaderEpoch(read_u32(body, 9)),
            last_offset_delta: read_u32(body, 14),
            base_timestamp: read_u64(body, 19) as i64,
            max_timestamp: read_u64(body, 28) as i64,
            producer: decode_producer(body)?,
            record_count: read_u32(body, 56),
            attributes,
            payload_crc: read_u32(body, 66),
            payload_len,
        };
        header.check_offsets()?;
        Ok((header, read_u32(body, FIELDS_LEN)))
    }

    /// As [`BatchHeader::decode`], and the checksum over header and identity holds.
    ///
    /// # Errors
    /// Also [`BatchError::HeaderChecksum`]: bit rot, or a batch of another partition.
    pub fn decode_verified(prefix: &[u8], key: &PartitionKey) -> Result<BatchHeader, BatchError> {
        let (header, stored) = Self::decode(prefix)?;
        let body = &prefix[FRAME_LEN..];
        let fields = body.first_chunk().expect("decode saw the whole header");
        let payload_frame = body[PAYLOAD_FRAME..].first_chunk().expect("decode saw it");
        let computed = header_crc(key, fields, payload_frame);
        if computed != stored {
            return Err(BatchError::HeaderChecksum { stored, computed });
        }
        Ok(header)
    }

    fn check_offsets(&self) -> Result<(), BatchError> {
        let end = self.base_offset.0.checked_add(u64::from(self.last_offset_delta) + 1);
        if end.is_none_or(|end| end > MAX_END_OFFSET) {
            return Err(BatchError::NotCanonical { what: "offsets beyond 2^63 - 1" });
        }
        if u64::from(self.record_count) > u64::from(self.last_offset_delta) + 1 {
            return Err(BatchError::NotCanonical { what: "more records than offsets" });
        }
        Ok(())
    }
}

/// The producer's three fields, which are all zero without a producer.
fn decode_producer(body: &[u8]) -> Result<Option<ProducerStamp>, BatchError> {
    let epoch = ProducerEpoch(read_u32(body, 46));
    let base_sequence = Sequence(read_u32(body, 51));
    if base_sequence.0 >= Sequence::MODULUS {
        return Err(BatchError::NotCanonical { what: "a sequence beyond 2^31 - 1" });
    }
    match ProducerId::from_wire(read_u64(body, 37)) {
        Some(id) => Ok(Some(ProducerStamp { id, epoch, base_sequence })),
        None if epoch.0 == 0 && base_sequence.0 == 0 => Ok(None),
        None => Err(BatchError::NotCanonical { what: "epoch or sequence without a producer" }),
    }
}

const fn payload_tag(compression: Compression) -> u8 {
    match compression {
        Compression::None => RECORDS_TAG,
        Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd => {
            COMPRESSED_RECORDS_TAG
        }
    }
}

fn check_tags(body: &[u8]) -> Result<(), BatchError> {
    const TAGS: [(usize, u8); 12] = [
        (0, 0x09),
        (9, 0x15),
        (14, 0x1D),
        (19, 0x21),
        (28, 0x29),
        (37, 0x31),
        (46, 0x3D),
        (51, 0x45),
        (56, 0x4D),
        (61, 0x55),
        (66, 0x5D),
        (71, 0x65),
    ];
    if TAGS.iter().all(|&(at, tag)| body[at] == tag) {
        Ok(())
    } else {
        Err(BatchError::NotCanonical { what: "a header field's tag" })
    }
}

fn put_u32(out: &mut [u8; FIELDS_LEN], at: usize, tag: u8, value: u32) {
    out[at] = tag;
    out[at + 1..at + 5].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut [u8; FIELDS_LEN], at: usize, tag: u8, value: u64) {
    out[at] = tag;
    out[at + 1..at + 9].copy_from_slice(&value.to_le_bytes());
}

/// The value behind the tag at `at`.
fn read_u32(body: &[u8], at: usize) -> u32 {
    let bytes = body[at + 1..].first_chunk().expect("every position lies within the body header");
    u32::from_le_bytes(*bytes)
}

/// The value behind the tag at `at`.
fn read_u64(body: &[u8], at: usize) -> u64 {
    let bytes = body[at + 1..].first_chunk().expect("every position lies within the body header");
    u64::from_le_bytes(*bytes)
}

/// A varint of exactly four bytes; the value is below 2^28.
fn padded(value: u32) -> [u8; 4] {
    debug_assert!(value < 1 << 28);
    let group = |shift: u32| (value >> shift & 0x7f) as u8;
    [group(0) | 0x80, group(7) | 0x80, group(14) | 0x80, group(21)]
}

fn read_padded(bytes: &[u8]) -> Result<u32, BatchError> {
    let (&[a, b, c, d], _) = bytes.split_first_chunk().ok_or(BatchError::Truncated)?;
    if a & b & c & 0x80 == 0 || d & 0x80 != 0 {
        return Err(BatchError::NotCanonical { what: "a length that is not four bytes wide" });
    }
    let group = |byte: u8| u32::from(byte & 0x7f);
    Ok(group(a) | group(b) << 7 | group(c) << 14 | group(d) << 21)
}
