//! What readers of committed records are given (X12, X13): by nodes for clients of the thin API, and by SDKs themselves.
//!
//! Promise: of batches below the last stable offset, read in order from any of them on beside the list of what was aborted
//! among them, exactly those are kept whose records an application shall see.
//! Never here: up to where may be read. A batch at or above the last stable offset is of nobody's outcome yet.

use super::BatchHeader;
use crate::ids::{Offset, ProducerId};
use crate::log::v1::AbortedTransaction;

/// Sorts out the batches of one read: markers, and what aborted transactions wrote.
#[derive(Clone, Debug, Default)]
pub struct CommittedFilter {
    /// Not come to yet; the earliest is the last.
    ahead: Vec<(Offset, ProducerId)>,
    /// Whose transactional batches are of an aborted transaction, up to the next marker.
    aborting: Vec<ProducerId>,
}

impl CommittedFilter {
    /// `aborted`: producer and first offset of each aborted transaction that any of the batches is of, in any order.
    pub fn new(aborted: impl IntoIterator<Item = (ProducerId, Offset)>) -> CommittedFilter {
        let mut ahead: Vec<_> = aborted.into_iter().map(|(id, first)| (first, id)).collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        CommittedFilter { ahead, aborting: Vec::new() }
    }

    /// As a read was answered. What cannot be an aborted transaction is left out.
    pub fn from_wire(aborted: &[AbortedTransaction]) -> CommittedFilter {
        CommittedFilter::new(aborted.iter().filter_map(|one| {
            let first = u64::try_from(one.first_offset).ok()?;
            Some((ProducerId::from_wire(one.producer_id)?, Offset(first)))
        }))
    }

