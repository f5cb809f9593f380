//! Reading: a range of whole batches from an offset on, and the offset for a timestamp.

use crate::disk::{Disk, is_resident};
use crate::segment::{Located, Segment};
use crate::{Log, LogError};
use bytes::Bytes;
use troupe_proto::batch::{BatchHeader, Limits, OVERHEAD, RecordSet};
use troupe_proto::ids::{LeaderEpoch, Offset};

/// Whole batches as they stand in the file: a serialised `RecordBatches`.
///
/// `first <= from < end`, unless it is empty: then `first == end == from`.
#[derive(Clone, Debug)]
pub struct ReadSlice {
    pub bytes: Bytes,
    /// Base offset of the first batch, which holds the offset asked for: earlier records are the reader's
    /// to skip (S29).
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
        let end = end.min(self.end);
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
        // leads nowhere, or too far, is no loss
        let indexes = segment.indexes(&self.place, self.config.index_interval_bytes)?;
        let leap = indexes.offsets.furthest(limit, end);
        if leap > reached.0
            && let Ok(batch) = segment.batch_at(&self.place, leap)
            && batch.header.base_offset <= end
        {
            reached = (leap, batch.header.base_offset);
        }
        while reached.0 < segment.size {
            let batch = segment.batch_at(&self.place, reached.0)?;
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
        segment.locate(&self.place, self.config.index_interval_bytes, target)
    }

    /// The headers of a segment from the batch that holds `from` on.
    pub(crate) fn each_header(
        &self,
        segment: &Segment<D>,
        from: Offset,
        each: &mut impl FnMut(&BatchHeader),
    ) -> Result<(), LogError> {
        let mut next = self.locate(segment, from)?;
        while let Some(batch) = next {
            each(&batch.header);
            let position = batch.end_position();
            next = match position < segment.size {
                true => Some(segment.batch_at(&self.place, position)?),
                false => None,
            };
        }
        Ok(())
    }

    /// S7: the first record below `end` whose timestamp is at least this.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn find_by_timestamp(
        &self,
        timestamp_ms: i64,
        end: Offset,
    ) -> Result<Option<TimestampHit>, LogError> {
        let interval = self.config.index_interval_bytes;
        for segment in self.segments.iter().filter(|segment| segment.end > self.start) {
            if segment.base >= end {
                break;
            }
            let largest = segment.summary(&self.place, interval)?.largest;
            if largest.is_none_or(|(largest, _)| largest < timestamp_ms) {
                continue;
            }
            let indexed = segment.indexes(&self.place, interval)?.times.floor(timestamp_ms);
            let mut next = self.locate(segment, indexed.max(self.start))?;
            while let Some(batch) = next.filter(|batch| batch.header.base_offset < end) {
                if batch.header.max_timestamp >= timestamp_ms {
                    let found = self.first_record(segment, &batch, timestamp_ms, end)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                next = self.batch_behind(segment, &batch)?;
            }
        }
        Ok(None)
    }

    /// The first of the records below `end` that have the largest timestamp.
    ///
    /// # Errors
    /// Files that cannot be read or are not what they were.
    pub fn find_max_timestamp(&self, end: Offset) -> Result<Option<TimestampHit>, LogError> {
        let mut largest: Option<i64> = None;
        for segment in self.segments.iter().filter(|segment| segment.end > self.start) {
            if segment.base >= end {
                break;
            }
            let summary = segment.summary(&self.place, self.config.index_interval_bytes)?;
            let whole = segment.base >= self.start && segment.end <= end;
            if whole {
                largest = largest.max(summary.largest.map(|(timestamp, _)| timestamp));
            } else {
                largest = largest.max(self.largest_readable(segment, end)?);
            }
        }
        match largest {
            Some(largest) => self.find_by_timestamp(largest, end),
            None => Ok(None),
        }
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

    /// The largest timestamp in a segment that is readable in part.
    fn largest_readable(&self, segment: &Segment<D>, end: Offset) -> Result<Option<i64>, LogError> {
        let mut largest = None;
        let mut next = self.locate(segment, self.start)?;
        while let Some(batch) = next.filter(|batch| batch.header.base_offset < end) {
            if batch.header.base_offset >= self.start && batch.header.end_offset() <= end {
                largest = largest.max(Some(batch.header.max_timestamp));
            } else {
                self.each_record(segment, &batch, end, |_, timestamp_ms| {
                    largest = largest.max(Some(timestamp_ms));
                    true
                })?;
            }
            next = self.batch_behind(segment, &batch)?;
        }
        Ok(largest)
    }

    /// The first readable record of the batch that is not older.
    fn first_record(
        &self,
        segment: &Segment<D>,
        batch: &Located,
        timestamp_ms: i64,
        end: Offset,
    ) -> Result<Option<TimestampHit>, LogError> {
        let mut found = None;
        self.each_record(segment, batch, end, |offset, timestamp| {
            if timestamp >= timestamp_ms {
                let leader_epoch = batch.header.leader_epoch;
                found = Some(TimestampHit { offset, timestamp_ms: timestamp, leader_epoch });
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Offset and timestamp of every record of the batch that is readable below `end`, until `each` has
    /// enough. This unpacks the payload.
    fn each_record(
        &self,
        segment: &Segment<D>,
        batch: &Located,
        end: Offset,
        mut each: impl FnMut(Offset, i64) -> bool,
    ) -> Result<(), LogError> {
        let from = batch.position + OVERHEAD as u64;
        let payload = segment.copy(&self.place, from, batch.end_position())?;
        let corrupt = |cause: String| LogError::CorruptLog {
            path: segment.log_path(&self.place),
            position: batch.position,
            cause,
        };
        let records = RecordSet::decode(&batch.header, payload, Limits::default())
            .map_err(|error| corrupt(error.to_string()))?;
        for record in records.iter() {
            let record = record.map_err(|error| corrupt(error.to_string()))?;
            let is_readable = record.offset >= self.start && record.offset < end;
            if is_readable && !each(record.offset, record.timestamp_ms) {
                break;
            }
        }
        Ok(())
    }
}
