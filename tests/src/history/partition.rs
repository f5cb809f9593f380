//! Everything that became of one partition: what each producer sent to it and was told, and what readers saw
//! in it while things happened.

use super::{Anomalies, History, Outcome, Stored, gaps, show};
use std::collections::BTreeMap;
use std::fmt;

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// acks=all: what was acknowledged stays.
    Durable,
    /// acks=1: it may be lost with the leader. It may not come twice, elsewhere or in another order.
    LeaderOnly,
    /// acks=all, and each record is sent after the answer to the one before, by way of whichever node: what was
    /// acknowledged stays, but a record without an answer may come after later ones.
    OneByOne,
}

/// See the module. Values are unique over all producers.
#[derive(Clone, Debug, Default)]
pub struct PartitionHistory {
    producers: Vec<(Promise, History)>,
    seen: BTreeMap<u64, Vec<u8>>,
    unstable: Vec<u64>,
}

/// What is wrong with a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionAnomalies {
    /// By producer, in the order in which they were added.
    pub producers: Vec<Anomalies>,
    /// Offsets that hold what nobody sent.
    pub invented: Vec<u64>,
    /// Offsets before which some are missing.
    pub gaps: Vec<u64>,
    /// Offsets that a reader has seen, and that are not there any more or hold something else.
    pub unseen: Vec<u64>,
    /// Offsets at which two readers saw different records.
    pub unstable: Vec<u64>,
}

impl PartitionHistory {
    /// One producer more; its number.
    pub fn add_producer(&mut self, promise: Promise) -> usize {
        self.producers.push((promise, History::default()));
        self.producers.len() - 1
    }

    /// Notes a record before it is sent; its place in that producer's order of sending.
    pub fn sending(&mut self, producer: usize, value: Vec<u8>) -> usize {
        self.producers[producer].1.sending(value)
    }

    /// Notes the answer. Without one, the outcome is unknown.
    pub fn answered(&mut self, producer: usize, place: usize, outcome: Outcome) {
        self.producers[producer].1.answered(place, outcome);
    }

    /// Notes what a reader saw.
    pub fn saw(&mut self, offset: u64, value: Vec<u8>) {
        match self.seen.get(&offset) {
            Some(before) if *before != value => self.unstable.push(offset),
            Some(_) => {}
            None => {
                self.seen.insert(offset, value);
            }
        }
    }

    /// What the producers were told.
    pub fn producers(&self) -> impl Iterator<Item = &History> {
        self.producers.iter().map(|(_, history)| history)
    }

    /// Records of durable producers that were not acknowledged in the end: none, unless something stood in the
    /// way for as long as they try.
    pub fn undelivered(&self) -> usize {
        let durable = self.producers.iter().filter(|(promise, _)| *promise == Promise::Durable);
        durable.map(|(_, history)| history.sent() - history.acknowledged()).sum()
    }

    /// Offsets at which readers saw something.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Compares with everything that the partition holds, from its first record to its last.
    pub fn judge(&self, stored: &[Stored]) -> PartitionAnomalies {
        let mut places: BTreeMap<&[u8], (usize, usize)> = BTreeMap::new();
        for (producer, (_, history)) in self.producers.iter().enumerate() {
            for (value, place) in history.places() {
                let before = places.insert(value, (producer, place));
                assert_eq!(before, None, "two producers send the same value");
            }
        }
        let mut own = vec![Vec::new(); self.producers.len()];
        let mut invented = Vec::new();
        for (offset, value) in stored {
            match places.get(&value[..]) {
                Some(&(producer, place)) => own[producer].push((*offset, place)),
                None => invented.push(*offset),
            }
        }
        let judged = self.producers.iter().zip(own).map(|((promise, history), own)| {
            let mut anomalies = history.judge_own(&own);
            match promise {
                Promise::Durable => {}
                Promise::LeaderOnly => anomalies.lost.clear(),
                Promise::OneByOne => anomalies.reordered.retain(|place| history.has_answer(*place)),
            }
            anomalies
        });
        PartitionAnomalies {
            producers: judged.collect(),
            invented,
            gaps: gaps(stored),
            unseen: self.not_in(stored),
            unstable: self.unstable.clone(),
        }
    }

    /// Seen, and not there.
    fn not_in(&self, stored: &[Stored]) -> Vec<u64> {
        let stored: BTreeMap<u64, &[u8]> =
            stored.iter().map(|(offset, value)| (*offset, &value[..])).collect();
        let seen = self.seen.iter();
        seen.filter(|(offset, value)| stored.get(offset) != Some(&&value[..]))
            .map(|(offset, _)| *offset)
            .collect()
    }
}

