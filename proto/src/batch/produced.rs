//! A batch as a producer's protobuf library encoded it.
//!
//! Libraries order, shorten and omit header fields as they like, so the header is read field by field and
//! written anew by the leader, while the payload keeps its bytes and its pieces.

use super::checksum::crc32c_of_rope;
use super::record::{PieceWalk, RawRecord};
use super::wire::{Fault, tag_number};
use super::{Attributes, BatchError, BatchHeader, Compression, Limits, MAX_PAYLOAD, ProducerStamp};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use crate::rope::Rope;
use bytes::Buf;

/// What a producer sent. Only [`ProducedBatch::verify`] makes sure that it is true.
#[derive(Clone, Debug)]
pub struct ProducedBatch {
    pub last_offset_delta: u32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer: Option<ProducerStamp>,
    pub record_count: u32,
    pub attributes: Attributes,
    /// If the producer sent it.
    pub payload_crc: Option<u32>,
    pub payload: Rope,
}

/// What the walk through a batch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub payload_crc: u32,
    /// Some record has no key: a compacted topic refuses it (T15).
    pub keyless: bool,
    /// Of the records, each for itself (T14).
    pub min_timestamp: i64,
    pub max_timestamp: i64,
}

#[derive(Default)]
struct Fields {
    last_offset_delta: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: u64,
    producer_epoch: u32,
    base_sequence: u32,
    record_count: u32,
    attributes: u32,
    payload_crc: u32,
    payload_crc_present: bool,
    payload: Option<Payload>,
}

enum Payload {
    Packed(Rope),
    Plain(Rope),
}

impl ProducedBatch {
    /// Reads a serialised [`crate::log::v1::RecordBatch`] from any encoder: fields in any order, lengths in
    /// any width, zeros left out, unknown fields skipped, the last of several counts. Copies no payload.
    ///
    /// # Errors
    /// No such message, attributes that nobody has defined, or a payload that contradicts them. Everything
    /// else waits for [`ProducedBatch::verify`].
    pub fn decode(mut rope: Rope) -> Result<ProducedBatch, BatchError> {
        let mut fields = Fields::default();
        while rope.has_remaining() {
            fields.read(&mut rope)?;
        }
        fields.into_batch()
    }

    /// The header under which the leader stores this batch.
    pub fn header(
        &self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        payload_crc: u32,
    ) -> BatchHeader {
        BatchHeader {
            base_offset,
            leader_epoch,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: self.producer,
            record_count: self.record_count,
            attributes: self.attributes,
            payload_crc,
            payload_len: self.payload.len() as u32,
        }
    }

    /// Checks that every consumer will be able to read this batch, and that the header tells the truth
    /// about it. Walks every record. What is packed is unpacked piece by piece, as far as `limits` allow, and never
    /// held as a whole (but for snappy, whose blocks know no pieces); records that cross from one piece into the next
    /// are copied.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, limits: Limits) -> Result<Verified, BatchError> {
        let computed = crc32c_of_rope(&self.payload);
        match self.payload_crc {
            Some(stored) if stored != computed => {
                return Err(BatchError::PayloadChecksum { stored, computed });
            }
            Some(_) | None => {}
        }
        if self.record_count == 0 {
            return Err(BatchError::Empty);
        }
        if self.last_offset_delta != self.record_count - 1 {
            let what = "last_offset_delta is not record_count - 1";
            return Err(BatchError::BadHeader { what });
        }
        let mut tally = Tally::default();
        self.walk(limits, |index, record| tally.add(self, index, &record))?;
        tally.check(self)?;
        Ok(Verified {
            payload_crc: computed,
            keyless: tally.keyless,
            min_timestamp: tally.min_timestamp,
            max_timestamp: tally.max_timestamp,
        })
    }

    /// Once more through the records of a batch that was verified within these limits: the index of each, its
    /// timestamp, and whether it has a key. For one that is refused, to say for which of them.
    ///
    /// # Errors
    /// It was not verified, or not within these limits.
    pub fn each_record(
        &self,
        limits: Limits,
        mut each: impl FnMut(u32, i64, bool),
    ) -> Result<(), BatchError> {
        self.walk(limits, |index, record| {
            each(index, self.timestamp(&record), record.key.is_some());
            Ok(())
        })
    }

    #[inline(always)]
    fn walk(
        &self,
        limits: Limits,
        mut visit: impl FnMut(u32, RawRecord<'_>) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        let mut walk = PieceWalk::default();
        match self.attributes.compression() {
            Compression::None => {
                for piece in self.payload.pieces() {
                    walk.push(piece, &mut visit)?;
                }
            }
            compression => {
                let packed = self.payload.clone().into_bytes();
                compression.unpack(&packed, limits, |piece| walk.push(piece, &mut visit))?;
            }
        }
        walk.finish()
    }

    #[inline(always)]
    fn timestamp(&self, record: &RawRecord<'_>) -> i64 {
        self.base_timestamp.wrapping_add(record.timestamp_delta)
    }
}

/// What has been seen of the records.
struct Tally {
    count: u32,
    min_timestamp: i64,
    max_timestamp: i64,
    keyless: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { count: 0, min_timestamp: i64::MAX, max_timestamp: i64::MIN, keyless: false }
    }
}

