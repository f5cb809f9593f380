//! One record, borrowed from the payload, and the walk from one to the next.

use super::BatchError;
use super::wire::{Fault, Reader};
use crate::ids::Offset;

/// Tag of `RecordSet.records`.
pub(super) const RECORD_TAG: u8 = 0x0A;
pub(super) const OFFSET_DELTA_TAG: u8 = 0x08;
pub(super) const TIMESTAMP_DELTA_TAG: u8 = 0x10;
pub(super) const KEY_TAG: u8 = 0x1A;
pub(super) const VALUE_TAG: u8 = 0x22;
pub(super) const HEADER_TAG: u8 = 0x2A;
pub(super) const HEADER_KEY_TAG: u8 = 0x0A;
pub(super) const HEADER_VALUE_TAG: u8 = 0x12;

/// A record that points into its batch's payload.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// None is no key; empty is an empty key (T10).
    pub key: Option<&'a [u8]>,
    /// None is a tombstone; empty is an empty value (T10).
    pub value: Option<&'a [u8]>,
    pub(super) header_fields: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// In order, duplicates included.
    pub fn headers(&self) -> HeaderRefs<'a> {
        HeaderRefs { fields: Reader::new(self.header_fields) }
    }
}

/// The headers of one record.
#[derive(Clone, Debug)]
pub struct HeaderRefs<'a> {
    fields: Reader<'a>,
}

impl<'a> Iterator for HeaderRefs<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        // The record was checked when it was parsed, so nothing here can fail.
        while !self.fields.rest.is_empty() {
            let tag = self.fields.varint().ok()?;
            if tag == u64::from(HEADER_TAG) {
                return parse_header(self.fields.bytes().ok()?).ok();
            }
            self.fields.skip(tag).ok()?;
        }
        None
    }
}

/// The fields of a record as they are coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    pub(super) offset_delta: u32,
    pub(super) timestamp_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// From the first header on; other fields may stand between.
    pub(super) header_fields: &'a [u8],
}

impl<'a> RawRecord<'a> {
    /// Checks everything, headers too. Fields may come in any order; the last of several counts.
    #[inline]
    pub(super) fn parse(body: &'a [u8]) -> Result<RawRecord<'a>, Fault> {
        let mut record = RawRecord {
            offset_delta: 0,
            timestamp_delta: 0,
            key: None,
            value: None,
            header_fields: &[],
        };
        let mut reader = Reader::new(body);
        while let [tag, rest @ ..] = reader.rest {
            let field = reader.rest;
            reader.rest = rest;
            match *tag {
                OFFSET_DELTA_TAG => record.offset_delta = reader.varint32()?,
                TIMESTAMP_DELTA_TAG => record.timestamp_delta = reader.zigzag()?,
                KEY_TAG => record.key = Some(reader.bytes()?),
                VALUE_TAG => record.value = Some(reader.bytes()?),
                HEADER_TAG => {
                    parse_header(reader.bytes()?)?;
                    if record.header_fields.is_empty() {
                        record.header_fields = field;
                    }
                }
                _ => {
                    reader.rest = field;
                    skip_unknown(&mut reader, 5)?;
                }
            }
        }
        Ok(record)
    }
}

/// Skips a field with its tag; fields up to `known` with another wire type than theirs are refused.
#[cold]
fn skip_unknown(reader: &mut Reader<'_>, known: u64) -> Result<(), Fault> {
    let tag = reader.varint()?;
    if (1..=known).contains(&super::wire::tag_number(tag)) {
        return Err(Fault::WireType);
    }
    reader.skip(tag)
}

fn parse_header(body: &[u8]) -> Result<(&str, Option<&[u8]>), Fault> {
    let mut key: &[u8] = &[];
    let mut value = None;
    let mut reader = Reader::new(body);
    while let [tag, rest @ ..] = reader.rest {
        let field = reader.rest;
        reader.rest = rest;
        match *tag {
            HEADER_KEY_TAG => key = reader.bytes()?,
            HEADER_VALUE_TAG => value = Some(reader.bytes()?),
            _ => {
                reader.rest = field;
                skip_unknown(&mut reader, 2)?;
            }
        }
    }
    Ok((str::from_utf8(key).map_err(|_| Fault::Utf8)?, value))
}

/// What stands at the start of a part of a record set.
pub(super) enum Split<'a> {
    Record(&'a [u8], &'a [u8]),
    Unknown(&'a [u8]),
    /// The field goes on beyond the part: its whole length, if that is known yet.
    Cut(Option<usize>),
}

/// Takes the first field off a part of a record set.
#[inline(always)]
pub(super) fn split_field(part: &[u8]) -> Result<Split<'_>, Fault> {
    let mut reader = Reader::new(part);
    if part.first() == Some(&RECORD_TAG) {
        reader.rest = &part[1..];
        let len = match reader.varint() {
            Ok(len) => len,
            Err(Fault::Cut) => return Ok(Split::Cut(None)),
            Err(fault) => return Err(fault),
        };
        return Ok(match reader.take(len) {
            Ok(body) => Split::Record(body, reader.rest),
            Err(_) => Split::Cut(whole_len(part.len() - reader.rest.len(), len)),
        });
    }
    match skip_unknown(&mut reader, 1) {
        Ok(()) => Ok(Split::Unknown(reader.rest)),
        Err(Fault::Cut) => Ok(Split::Cut(None)),
        Err(fault) => Err(fault),
    }
}

