//! Reading: a range of whole batches from an offset on, and the offset for a timestamp.
//!
//! A lookup by time comes as far as headers tell, and ends at a [`Candidate`]: what unpacking it costs, time and
//! memory, is spent where whoever looks has them.

use crate::disk::{Disk, is_resident};
use crate::segment::{Located, Segment};
use crate::soundness::Walk;
use crate::{Log, LogError};
use bytes::Bytes;
use std::ops::Range;
use troupe_proto::batch::{
    BatchError, BatchHeader, Compression, Limits, OVERHEAD, RecordSet, RecordWalk,
};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// Whole batches as they stand in the file: a serialised `RecordBatches`.
///
/// `from < end`, and `first <= from` unless compaction has removed what was between. If it is empty,
/// `first == end == from`.
#[derive(Clone, Debug)]
pub struct ReadSlice {
    pub bytes: Bytes,
    /// Base offset of the first batch, which holds the offset asked for, or else the next that is there: earlier
    /// records are the reader's to skip (S29).
    pub first: Offset,
    /// Offset behind the last batch: where the next read starts.
    pub end: Offset,
}

impl ReadSlice {
    fn empty(at: Offset) -> ReadSlice {
        ReadSlice { bytes: Bytes::new(), first: at, end: at }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether sending these bytes would not wait for the disk. One system call.
    pub fn is_resident(&self) -> bool {
        is_resident(&self.bytes)
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampHit {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub leader_epoch: LeaderEpoch,
}

/// A batch that may hold what is looked for: by its records alone can it be told.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub header: BatchHeader,
    /// As it is stored.
    pub payload: Bytes,
    /// What of the log can be read.
    readable: Range<Offset>,
    /// Where it stands in its file.
    position: u64,
}

impl Candidate {
    pub fn is_packed(&self) -> bool {
        self.header.attributes.compression() != Compression::None
    }

    /// The first readable record that is not older, in the batch's unpacked payload.
    ///
    /// # Errors
    /// Records that are not what the header says.
    pub fn first_from(
        &self,
        records: &[u8],
        timestamp_ms: i64,
    ) -> Result<Option<TimestampHit>, BatchError> {
        let leader_epoch = self.header.leader_epoch;
        let not_older = |(offset, timestamp): (Offset, i64)| {
            (timestamp >= timestamp_ms).then_some(TimestampHit {
                offset,
                timestamp_ms: timestamp,
                leader_epoch,
            })
        };
        self.readable(records).find_map(|record| record.map(not_older).transpose()).transpose()
    }

    /// The largest timestamp of a readable record, in the batch's unpacked payload.
    ///
    /// # Errors
    /// As [`Candidate::first_from`].
    pub fn largest(&self, records: &[u8]) -> Result<Option<i64>, BatchError> {
        self.readable(records).try_fold(None, |largest, record| Ok(largest.max(Some(record?.1))))
    }

    /// Offset and timestamp of every record that can be read.
    fn readable(&self, records: &[u8]) -> impl Iterator<Item = Result<(Offset, i64), BatchError>> {
        let mut walk = RecordWalk::new(&self.header);
        let records = std::iter::from_fn(move || {
            let record = walk.next(records)?;
            Some(record.map(|record| (record.offset, record.timestamp_ms)))
        });
        records.filter(|record| match record {
            Ok((offset, _)) => self.readable.contains(offset),
            Err(_) => true,
        })
    }
}

/// Where a read's bytes come from.
#[derive(Clone, Copy)]
enum Source {
    Mapping,
    Copy,
}

impl<D: Disk> Log<D> {
    /// The batches from the one that holds `from` up to `end`, at most `max_bytes` but always one whole
    /// (S29), from one segment. A slice of the mapping where the disk has one: so `end` must not lie above
    /// what can no longer change, the high watermark.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] below the log's start or above its end; between `end` and the log's
    /// end the answer is empty (S28). Files that cannot be read or are not what they were.
    pub fn read(&self, from: Offset, end: Offset, max_bytes: usize) -> Result<ReadSlice, LogError> {
        self.read_from(from, end, max_bytes, Source::Mapping)
    }

    /// As [`Log::read`], but into memory of its own: for what may still be cut off, above the high watermark.
    ///
    /// # Errors
    /// As [`Log::read`].
    pub fn read_copy(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
    ) -> Result<ReadSlice, LogError> {
        self.read_from(from, end, max_bytes, Source::Copy)
    }

    fn read_from(
        &self,
        from: Offset,
        end: Offset,
        max_bytes: usize,
        source: Source,
    ) -> Result<ReadSlice, LogError> {
        if from < self.start || from > self.end {
            let (earliest, latest) = (self.start, self.end);
            return Err(LogError::OffsetOutOfRange { requested: from, earliest, latest });
        }
        let end = end.min(self.readable_end(from)?);
        let first = self.segment_of(from).unwrap_or(0);
        for segment in self.segments.range(first..) {
            if segment.base >= end || from >= end {
                break;
            }
            let Some(batch) = self.locate(segment, from)? else { continue };
            if batch.header.end_offset() > end {
                break;
            }
            let (to, slice_end) = self.extend(segment, &batch, end, max_bytes)?;
            let bytes = match source {
                Source::Mapping => segment.view(&self.place, batch.position, to)?,
                Source::Copy => segment.copy(&self.place, batch.position, to)?,
            };
            return Ok(ReadSlice { bytes, first: batch.header.base_offset, end: slice_end });
        }
        Ok(ReadSlice::empty(from))
    }

    /// How far a slice from `first` on may go: where it ends in the file and in offsets.
    fn extend(
        &self,
        segment: &Segment<D>,
        first: &Located,
        end: Offset,
        max_bytes: usize,
    ) -> Result<(u64, Offset), LogError> {
        let limit = first.position.saturating_add(max_bytes as u64);
        if end >= segment.end && limit >= segment.size {
            return Ok((segment.size, segment.end));
        }
        let mut reached = (first.end_position(), first.header.end_offset());
        // the index leaps over what surely fits, so that only the last few kilobytes are walked; one that
        // leads nowhere, or too far, is no loss; nor is one that cannot be made again, as what was deleted is damaged
        let indexes = match segment.indexes(&self.place, self.config.index_interval_bytes) {
            Err(LogError::CorruptLog { .. }) if segment.base < self.start => None,
            indexes => Some(indexes?),
        };
        let mut entry = indexes.and_then(|indexes| indexes.offsets.furthest(limit, end));
        while let Some((last, leap)) = entry.filter(|(_, leap)| *leap > reached.0) {
            if !segment.leads_to(&self.place, last, leap)? {
                break;
            }
            let batch = segment.batch_at(&self.place, leap)?;
            let (to, to_offset) = (batch.end_position(), batch.header.end_offset());
            // where it does not fit, the entry before leads to one that does
            if to <= limit && to_offset <= end {
                reached = (to, to_offset);
                break;
            }
            entry = indexes.and_then(|indexes| indexes.offsets.furthest(leap - 1, end));
        }
        while reached.0 < segment.size && reached.1 < end {
            let batch = match segment.batch_at(&self.place, reached.0) {
                // what is good before it is handed out; the next read says what is wrong
                Err(LogError::CorruptLog { .. }) => break,
                found => found?,
            };
            if batch.end_position() > limit || batch.header.end_offset() > end {
                break;
            }
            reached = (batch.end_position(), batch.header.end_offset());
        }
        Ok(reached)
    }

    pub(crate) fn locate(
        &self,
        segment: &Segment<D>,
        target: Offset,
    ) -> Result<Option<Located>, LogError> {
        match segment.locate(&self.place, self.config.index_interval_bytes, target) {
            // perhaps only among what was deleted, which nobody needs
            Err(error @ LogError::CorruptLog { .. }) if segment.base < self.start => {
                match self.walk(segment, target)? {
                    Walk::At(batch) => Ok(Some(batch)),
                    Walk::Behind => Ok(None),
                    Walk::Bad { .. } => Err(error),
                }
            }
            located => located,
        }
    }

    /// The same offset, or if compaction has left a gap there, where the next batch begins: nothing lies between. Also
    /// the same if that cannot be read.
    pub fn behind_gap(&self, offset: Offset) -> Offset {
        let segment = self.segment_of(offset).and_then(|at| self.segments.get(at));
        let batch =
            segment.filter(|segment| offset < segment.end).map(|it| self.locate(it, offset));
        match batch {
            Some(Ok(Some(batch))) => batch.header.base_offset.max(offset),
            _ => offset,
        }
    }

    /// The first batch from the one that holds `from` on that, by its header, may have a record below `end` whose
    /// timestamp is at least this (S7). If it has none, ask again from its end on.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn candidate(
        &self,
        timestamp_ms: i64,
        from: Offset,
        end: Offset,
    ) -> Result<Option<Candidate>, LogError> {
        let from = from.max(self.start);
        let end = end.min(self.readable_end(from)?);
        for segment in self.segments.iter().filter(|segment| segment.end > from) {
            if segment.base >= end {
                break;
            }
            let largest = self.summary(segment)?.largest;
            if largest.is_none_or(|(largest, _)| largest < timestamp_ms) {
                continue;
            }
            let indexed = match self.indexed_before(segment, timestamp_ms) {
                // perhaps only for what was deleted
                Err(LogError::CorruptLog { .. }) if segment.base < self.start => segment.base,
                indexed => indexed?,
            };
            let mut next = self.locate(segment, indexed.max(from))?;
            while let Some(batch) = next.filter(|batch| batch.header.base_offset < end) {
                // compaction may have left a batch without records
                if batch.header.record_count > 0 && batch.header.max_timestamp >= timestamp_ms {
                    return self.as_candidate(segment, &batch, end).map(Some);
                }
                next = self.batch_behind(segment, &batch)?;
            }
        }
        Ok(None)
    }

    /// From where on a segment has to be looked through for this timestamp.
    fn indexed_before(&self, segment: &Segment<D>, timestamp_ms: i64) -> Result<Offset, LogError> {
        let interval = self.config.index_interval_bytes;
        match segment.indexes(&self.place, interval)?.times.floor(timestamp_ms) {
            Some(entry) if segment.brings(&self.place, interval, entry)? => Ok(entry.1),
            _ => Ok(segment.base),
        }
    }

    /// The largest timestamp below `end` as far as headers tell it, and the batches that can be read only in part: of
    /// these their records have to be asked.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn largest_known(&self, end: Offset) -> Result<(Option<i64>, Vec<Candidate>), LogError> {
        let (mut largest, mut in_part) = (None, Vec::new());
        let end = end.min(self.readable_end(self.start)?);
        for segment in self.segments.iter().filter(|segment| segment.end > self.start) {
            if segment.base >= end {
                break;
            }
            if segment.base >= self.start && segment.end <= end {
                let summary = segment.summary(&self.place, self.config.index_interval_bytes)?;
                largest = largest.max(summary.largest_timestamp());
                continue;
            }
            let mut next = self.locate(segment, self.start)?;
            while let Some(batch) = next.filter(|batch| batch.header.base_offset < end) {
                if batch.header.record_count == 0 {
                    // no record has its timestamp
                } else if batch.header.base_offset >= self.start && batch.header.end_offset() <= end
                {
                    largest = largest.max(Some(batch.header.max_timestamp));
                } else {
                    in_part.push(self.as_candidate(segment, &batch, end)?);
                }
                next = self.batch_behind(segment, &batch)?;
            }
        }
        Ok((largest, in_part))
    }

