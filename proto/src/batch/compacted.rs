//! What compaction leaves of a batch: its place, its producer and its epoch, and those records that stay.
//!
//! Promises: a record that stays keeps its offset, its timestamp, key, value, headers and every field that nobody
//! here knows. With the delete horizon as base the deltas count from that, so a reader that does not know of
//! horizons reads the same timestamps.
//! Never here: which records stay.

use super::checksum::crc32c;
use super::record::{
    OFFSET_DELTA_TAG, RECORD_TAG, RawRecord, RecordRef, Split, TIMESTAMP_DELTA_TAG, bad_record,
    split_field,
};
use super::wire::{Fault, Reader, Scratch, to_zigzag};
use super::{BatchError, BatchHeader, Compression, MAX_PAYLOAD, RecordWalk};
use std::ops::Range;

/// Selects the records of one batch after the other, and writes what is left. Keeps its memory from batch to batch.
#[derive(Debug, Default)]
pub struct Compactor {
    /// Where the records that stay stand in the unpacked payload, in pieces that are not adjacent.
    kept: Vec<Range<usize>>,
    records: Vec<u8>,
    packed: Vec<u8>,
}

/// What [`Compactor::select`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    pub kept: u32,
    pub gone: u32,
    /// Of those that stay.
    max_timestamp: Option<i64>,
}

impl Compactor {
    /// Asks of each record in the unpacked payload whether it stays.
    ///
    /// # Errors
    /// Records that are not what the header says.
    pub fn select(
        &mut self,
        header: &BatchHeader,
        records: &[u8],
        mut stays: impl FnMut(&RecordRef<'_>) -> bool,
    ) -> Result<Selected, BatchError> {
        self.kept.clear();
        let mut selected = Selected::default();
        let mut walk = RecordWalk::new(header);
        let mut from = 0;
        while let Some(record) = walk.next(records) {
            let record = record?;
            let to = walk.position();
            if stays(&record) {
                selected.kept += 1;
                selected.max_timestamp = selected.max_timestamp.max(Some(record.timestamp_ms));
                match self.kept.last_mut() {
                    Some(last) if last.end == from => last.end = to,
                    _ => self.kept.push(from..to),
                }
            } else {
                selected.gone += 1;
            }
            from = to;
        }
        Ok(selected)
    }

    /// The batch with those records that the last [`Compactor::select`] has let stay of the same batch, compressed
    /// as it was; with a `horizon`, that becomes the base of its timestamps.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] beyond [`MAX_PAYLOAD`]: a horizon makes timestamps longer.
    pub fn rewrite(
        &mut self,
        header: &BatchHeader,
        records: &[u8],
        selected: &Selected,
        horizon: Option<i64>,
    ) -> Result<(BatchHeader, &[u8]), BatchError> {
        let Some(max_timestamp) = selected.max_timestamp else {
            return Ok((header.emptied(), &[]));
        };
        self.records.clear();
        let mut left = BatchHeader { max_timestamp, record_count: selected.kept, ..*header };
        match horizon {
            None => {
                for piece in &self.kept {
                    self.records.extend_from_slice(&records[piece.clone()]);
                }
            }
            Some(horizon) => {
                left.base_timestamp = horizon;
                left.attributes = left.attributes.with_delete_horizon(true);
                let shift = header.base_timestamp.wrapping_sub(horizon);
                for piece in &self.kept {
                    shift_timestamps(&records[piece.clone()], shift, &mut self.records)?;
                }
            }
        }
        let payload = match header.attributes.compression() {
            Compression::None => &self.records,
            compression => {
                self.packed.clear();
                compression.compress_onto(None, &self.records, &mut self.packed)?;
                &self.packed
            }
        };
        if payload.len() > MAX_PAYLOAD {
            return Err(BatchError::TooLarge { bytes: payload.len(), limit: MAX_PAYLOAD });
        }
        left.payload_len = payload.len() as u32;
        left.payload_crc = crc32c(payload);
        Ok((left, payload))
    }
}

/// Copies records whose timestamps will count from a base that lies `shift` before the one they count from now.
fn shift_timestamps(records: &[u8], shift: i64, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let fault = |fault: Fault| bad_record(0, fault);
    let mut rest = records;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (body, behind) = match split_field(rest).map_err(fault)? {
            Split::Record(body, behind) => (body, behind),
            Split::Unknown(behind) => {
                out.extend_from_slice(&rest[..rest.len() - behind.len()]);
                rest = behind;
                continue;
            }
            Split::Cut(_) => return Err(fault(Fault::Cut)),
        };
        rest = behind;
        let raw = RawRecord::parse(body).map_err(fault)?;
        fields.clear();
        let mut numbers = Scratch::<24>::new();
        if raw.offset_delta != 0 {
            numbers.put_u8(OFFSET_DELTA_TAG);
            numbers.put_varint(u64::from(raw.offset_delta));
        }
        let timestamp_delta = raw.timestamp_delta.wrapping_add(shift);
        if timestamp_delta != 0 {
            numbers.put_u8(TIMESTAMP_DELTA_TAG);
            numbers.put_varint(to_zigzag(timestamp_delta));
        }
        numbers.append_to(&mut fields);
        copy_other_fields(body, &mut fields).map_err(fault)?;
        let mut frame = Scratch::<16>::new();
        frame.put_u8(RECORD_TAG);
        frame.put_varint(fields.len() as u64);
        frame.append_to(out);
        out.extend_from_slice(&fields);
    }
    Ok(())
}

/// All but the two numbers, as they stand.
fn copy_other_fields(body: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut reader = Reader::new(body);
    while !reader.rest.is_empty() {
        let field = reader.rest;
        let tag = reader.varint()?;
        reader.skip(tag)?;
        if tag != u64::from(OFFSET_DELTA_TAG) && tag != u64::from(TIMESTAMP_DELTA_TAG) {
            out.extend_from_slice(&field[..field.len() - reader.rest.len()]);
        }
    }
    Ok(())
}
