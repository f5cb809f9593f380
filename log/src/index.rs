//! The two sparse indexes of a segment, and the rule when an entry is made.
//!
//! The indexes of the segment that takes appends live in memory and reach their files when it is closed and
//! at checkpoints; those of closed segments are mapped. Whatever is missing is rebuilt from the log: an
//! index never knows anything that the log does not.

mod entries;
mod offset;
mod time;

pub(crate) use entries::EntriesMark;
pub(crate) use offset::OffsetIndex;
pub(crate) use time::TimeIndex;

use crate::segment::Summary;
use bytes::Bytes;
use troupe_proto::batch::BatchHeader;
use troupe_proto::ids::Offset;

/// How much of both indexes a checkpoint vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offsets: EntriesMark,
    pub(crate) times: EntriesMark,
}

/// Both indexes of one segment.
#[derive(Debug)]
pub(crate) struct Indexes {
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    /// Bytes of log behind the batch of the last entry, that batch included.
    since_entry: u64,
}

impl Indexes {
    pub(crate) fn empty(base: Offset) -> Indexes {
        Indexes { offsets: OffsetIndex::empty(base), times: TimeIndex::empty(base), since_entry: 0 }
    }

    /// Of a closed segment of `size` bytes, as its files say; `None` if that cannot be.
    pub(crate) fn from_files(
        base: Offset,
        size: u64,
        offsets: Bytes,
        times: Bytes,
    ) -> Option<Indexes> {
        let offsets = OffsetIndex::from_bytes(base, size, offsets)?;
        let times = TimeIndex::from_bytes(base, times)?;
        Some(Indexes { offsets, times, since_entry: 0 })
    }

    /// The part of the files that a checkpoint vouches for, to go on from `size` bytes of log.
    pub(crate) fn from_marked(
        base: Offset,
        size: u64,
        mark: &Mark,
        offsets: &[u8],
        times: &[u8],
    ) -> Option<Indexes> {
        let offsets =
            Bytes::copy_from_slice(mark.offsets.check::<{ OffsetIndex::ENTRY }>(offsets)?);
        let times = Bytes::copy_from_slice(mark.times.check::<{ TimeIndex::ENTRY }>(times)?);
        let mut indexes = Indexes::from_files(base, size, offsets, times)?;
        let last = indexes.offsets.last().map_or(0, |(_, position)| u64::from(position));
        indexes.since_entry = size - last;
        indexes.grow();
        indexes.offsets.set_stale();
        indexes.times.set_stale();
        Some(indexes)
    }

    /// Makes room for appends: entries move into memory of their own.
    pub(crate) fn grow(&mut self) {
        self.offsets.entries.grow();
        self.times.entries.grow();
    }

    /// A batch was appended at `position`; `summary` includes it. S4, S6.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        position: u64,
        summary: &Summary,
        interval: u32,
    ) {
        if self.since_entry > u64::from(interval) {
            self.offsets.push(header.last_offset(), position);
            self.note_largest(summary);
            self.since_entry = 0;
        }
        self.since_entry += header.encoded_len() as u64;
    }

    /// Before a segment is closed: its last time entry is its largest timestamp.
    pub(crate) fn note_largest(&mut self, summary: &Summary) {
        if let Some((timestamp, offset)) = summary.largest {
            self.times.push(timestamp, offset);
        }
    }

    /// Whether `segment_index_bytes` leaves no room for another entry; one of time is kept for closing.
    pub(crate) fn is_full(&self, segment_index_bytes: u32) -> bool {
        let limit = segment_index_bytes as usize;
        self.offsets.entries.count() >= limit / OffsetIndex::ENTRY
            || self.times.entries.count() + 1 >= limit / TimeIndex::ENTRY
    }

    /// Whether so many more entries fit into both.
    pub(crate) fn has_room_for(&self, entries: u64, segment_index_bytes: u32) -> bool {
        let limit = u64::from(segment_index_bytes);
        (self.offsets.entries.count() as u64 + entries) * OffsetIndex::ENTRY as u64 <= limit
            && (self.times.entries.count() as u64 + entries) * TimeIndex::ENTRY as u64 <= limit
    }

    /// What a checkpoint may vouch for if it covers the segment up to `end` at `position`.
    pub(crate) fn mark(&self, end: Offset, position: u64) -> Mark {
        Mark { offsets: self.offsets.mark(position), times: self.times.mark(end) }
    }

    /// The log was cut to `size` bytes, which end at offset `end`.
    pub(crate) fn truncate(&mut self, end: Offset, size: u64) {
        self.grow();
        self.offsets.truncate(size);
        self.times.truncate(end);
        let last = self.offsets.last().map_or(0, |(_, position)| u64::from(position));
        self.since_entry = size - last;
    }
}