    /// A slice of the mapping, unless what is behind `end` may still be cut off.
    fn as_candidate(
        &self,
        segment: &Segment<D>,
        batch: &Located,
        end: Offset,
    ) -> Result<Candidate, LogError> {
        let (from, to) = (batch.position + OVERHEAD as u64, batch.end_position());
        let payload = match batch.header.end_offset() <= end {
            true => segment.view(&self.place, from, to)?,
            false => segment.copy(&self.place, from, to)?,
        };
        let (header, position) = (batch.header, batch.position);
        Ok(Candidate { header, payload, readable: self.start..end, position })
    }

    /// S7: the first record below `end` whose timestamp is at least this. Unpacks on this thread.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn find_by_timestamp(
        &self,
        timestamp_ms: i64,
        end: Offset,
    ) -> Result<Option<TimestampHit>, LogError> {
        let mut from = self.start;
        while let Some(candidate) = self.candidate(timestamp_ms, from, end)? {
            let found =
                self.unpacked(&candidate, |records| candidate.first_from(records, timestamp_ms))?;
            if found.is_some() {
                return Ok(found);
            }
            from = candidate.header.end_offset();
        }
        Ok(None)
    }

    /// The first of the records below `end` that have the largest timestamp. Unpacks on this thread.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn find_max_timestamp(&self, end: Offset) -> Result<Option<TimestampHit>, LogError> {
        let (mut largest, in_part) = self.largest_known(end)?;
        for candidate in &in_part {
            largest = largest.max(self.unpacked(candidate, |records| candidate.largest(records))?);
        }
        match largest {
            Some(largest) => self.find_by_timestamp(largest, end),
            None => Ok(None),
        }
    }

    fn unpacked<T>(
        &self,
        candidate: &Candidate,
        look: impl FnOnce(&[u8]) -> Result<T, BatchError>,
    ) -> Result<T, LogError> {
        let Candidate { header, payload, .. } = candidate;
        let records = RecordSet::decode(header, payload.clone(), Limits::default());
        records.and_then(|records| look(records.payload())).map_err(|error| {
            let segment = self.segment_of(header.base_offset).and_then(|n| self.segments.get(n));
            let path = segment.map(|segment| segment.log_path(&self.place)).unwrap_or_default();
            LogError::CorruptLog { path, position: candidate.position, cause: error.to_string() }
        })
    }

    fn batch_behind(
        &self,
        segment: &Segment<D>,
        batch: &Located,
    ) -> Result<Option<Located>, LogError> {
        let position = batch.end_position();
        match position < segment.size {
            true => segment.batch_at(&self.place, position).map(Some),
            false => Ok(None),
        }
    }
}