impl PartitionAnomalies {
    pub fn is_empty(&self) -> bool {
        let PartitionAnomalies { producers, invented, gaps, unseen, unstable } = self;
        producers.iter().all(Anomalies::is_empty)
            && [invented, gaps, unseen, unstable].into_iter().all(Vec::is_empty)
    }
}

impl fmt::Display for PartitionAnomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing is wrong");
        }
        for (producer, anomalies) in self.producers.iter().enumerate() {
            if !anomalies.is_empty() {
                write!(f, "producer {producer}: {anomalies}")?;
            }
        }
        show(f, "invented, at offsets", &self.invented)?;
        show(f, "gaps, before offsets", &self.gaps)?;
        show(f, "seen and gone, at offsets", &self.unseen)?;
        show(f, "seen differently, at offsets", &self.unstable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Producer 0, durable: a at 0, b at 2, c refused. Producer 1, leader only: x at 1, y at 3, z unanswered.
    /// A reader saw a, x and b.
    fn history() -> PartitionHistory {
        let mut history = PartitionHistory::default();
        for (promise, values) in
            [(Promise::Durable, ["a", "b", "c"]), (Promise::LeaderOnly, ["x", "y", "z"])]
        {
            let producer = history.add_producer(promise);
            for value in values {
                history.sending(producer, value.into());
            }
        }
        for (producer, place, offset) in [(0, 0, 0), (0, 1, 2), (1, 0, 1), (1, 1, 3)] {
            history.answered(producer, place, Outcome::Acknowledged(offset));
        }
        history.answered(0, 2, Outcome::Refused);
        for (offset, value) in [(0, "a"), (1, "x"), (2, "b")] {
            history.saw(offset, value.into());
        }
        history
    }

    fn judge(values: &[&str]) -> PartitionAnomalies {
        let stored: Vec<Stored> =
            (0..).zip(values).map(|(offset, value)| (offset, value.as_bytes().to_vec())).collect();
        history().judge(&stored)
    }

    #[test]
    fn what_may_be_is_not_wrong() {
        for values in [&["a", "x", "b", "y"][..], &["a", "x", "b", "y", "z"], &["a", "x", "b"]] {
            assert!(judge(values).is_empty(), "{}", judge(values));
        }
        assert_eq!(history().seen(), 3);
        assert_eq!(history().producers().map(History::refused).sum::<usize>(), 1);
        assert_eq!(history().undelivered(), 1);
    }

    #[test]
    fn a_record_without_an_answer_may_come_late() {
        let judge = |promise, answered: &[(usize, u64)]| {
            let mut history = PartitionHistory::default();
            let producer = history.add_producer(promise);
            for value in ["a", "b", "c"] {
                history.sending(producer, value.into());
            }
            for &(place, offset) in answered {
                history.answered(producer, place, Outcome::Acknowledged(offset));
            }
            let stored = [(0, b"b".to_vec()), (1, b"a".to_vec()), (2, b"c".to_vec())];
            history.judge(&stored).producers[0].reordered.clone()
        };
        assert_eq!(judge(Promise::Durable, &[(1, 0), (2, 2)]), [0]);
        assert!(judge(Promise::OneByOne, &[(1, 0), (2, 2)]).is_empty());
        assert_eq!(judge(Promise::OneByOne, &[(0, 1), (1, 0), (2, 2)]), [0]);
    }

    /// A checker that finds nothing checks nothing.
    #[test]
    fn every_anomaly_is_found() {
        let lost = judge(&["a", "x"]);
        assert_eq!((&lost.producers[0].lost, &lost.unseen), (&vec![1], &vec![2]));
        assert_eq!(judge(&["a", "x", "b", "y", "y"]).producers[1].duplicated, [1]);
        assert_eq!(judge(&["a", "x", "b", "z", "y"]).producers[1].reordered, [1]);
        assert_eq!(judge(&["a", "x", "b", "z", "y"]).producers[1].moved, [1]);
        assert_eq!(judge(&["a", "x", "b", "c"]).producers[0].resurrected, [2]);
        assert_eq!(judge(&["a", "x", "b", "?"]).invented, [3]);
        let stored =
            [(0, b"a".to_vec()), (1, b"x".to_vec()), (2, b"b".to_vec()), (4, b"z".to_vec())];
        assert_eq!(history().judge(&stored).gaps, [4]);
        assert_eq!(judge(&["a", "z", "b"]).unseen, [1]);
        let mut history = history();
        history.saw(1, b"y".to_vec());
        assert_eq!(history.judge(&[]).unstable, [1]);
        assert!(lost.to_string().contains("producer 0: 1 lost: [1]"), "{lost}");
    }
}
