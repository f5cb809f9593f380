//! From a timestamp to an offset where a scan for it may begin (S6, S7).
//!
//! Entry: eight bytes of the largest timestamp so far, and four bytes of the offset, relative to the
//! segment's base, of the last record of the batch that brought it. Big-endian, both strictly increasing.

use super::entries::{Entries, EntriesMark};
use bytes::Bytes;
use troupe_proto::ids::Offset;

#[derive(Debug)]
pub(crate) struct TimeIndex {
    base: Offset,
    pub(super) entries: Entries<{ TimeIndex::ENTRY }>,
}

impl TimeIndex {
    pub(crate) const ENTRY: usize = 12;

    pub(crate) fn empty(base: Offset) -> TimeIndex {
        TimeIndex { base, entries: Entries::empty() }
    }

    /// `None` if the entries are not in order.
    pub(crate) fn from_bytes(base: Offset, bytes: Bytes) -> Option<TimeIndex> {
        let index = TimeIndex { base, entries: Entries::from_bytes(bytes)? };
        let ordered = index.entries.all().windows(2).all(|pair| {
            let ((t, a), (u, b)) = (split(&pair[0]), split(&pair[1]));
            t < u && a < b
        });
        ordered.then_some(index)
    }

    /// The largest timestamp so far, brought by the batch whose last record is at `last`. Nothing happens
    /// if the last entry says the same.
    pub(crate) fn push(&mut self, timestamp: i64, last: Offset) {
        let relative = last.0.checked_sub(self.base.0).and_then(|delta| u32::try_from(delta).ok());
        let Some(relative) = relative else { return };
        if self.entries.all().last().is_some_and(|entry| split(entry).0 >= timestamp) {
            return;
        }
        let mut entry = [0; Self::ENTRY];
        entry[..8].copy_from_slice(&timestamp.to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        self.entries.push(entry);
    }

    /// All records before this offset's batch, and those in it too, are older than `timestamp`: a scan may begin with
    /// it. Beside it the batch's own timestamp. `None`: at the start of the segment.
    pub(crate) fn floor(&self, timestamp: i64) -> Option<(i64, Offset)> {
        let next = self.entries.all().partition_point(|entry| split(entry).0 < timestamp);
        let (found, relative) = split(self.entries.get(next.checked_sub(1)?)?);
        Some((found, self.base.plus(u64::from(relative))))
    }

    pub(crate) fn last(&self) -> Option<(i64, Offset)> {
        let (timestamp, relative) = split(self.entries.all().last()?);
        Some((timestamp, self.base.plus(u64::from(relative))))
    }

    /// An entry as it stands in a file: a timestamp, and the last offset of the batch that brought it.
    pub(crate) fn parse(base: Offset, entry: &[u8; Self::ENTRY]) -> (i64, Offset) {
        let (timestamp, relative) = split(entry);
        (timestamp, base.plus(u64::from(relative)))
    }

    /// The entries of batches before `end`.
    pub(super) fn mark(&self, end: Offset) -> EntriesMark {
        self.entries.mark(self.before(end))
    }

    pub(super) fn truncate(&mut self, end: Offset) {
        self.entries.truncate(self.before(end));
    }

    fn before(&self, end: Offset) -> usize {
        let relative = end.0.saturating_sub(self.base.0);
        self.entries.all().partition_point(|entry| u64::from(split(entry).1) < relative)
    }
}

impl std::ops::Deref for TimeIndex {
    type Target = Entries<{ TimeIndex::ENTRY }>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl std::ops::DerefMut for TimeIndex {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

/// Timestamp and relative offset.
fn split(entry: &[u8; TimeIndex::ENTRY]) -> (i64, u32) {
    let (timestamp, offset) = entry.split_at(8);
    (
        i64::from_be_bytes(timestamp.try_into().expect("eight of twelve")),
        u32::from_be_bytes(offset.try_into().expect("four of twelve")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_record_before_the_floor_is_young_enough(
            timestamps in prop::collection::vec(-20i64..60, 1..40),
            every in 1usize..5,
            wanted in -30i64..70,
        ) {
            let mut index = TimeIndex::empty(Offset(7));
            let mut largest: Option<(i64, Offset)> = None;
            for (i, timestamp) in timestamps.iter().enumerate() {
                if largest.is_none_or(|(other, _)| *timestamp > other) {
                    largest = Some((*timestamp, Offset(7 + i as u64)));
                }
                if i % every == 0 || i == timestamps.len() - 1 {
                    let (timestamp, offset) = largest.unwrap();
                    index.push(timestamp, offset);
                }
            }
            let floor = index.floor(wanted).map_or(0, |(_, offset)| (offset.0 - 7) as usize);
            prop_assert!(timestamps[..floor].iter().all(|timestamp| *timestamp < wanted));
            prop_assert_eq!(index.last(), largest);
            let bytes = Bytes::copy_from_slice(index.bytes());
            prop_assert!(TimeIndex::from_bytes(Offset(7), bytes).is_some());
        }
    }
}