impl Tally {
    #[inline(always)]
    fn add(
        &mut self,
        batch: &ProducedBatch,
        index: u32,
        record: &RawRecord<'_>,
    ) -> Result<(), BatchError> {
        if record.offset_delta != index {
            return Err(BatchError::BadRecord { index, what: "its offset_delta is not its index" });
        }
        let timestamp = batch.timestamp(record);
        self.min_timestamp = self.min_timestamp.min(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.keyless |= record.key.is_none();
        self.count += 1;
        Ok(())
    }

    fn check(&self, batch: &ProducedBatch) -> Result<(), BatchError> {
        if self.count != batch.record_count {
            let (declared, found) = (batch.record_count, self.count);
            return Err(BatchError::CountMismatch { declared, found });
        }
        let (declared, found) = (batch.max_timestamp, self.max_timestamp);
        if declared != found && !batch.attributes.is_log_append_time() {
            return Err(BatchError::MaxTimestamp { declared, found });
        }
        Ok(())
    }
}

impl Fields {
    /// One field, with its tag.
    fn read(&mut self, rope: &mut Rope) -> Result<(), BatchError> {
        match varint(rope)? {
            0x09 => drop(u64_le(rope)?),
            0x15 | 0x65 => drop(u32_le(rope)?),
            0x1D => self.last_offset_delta = u32_le(rope)?,
            0x21 => self.base_timestamp = u64_le(rope)? as i64,
            0x29 => self.max_timestamp = u64_le(rope)? as i64,
            0x31 => self.producer_id = u64_le(rope)?,
            0x3D => self.producer_epoch = u32_le(rope)?,
            0x45 => self.base_sequence = u32_le(rope)?,
            0x4D => self.record_count = u32_le(rope)?,
            0x55 => self.attributes = u32_le(rope)?,
            0x5D => self.payload_crc = u32_le(rope)?,
            0x68 => self.payload_crc_present = varint(rope)? != 0,
            0x72 => self.payload = Some(Payload::Packed(content(rope)?)),
            0x7A => {
                let records = content(rope)?;
                self.payload = Some(Payload::Plain(match self.payload.take() {
                    Some(Payload::Plain(earlier)) => merge(earlier, &records),
                    Some(Payload::Packed(_)) | None => records,
                }));
            }
            tag => skip(rope, tag)?,
        }
        Ok(())
    }

    fn into_batch(self) -> Result<ProducedBatch, BatchError> {
        let attributes = Attributes::from_bits(self.attributes)?;
        if attributes.has_delete_horizon() {
            let what =
                "attribute bit 6, the delete horizon, is set by the cleaner only: send it as zero";
            return Err(BatchError::BadHeader { what });
        }
        let payload = match (self.payload, attributes.compression()) {
            (None, _) => return Err(BatchError::Empty),
            (Some(Payload::Plain(payload)), Compression::None) => payload,
            (Some(Payload::Packed(_)), Compression::None) => {
                let what = "compressed_records without a compression in the attributes";
                return Err(BatchError::BadHeader { what });
            }
            (Some(Payload::Packed(payload)), _) => payload,
            (Some(Payload::Plain(_)), _) => {
                let what = "plain records with a compression in the attributes";
                return Err(BatchError::BadHeader { what });
            }
        };
        if payload.len() > MAX_PAYLOAD {
            return Err(BatchError::TooLarge { bytes: payload.len(), limit: MAX_PAYLOAD });
        }
        if self.base_sequence >= Sequence::MODULUS {
            return Err(BatchError::BadHeader { what: "base_sequence is beyond 2^31 - 1" });
        }
        let stamp = |id: ProducerId| ProducerStamp {
            id,
            epoch: ProducerEpoch(self.producer_epoch),
            base_sequence: Sequence(self.base_sequence),
        };
        Ok(ProducedBatch {
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer: ProducerId::from_wire(self.producer_id).map(stamp),
            record_count: self.record_count,
            attributes,
            payload_crc: self.payload_crc_present.then_some(self.payload_crc),
            payload,
        })
    }
}

/// Protobuf merges a message that comes twice; of record sets that is one behind the other.
fn merge(mut first: Rope, second: &Rope) -> Rope {
    for piece in second.pieces() {
        first.push(piece.clone());
    }
    first
}

fn u32_le(rope: &mut Rope) -> Result<u32, BatchError> {
    rope.try_get_u32_le().map_err(|_| BatchError::Truncated)
}

fn u64_le(rope: &mut Rope) -> Result<u64, BatchError> {
    rope.try_get_u64_le().map_err(|_| BatchError::Truncated)
}

fn varint(rope: &mut Rope) -> Result<u64, BatchError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rope.try_get_u8().map_err(|_| BatchError::Truncated)?;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(bad(Fault::LongVarint))
}

/// Length and as many bytes.
fn content(rope: &mut Rope) -> Result<Rope, BatchError> {
    let len = varint(rope)?;
    if len > rope.len() as u64 {
        return Err(BatchError::Truncated);
    }
    Ok(rope.split_to(len as usize))
}

fn skip(rope: &mut Rope, tag: u64) -> Result<(), BatchError> {
    if tag_number(tag) == 0 || tag > u64::from(u32::MAX) {
        return Err(bad(Fault::Tag));
    }
    if tag_number(tag) <= 15 {
        return Err(bad(Fault::WireType));
    }
    match tag & 7 {
        0 => varint(rope).map(drop),
        1 => u64_le(rope).map(drop),
        2 => content(rope).map(drop),
        5 => u32_le(rope).map(drop),
        _ => Err(bad(Fault::WireType)),
    }
}

fn bad(fault: Fault) -> BatchError {
    BatchError::BadFrame { what: fault.text() }
}
