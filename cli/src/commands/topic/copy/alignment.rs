//! Where a copy goes on: which records of the source stand in the target already.
//!
//! A position says that all of the source below one offset was copied when the target ended at another. What the target
//! has behind that was copied later, in the order of the source, by a copy that could not write its position any more.
//! So the records themselves tell how far it came: those of the target are looked for among the first ones of the source,
//! of which there are no more. Compaction may have removed some on either side since.
//!
//! Promises: no record that was not copied is skipped. Never here: reading.

use std::collections::{BTreeSet, HashMap};
use troupe_proto::ids::Offset;

/// What tells a record from others: a hash of its content.
pub type Fingerprint = [u64; 2];

/// The target has a record that is none of the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Which of the target's records, counted from 0.
    pub index: usize,
}

/// Records of both sides behind a position.
#[derive(Clone, Debug, Default)]
pub struct Behind {
    /// How many offsets the target has behind the position.
    pub appended: u64,
    /// The records at them; compaction may have removed some.
    pub copied: Vec<Fingerprint>,
    /// How many offsets the source has.
    pub available: u64,
    /// The first records at them, at the most so many as were appended to the target.
    pub source: Vec<(Offset, Fingerprint)>,
}

impl Behind {
    /// The offset of the source to read on from, if `from` is the position's.
    ///
    /// # Errors
    /// [`Foreign`]
    pub fn resume(&self, from: Offset) -> Result<Offset, Foreign> {
        let mut places: HashMap<Fingerprint, BTreeSet<usize>> = HashMap::new();
        for (place, fingerprint) in self.copied.iter().enumerate() {
            places.entry(*fingerprint).or_default().insert(place);
        }
        let (mut next, mut passed, mut unmatched) = (from, 0, None);
        for (offset, fingerprint) in &self.source {
            let place = places.get(fingerprint).and_then(|places| places.range(passed..).next());
            let Some(place) = place.copied() else { continue };
            if place > passed {
                unmatched = unmatched.or(Some(passed));
            }
            passed = place + 1;
            next = Offset(offset.0 + 1);
        }
        if passed < self.copied.len() {
            unmatched = unmatched.or(Some(passed));
        }
        match unmatched {
            Some(index) if self.is_whole(from) => Err(Foreign { index }),
            _ => Ok(next),
        }
    }

    /// Whether no record is missing on either side: then each of the target's has to be one of the source's.
    fn is_whole(&self, from: Offset) -> bool {
        let expected = self.available.min(self.appended);
        let end = self.source.last().map_or(from.0, |(last, _)| last.0 + 1);
        let source = self.source.len() as u64;
        source == expected && end - from.0 == source && self.copied.len() as u64 == self.appended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(number: u64) -> Fingerprint {
        [number, !number]
    }

    fn source(numbers: &[(u64, u64)]) -> Vec<(Offset, Fingerprint)> {
        numbers.iter().map(|(offset, number)| (Offset(*offset), print(*number))).collect()
    }

    /// Without gaps in the target, and with a source that ends at 20.
    fn resumed(copied: &[u64], of: &[(u64, u64)]) -> Result<u64, usize> {
        let copied: Vec<_> = copied.iter().copied().map(print).collect();
        let appended = copied.len() as u64;
        let behind = Behind { appended, copied, available: 10, source: source(of) };
        behind.resume(Offset(10)).map(|offset| offset.0).map_err(|foreign| foreign.index)
    }

    #[test]
    fn what_was_copied_is_not_copied_again() {
        assert_eq!(resumed(&[], &[]), Ok(10));
        assert_eq!(resumed(&[1, 2], &[(10, 1), (11, 2)]), Ok(12));
        // two equal ones, of which both were copied
        assert_eq!(resumed(&[1, 1], &[(10, 1), (11, 1)]), Ok(12));
    }

    #[test]
    fn what_compaction_has_removed_from_the_source_since_counts_as_copied() {
        assert_eq!(resumed(&[1, 2, 3], &[(11, 2), (12, 3), (13, 4)]), Ok(13));
        assert_eq!(resumed(&[1, 2, 3], &[(13, 4), (14, 5), (15, 6)]), Ok(10));
        assert_eq!(resumed(&[1, 2, 3], &[(10, 1), (13, 4), (14, 5)]), Ok(11));
    }

    #[test]
    fn what_compaction_has_removed_from_the_target_since_counts_as_copied() {
        let behind = Behind {
            appended: 3,
            copied: vec![print(2), print(3)],
            available: 10,
            source: source(&[(10, 1), (11, 2), (12, 3)]),
        };
        assert_eq!(behind.resume(Offset(10)), Ok(Offset(13)));
    }

    #[test]
    fn records_of_somebody_else_are_told() {
        assert_eq!(resumed(&[9], &[(10, 1)]), Err(0));
        assert_eq!(resumed(&[1, 9], &[(10, 1), (11, 2)]), Err(1));
        assert_eq!(resumed(&[9, 1], &[(10, 1), (11, 2)]), Err(0));
        let behind = Behind { appended: 1, copied: vec![print(1)], ..Behind::default() };
        assert_eq!(behind.resume(Offset(10)), Err(Foreign { index: 0 }), "the source has nothing");
    }

    proptest! {
        /// Of a source whose records may be compacted, any prefix was copied: nothing behind it is skipped, and nothing
        /// of it comes twice.
        #[test]
        fn a_copy_goes_on_exactly_where_it_stopped(
            count in 0usize..40,
            copied in 0usize..40,
            removed in prop::collection::btree_set(0u64..40, 0..20),
        ) {
            let copied = copied.min(count) as u64;
            let left = (0..count as u64).filter(|number| !removed.contains(number));
            let source = left.map(|number| (Offset(10 + number), print(number)));
            let behind = Behind {
                appended: copied,
                copied: (0..copied).map(print).collect(),
                available: count as u64,
                source: source.take(copied as usize).collect(),
            };
            let next = behind.resume(Offset(10)).unwrap();
            prop_assert!(next.0 <= 10 + copied, "something was skipped");
            let twice = |offset: &Offset| *offset >= next && offset.0 < 10 + copied;
            prop_assert!(!behind.source.iter().any(|(offset, _)| twice(offset)), "something comes twice");
        }

        /// Equal records are told apart by nothing: none is skipped all the same.
        #[test]
        fn equal_records_are_not_skipped(values in prop::collection::vec(0u64..3, 0..30), copied in 0usize..30) {
            let copied = copied.min(values.len());
            let source = values.iter().zip(10..).map(|(value, offset)| (Offset(offset), print(*value)));
            let behind = Behind {
                appended: copied as u64,
                copied: values[..copied].iter().copied().map(print).collect(),
                available: values.len() as u64,
                source: source.take(copied).collect(),
            };
            prop_assert_eq!(behind.resume(Offset(10)), Ok(Offset(10 + copied as u64)));
        }
    }
}
