//! Whether the entries of a segment's indexes are true, and indexes that are made again because one was not.
//!
//! An index file has no checksum: an entry is believed when the batch that it names is what it says, which costs the
//! look at a header that whoever goes by it needs anyway.

use super::{Segment, Summary};
use crate::LogError;
use crate::disk::Disk;
use crate::place::{Kind, Place};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use troupe_proto::ids::Offset;

impl<D: Disk> Segment<D> {
    /// Whether an entry of the offset index is true. One that is not leads to another batch, or to none, and the log
    /// itself may be fine.
    pub(crate) fn leads_to(
        &self,
        place: &Place<D>,
        last: Offset,
        position: u64,
    ) -> Result<bool, LogError> {
        let leads = match self.batch_at(place, position) {
            Ok(batch) => batch.header.last_offset() == last,
            Err(LogError::CorruptLog { .. }) => false,
            Err(error) => return Err(error),
        };
        self.wrong_index.fetch_or(!leads, Ordering::Relaxed);
        Ok(leads)
    }

    /// Whether an entry of the time index is true: the batch that ends with `last` has this timestamp.
    pub(crate) fn brings(
        &self,
        place: &Place<D>,
        interval: u32,
        (timestamp, last): (i64, Offset),
    ) -> Result<bool, LogError> {
        let found = self.locate(place, interval, last)?.is_some_and(|batch| {
            batch.header.last_offset() == last && batch.header.max_timestamp == timestamp
        });
        self.wrong_index.fetch_or(!found, Ordering::Relaxed);
        Ok(found)
    }

    /// Whether an index of it was found to be wrong.
    pub(crate) fn has_wrong_index(&self) -> bool {
        self.wrong_index.load(Ordering::Relaxed)
    }

    /// What is known of the indexes is forgotten, and their files go: they are made again when they are needed.
    pub(crate) fn drop_indexes(&mut self, place: &Place<D>) -> Result<(), LogError> {
        for kind in [Kind::OffsetIndex, Kind::TimeIndex] {
            place.remove(&kind.name(self.base))?;
        }
        self.indexes.take();
        self.summary.take();
        self.wrong_index = AtomicBool::new(false);
        Ok(())
    }

    /// What is known of the indexes is made again from the batches in these bytes, in a segment that is no good before or
    /// behind.
    pub(crate) fn rebuild_within(
        &mut self,
        place: &Place<D>,
        interval: u32,
        range: Range<u64>,
    ) -> Result<(), LogError> {
        self.drop_indexes(place)?;
        let indexes = self.rebuild_indexes(place, interval, range)?;
        let _was_empty = self.indexes.set(indexes);
        Ok(())
    }

    /// The timestamps, from the batches alone.
    pub(super) fn summarize(&self, place: &Place<D>) -> Result<Summary, LogError> {
        let (mut summary, mut position) = (Summary::default(), 0);
        while position < self.size {
            let batch = self.batch_at(place, position)?;
            summary.note(&batch.header);
            position = batch.end_position();
        }
        Ok(summary)
    }
}
