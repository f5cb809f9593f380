//! From an offset to a place in the segment where a scan for it may begin (S4, S5).
//!
//! Entry: four bytes of offset, relative to the segment's base, of a batch's last record, and four bytes of
//! the position where that batch starts. Big-endian, both strictly increasing.

use super::entries::{Entries, EntriesMark};
use bytes::Bytes;
use troupe_proto::ids::Offset;

#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base: Offset,
    pub(super) entries: Entries<{ OffsetIndex::ENTRY }>,
}

impl OffsetIndex {
    pub(crate) const ENTRY: usize = 8;

    pub(crate) fn empty(base: Offset) -> OffsetIndex {
        OffsetIndex { base, entries: Entries::empty() }
    }

    /// `None` if the entries are not in order or point beyond the segment's `size`.
    pub(crate) fn from_bytes(base: Offset, size: u64, bytes: Bytes) -> Option<OffsetIndex> {
        let index = OffsetIndex { base, entries: Entries::from_bytes(bytes)? };
        let ordered = index.entries.all().windows(2).all(|pair| {
            let ((a, p), (b, q)) = (split(&pair[0]), split(&pair[1]));
            a < b && p < q
        });
        let inside = index.last().is_none_or(|(_, position)| u64::from(position) < size);
        (ordered && inside).then_some(index)
    }

    /// A batch whose last record is at `last` starts at `position`. What does not fit into an entry gets
    /// none: an index may always have fewer.
    pub(crate) fn push(&mut self, last: Offset, position: u64) {
        let relative = last.0.checked_sub(self.base.0).and_then(|delta| u32::try_from(delta).ok());
        let (Some(relative), Ok(position)) = (relative, u32::try_from(position)) else { return };
        let mut entry = [0; Self::ENTRY];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&position.to_be_bytes());
        self.entries.push(entry);
    }

    /// Where to start scanning for `target`, and the last offset of the batch there: no batch before this position
    /// holds it or a later offset. `None`: at the start of the segment.
    pub(crate) fn floor(&self, target: Offset) -> Option<(Offset, u64)> {
        let relative = target.0.checked_sub(self.base.0)?;
        let next =
            self.entries.all().partition_point(|entry| u64::from(split(entry).0) <= relative);
        self.entry(next.checked_sub(1))
    }

    /// The furthest indexed position, not beyond `limit`, of a batch that ends before `end`: everything
    /// from the start of the segment up to there lies within both bounds. Beside it the batch's last offset.
    pub(crate) fn furthest(&self, limit: u64, end: Offset) -> Option<(Offset, u64)> {
        let relative = end.0.checked_sub(self.base.0)?;
        let next = self.entries.all().partition_point(|entry| {
            let (last, position) = split(entry);
            u64::from(position) <= limit && u64::from(last) < relative
        });
        self.entry(next.checked_sub(1))
    }

    pub(crate) fn last(&self) -> Option<(Offset, u32)> {
        let (relative, position) = split(self.entries.all().last()?);
        Some((self.base.plus(u64::from(relative)), position))
    }

    /// An entry as it stands in a file: last offset and position of a batch.
    pub(crate) fn parse(base: Offset, entry: &[u8; Self::ENTRY]) -> (Offset, u32) {
        let (relative, position) = split(entry);
        (base.plus(u64::from(relative)), position)
    }

    /// The entries of batches that start before `position`.
    pub(super) fn mark(&self, position: u64) -> EntriesMark {
        self.entries.mark(self.before(position))
    }

    pub(super) fn truncate(&mut self, size: u64) {
        self.entries.truncate(self.before(size));
    }

    fn before(&self, position: u64) -> usize {
        self.entries.all().partition_point(|entry| u64::from(split(entry).1) < position)
    }

    fn entry(&self, index: Option<usize>) -> Option<(Offset, u64)> {
        let (relative, position) = split(self.entries.get(index?)?);
        Some((self.base.plus(u64::from(relative)), u64::from(position)))
    }
}

impl std::ops::Deref for OffsetIndex {
    type Target = Entries<{ OffsetIndex::ENTRY }>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl std::ops::DerefMut for OffsetIndex {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

/// Relative offset and position.
fn split(entry: &[u8; OffsetIndex::ENTRY]) -> (u32, u32) {
    let (offset, position) = entry.split_at(4);
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("half of eight"));
    (number(offset), number(position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// S5's example: target 600 in segment 522 is scanned for from 6410.
    #[test]
    fn the_worked_example_of_the_notes_holds() {
        let mut index = OffsetIndex::empty(Offset(522));
        index.push(Offset(587), 6410);
        index.push(Offset(639), 13795);
        assert_eq!(index.floor(Offset(600)), Some((Offset(587), 6410)));
        assert_eq!(index.floor(Offset(586)), None);
        assert_eq!(index.floor(Offset(587)), Some((Offset(587), 6410)));
        assert_eq!(index.floor(Offset(700)), Some((Offset(639), 13795)));
    }

    #[test]
    fn entries_out_of_order_or_beyond_the_file_are_refused() {
        let mut index = OffsetIndex::empty(Offset(0));
        index.push(Offset(5), 100);
        index.push(Offset(4), 200);
        let bytes = Bytes::copy_from_slice(index.bytes());
        assert!(OffsetIndex::from_bytes(Offset(0), 1000, bytes.clone()).is_none());
        assert!(OffsetIndex::from_bytes(Offset(0), 100, bytes.slice(..8)).is_none());
        assert!(OffsetIndex::from_bytes(Offset(0), 101, bytes.slice(..8)).is_some());
        assert!(OffsetIndex::from_bytes(Offset(0), 101, bytes.slice(..7)).is_none());
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_linear_search(
            steps in prop::collection::vec((1u32..50, 1u32..5000), 0..40),
            target in 0u64..1200,
            limit in 0u64..100_000,
        ) {
            let base = Offset(100);
            let mut index = OffsetIndex::empty(base);
            let (mut offset, mut position, mut list) = (base.0, 0u64, Vec::new());
            for (offsets, bytes) in steps {
                offset += u64::from(offsets);
                position += u64::from(bytes);
                index.push(Offset(offset), position);
                list.push((offset, position));
            }
            let best = |keep: &dyn Fn(u64, u64) -> bool| {
                list.iter().filter(|(o, p)| keep(*o, *p)).map(|(o, p)| (Offset(*o), *p)).max()
            };
            prop_assert_eq!(index.floor(Offset(target)), best(&|o, _| o <= target));
            prop_assert_eq!(
                index.furthest(limit, Offset(target)),
                best(&|o, p| o < target && p <= limit)
            );
            let count = list.iter().filter(|(_, p)| *p < limit).count() as u64;
            prop_assert_eq!(index.mark(limit).count, count);
            index.truncate(limit);
            prop_assert_eq!(index.count() as u64, count);
        }
    }
}