    /// Whether the next batch's records are for the application. To be asked once of each batch, in order.
    pub fn keep(&mut self, header: &BatchHeader) -> bool {
        while let Some((_, id)) = self.ahead.pop_if(|(first, _)| *first <= header.last_offset()) {
            self.aborting.push(id);
        }
        if header.attributes.is_control() {
            if let Some(stamp) = header.producer {
                self.aborting.retain(|id| *id != stamp.id);
            }
            return false;
        }
        match header.producer {
            Some(stamp) if header.attributes.is_transactional() => {
                !self.aborting.contains(&stamp.id)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Attributes, Compression, Marker, ProducerStamp, RecordSetBuilder};
    use crate::ids::{LeaderEpoch, ProducerEpoch, Sequence};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What producers do to a partition.
    #[derive(Clone, Debug)]
    enum Step {
        Plain { producer: Option<u64>, records: u32 },
        Transactional { producer: u64, records: u32 },
        End { producer: u64, commit: bool },
    }

    /// A batch, and whether an application shall see it.
    struct Written {
        header: BatchHeader,
        seen: bool,
    }

    /// An aborted transaction, from its first record to its marker.
    struct Aborted {
        producer: u64,
        first: u64,
        last: u64,
    }

    #[derive(Default)]
    struct History {
        batches: Vec<Written>,
        aborted: Vec<Aborted>,
        /// The positions of what each open transaction has written.
        open: BTreeMap<u64, Vec<usize>>,
        end: u64,
    }

    impl History {
        fn of(steps: &[Step]) -> History {
            let mut history = History::default();
            for step in steps {
                history.take(step);
            }
            for producer in history.open.keys().copied().collect::<Vec<_>>() {
                history.take(&Step::End { producer, commit: false });
            }
            history
        }

        fn take(&mut self, step: &Step) {
            match *step {
                Step::Plain { producer, records } => {
                    // A producer does not write outside of the transaction that it has open (X11).
                    let producer = producer.filter(|id| !self.open.contains_key(id));
                    self.append(data(producer, records, false), true);
                }
                Step::Transactional { producer, records } => {
                    let at = self.batches.len();
                    self.open.entry(producer).or_default().push(at);
                    self.append(data(Some(producer), records, true), true);
                }
                Step::End { producer, commit } => {
                    let Some(written) = self.open.remove(&producer) else { return };
                    let first = self.batches[written[0]].header.base_offset.0;
                    if !commit {
                        self.aborted.push(Aborted { producer, first, last: self.end });
                        written.iter().for_each(|at| self.batches[*at].seen = false);
                    }
                    let marker = Marker { committed: commit, coordinator_epoch: LeaderEpoch(1) };
                    let batch = marker.batch(ProducerId(producer), ProducerEpoch(1), 0).unwrap();
                    self.append(batch.header, false);
                }
            }
        }

        fn append(&mut self, mut header: BatchHeader, seen: bool) {
            header.base_offset = Offset(self.end);
            self.end = header.end_offset().0;
            self.batches.push(Written { header, seen });
        }

        /// A read of these batches, as a log answers it.
        fn read(&self, from: usize, to: usize) -> CommittedFilter {
            let (Some(first), Some(last)) = (self.batches.get(from), self.batches.get(to - 1))
            else {
                return CommittedFilter::default();
            };
            let (first, end) = (first.header.base_offset.0, last.header.end_offset().0);
            let overlaps = |one: &&Aborted| one.first < end && one.last >= first;
            let aborted: Vec<_> = self.aborted.iter().filter(overlaps).collect();
            CommittedFilter::from_wire(
                &aborted
                    .iter()
                    .map(|one| AbortedTransaction {
                        producer_id: one.producer,
                        first_offset: one.first as i64,
                    })
                    .collect::<Vec<_>>(),
            )
        }
    }

    fn data(producer: Option<u64>, records: u32, transactional: bool) -> BatchHeader {
        let mut builder = RecordSetBuilder::new();
        (0..records).for_each(|_| builder.push(0, None, Some(b"v"), &[]));
        let stamp = producer.map(|id| ProducerStamp {
            id: ProducerId(id),
            epoch: ProducerEpoch(1),
            base_sequence: Sequence(0),
        });
        let mut header = builder.finish(Compression::None, stamp).unwrap().header;
        header.attributes = Attributes::default().with_transactional(transactional);
        header
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (proptest::option::of(1u64..4), 1u32..4)
                .prop_map(|(producer, records)| Step::Plain { producer, records }),
            3 => (1u64..4, 1u32..4)
                .prop_map(|(producer, records)| Step::Transactional { producer, records }),
            2 => (1u64..4, any::<bool>())
                .prop_map(|(producer, commit)| Step::End { producer, commit }),
        ]
    }

    proptest! {
        #[test]
        fn readers_of_committed_records_see_what_was_committed_and_nothing_else(
            steps in proptest::collection::vec(step(), 0..60),
            from in any::<prop::sample::Index>(),
            len in any::<prop::sample::Index>(),
            cleaned in any::<bool>(),
        ) {
            let history = History::of(&steps);
            prop_assume!(!history.batches.is_empty());
            let from = from.index(history.batches.len());
            let to = from + 1 + len.index(history.batches.len() - from);
            let mut filter = history.read(from, to);
            for batch in &history.batches[from..to] {
                // Cleaning takes away what was aborted, and leaves the markers for a while.
                if cleaned && !batch.seen && !batch.header.attributes.is_control() {
                    continue;
                }
                prop_assert_eq!(filter.keep(&batch.header), batch.seen, "{:?}", batch.header);
            }
        }
    }

    #[test]
    fn the_same_producers_next_transaction_is_not_taken_for_the_aborted_one() {
        let end = |commit| Step::End { producer: 1, commit };
        let write = Step::Transactional { producer: 1, records: 2 };
        let history =
            History::of(&[write.clone(), end(false), write.clone(), end(true), write, end(false)]);
        let mut filter = history.read(0, history.batches.len());
        let kept: Vec<_> = history.batches.iter().map(|batch| filter.keep(&batch.header)).collect();
        assert_eq!(kept, [false, false, true, false, false, false]);
    }

    #[test]
    fn what_no_log_can_have_said_is_left_out() {
        let mut filter = CommittedFilter::from_wire(&[
            AbortedTransaction { producer_id: 0, first_offset: 0 },
            AbortedTransaction { producer_id: 1, first_offset: -1 },
        ]);
        assert!(filter.keep(&data(Some(1), 1, true)));
    }
}