/// Head and content, unless that is more than memory can hold: then the walk ends for want of bytes.
fn whole_len(head: usize, len: u64) -> Option<usize> {
    usize::try_from(len).ok()?.checked_add(head)
}

/// A walk through a record set that comes in pieces. Joins nothing: only a record that crosses from one piece into
/// the next is copied, alone.
#[derive(Default)]
pub(super) struct PieceWalk {
    /// The record that began in an earlier piece.
    crossing: Vec<u8>,
    index: u32,
}

impl PieceWalk {
    /// Visits every record that ends in this piece.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        visit: &mut impl FnMut(u32, RawRecord<'_>) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        let mut rest = self.fill_crossing(piece, visit)?;
        while !rest.is_empty() {
            match split_field(rest).map_err(|fault| bad_record(self.index, fault))? {
                Split::Record(body, tail) => {
                    visit_record(&mut self.index, body, visit)?;
                    rest = tail;
                }
                Split::Unknown(tail) => rest = tail,
                Split::Cut(_) => {
                    self.crossing.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// No more pieces come.
    pub(super) fn finish(self) -> Result<(), BatchError> {
        if self.crossing.is_empty() { Ok(()) } else { Err(bad_record(self.index, Fault::Cut)) }
    }

    /// Adds to the record that began in an earlier piece; returns what is left of this one.
    fn fill_crossing<'p>(
        &mut self,
        mut piece: &'p [u8],
        visit: &mut impl FnMut(u32, RawRecord<'_>) -> Result<(), BatchError>,
    ) -> Result<&'p [u8], BatchError> {
        while !self.crossing.is_empty() {
            let fault = |fault| bad_record(self.index, fault);
            let missing = match split_field(&self.crossing).map_err(fault)? {
                Split::Record(body, _) => {
                    visit_record(&mut self.index, body, visit)?;
                    self.crossing.clear();
                    break;
                }
                Split::Unknown(_) => {
                    self.crossing.clear();
                    break;
                }
                Split::Cut(Some(whole)) => whole - self.crossing.len(),
                Split::Cut(None) => 1,
            };
            if piece.is_empty() {
                break;
            }
            let (more, rest) = piece.split_at(missing.min(piece.len()));
            self.crossing.extend_from_slice(more);
            piece = rest;
        }
        Ok(piece)
    }
}

#[inline(always)]
fn visit_record(
    index: &mut u32,
    body: &[u8],
    visit: &mut impl FnMut(u32, RawRecord<'_>) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let record = RawRecord::parse(body).map_err(|fault| bad_record(*index, fault))?;
    visit(*index, record)?;
    *index = index.checked_add(1).ok_or(BatchError::BadFrame { what: "too many records" })?;
    Ok(())
}

#[cold]
pub(super) fn bad_record(index: u32, fault: Fault) -> BatchError {
    BatchError::BadRecord { index, what: fault.text() }
}
