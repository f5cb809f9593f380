//! Which leader epoch each offset was written in: what truncation goes by (R20–R24, KIP-101).

use troupe_proto::ids::{LeaderEpoch, Offset};

/// Epochs with their first offsets; both grow strictly from entry to entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// From a file; `None` if that contradicts itself.
    pub(crate) fn from_entries(entries: Vec<(LeaderEpoch, Offset)>) -> Option<Epochs> {
        let grows = entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1);
        grows.then_some(Epochs { entries })
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// From `start` on, batches are of `epoch`. Entries that this contradicts go; among them a newer epoch
    /// that never got a batch. True if anything changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.latest() == Some(epoch) {
            return false;
        }
        while self.entries.last().is_some_and(|(_, other_start)| *other_start >= start) {
            self.entries.pop();
        }
        if self.latest() == Some(epoch) {
            return true;
        }
        self.entries.retain(|(other, other_start)| *other < epoch && *other_start < start);
        self.entries.push((epoch, start));
        true
    }

    /// The log ends at `end`: epochs that begin there or later have no records. True if anything changed.
    pub(crate) fn truncate_from_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        self.entries.len() != before
    }

    /// The log starts at `log_start`: epochs that end before go, the one that spans it begins there.
    pub(crate) fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let gone = self.entries.partition_point(|(_, start)| *start <= log_start);
        let Some(spanning) = gone.checked_sub(1) else { return false };
        let changed = spanning > 0 || self.entries[spanning].1 != log_start;
        self.entries.drain(..spanning);
        self.entries[0].1 = log_start;
        changed
    }

    /// R21: the largest epoch not above `epoch`, and where it ends: at the next one's start or `log_end`.
    pub(crate) fn end_offset(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let next = self.entries.partition_point(|(other, _)| *other <= epoch);
        let (found, _) = self.entries.get(next.checked_sub(1)?)?;
        let end = self.entries.get(next).map_or(log_end, |(_, start)| *start);
        Some((*found, end))
    }

    /// The epoch that `offset` was or will be written in.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let next = self.entries.partition_point(|(_, start)| *start <= offset);
        self.entries.get(next.checked_sub(1)?).map(|(epoch, _)| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(entries: &[(u32, u64)]) -> Epochs {
        let entries = entries.iter().map(|(e, o)| (LeaderEpoch(*e), Offset(*o))).collect();
        Epochs::from_entries(entries).unwrap()
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_or_the_log_end() {
        let epochs = epochs(&[(0, 0), (2, 10), (5, 30)]);
        let end =
            |epoch| epochs.end_offset(LeaderEpoch(epoch), Offset(40)).map(|(e, o)| (e.0, o.0));
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(2), Some((2, 30)));
        assert_eq!(end(4), Some((2, 30)));
        assert_eq!(end(9), Some((5, 40)));
        assert_eq!(Epochs::default().end_offset(LeaderEpoch(3), Offset(0)), None);
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut epochs = epochs(&[(0, 0), (3, 10)]);
        assert!(epochs.assign(LeaderEpoch(4), Offset(10)));
        assert_eq!(epochs.entries(), [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(10))]);
    }

    /// Who led for a moment and wrote nothing follows a leader that still has batches of the epoch before.
    #[test]
    fn an_epoch_that_goes_on_behind_one_without_records_keeps_its_start() {
        let mut some = epochs(&[(0, 0), (4, 5), (5, 10)]);
        assert!(some.assign(LeaderEpoch(4), Offset(10)));
        assert_eq!(some, epochs(&[(0, 0), (4, 5)]));
        assert!(!some.assign(LeaderEpoch(4), Offset(11)));
    }

    #[test]
    fn deleting_the_start_keeps_the_epoch_that_spans_it() {
        let mut some = epochs(&[(0, 0), (3, 10), (4, 20)]);
        assert!(some.truncate_from_start(Offset(15)));
        assert_eq!(some, epochs(&[(3, 15), (4, 20)]));
        assert!(!some.truncate_from_start(Offset(15)));
        assert!(some.truncate_from_start(Offset(20)));
        assert_eq!(some, epochs(&[(4, 20)]));
    }

    proptest! {
        /// R24 and every other history: the cache answers as a list of one epoch per offset would.
        #[test]
        fn the_cache_agrees_with_a_list_of_epochs_per_offset(
            steps in prop::collection::vec((0u32..3, 0u64..5, prop::option::of(0u64..30)), 1..20),
            asked in 0u32..40,
        ) {
            let (mut cache, mut list, mut epoch) = (Epochs::default(), Vec::<u32>::new(), 0);
            for (bump, count, cut) in steps {
                epoch += bump;
                for _ in 0..count {
                    cache.assign(LeaderEpoch(epoch), Offset(list.len() as u64));
                    list.push(epoch);
                }
                if let Some(cut) = cut {
                    list.truncate(cut as usize);
                    cache.truncate_from_end(Offset(list.len() as u64));
                }
            }
            let log_end = Offset(list.len() as u64);
            let count = list.iter().filter(|epoch| **epoch <= asked).count();
            let expected = count.checked_sub(1)
                .map(|last| (LeaderEpoch(list[last]), Offset(count as u64)));
            prop_assert_eq!(cache.end_offset(LeaderEpoch(asked), log_end), expected);
            for (offset, epoch) in list.iter().enumerate() {
                prop_assert_eq!(cache.at(Offset(offset as u64)), Some(LeaderEpoch(*epoch)));
            }
        }
    }
}
