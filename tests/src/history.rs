//! What became of every record that producers sent, and the judgement of what a log holds in the end.
//!
//! The rules are those of Jepsen's checker for logs: what was acknowledged is there once, at the offset
//! that was told, in the order of sending; nothing is there that was not sent, or that was surely refused.

mod partition;

pub use partition::{PartitionAnomalies, PartitionHistory, Promise};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a producer was told about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, at this offset.
    Acknowledged(u64),
    /// It surely is not in the log and never will be.
    Refused,
    /// It may be in the log, or not, or later.
    Unknown,
}

/// A record found in the log: its offset and its value.
pub type Stored = (u64, Vec<u8>);

/// Everything that one producer sent to one partition, in the order of sending. Values are unique.
#[derive(Clone, Debug, Default)]
pub struct History {
    sent: Vec<Vec<u8>>,
    outcomes: BTreeMap<usize, Outcome>,
}

/// What is wrong with a log. Each entry names the record by its place in the order of sending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anomalies {
    /// Acknowledged and not there.
    pub lost: Vec<usize>,
    /// There more than once.
    pub duplicated: Vec<usize>,
    /// Acknowledged at one offset, there at another.
    pub moved: Vec<usize>,
    /// Behind a record that was sent after it.
    pub reordered: Vec<usize>,
    /// There although it was surely refused.
    pub resurrected: Vec<usize>,
    /// Offsets that hold what nobody sent.
    pub invented: Vec<u64>,
    /// Offsets that are missing between the first and the last (T11), or out of order.
    pub gaps: Vec<u64>,
}

impl History {
    /// Notes a record before it is sent; its place in the order of sending.
    pub fn sending(&mut self, value: Vec<u8>) -> usize {
        self.sent.push(value);
        self.sent.len() - 1
    }

    /// Notes the answer. Without one, the outcome is unknown.
    pub fn answered(&mut self, place: usize, outcome: Outcome) {
        let before = self.outcomes.insert(place, outcome);
        assert_eq!(before, None, "record {place} was answered twice");
    }

    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    pub fn acknowledged(&self) -> usize {
        let told = self.outcomes.values();
        told.filter(|outcome| matches!(outcome, Outcome::Acknowledged(_))).count()
    }

    /// Records that surely were not stored.
    pub fn refused(&self) -> usize {
        self.outcomes.values().filter(|outcome| **outcome == Outcome::Refused).count()
    }

    fn has_answer(&self, place: usize) -> bool {
        self.outcomes.get(&place).is_some_and(|outcome| *outcome != Outcome::Unknown)
    }

    /// Compares with everything that the partition holds, from its first record to its last.
    pub fn judge(&self, stored: &[Stored]) -> Anomalies {
        let places = self.places();
        let placed = stored.iter().map(|(offset, value)| (*offset, places.get(&value[..])));
        let mut own = Vec::new();
        let mut invented = Vec::new();
        for (offset, place) in placed {
            match place {
                Some(&place) => own.push((offset, place)),
                None => invented.push(offset),
            }
        }
        Anomalies { invented, gaps: gaps(stored), ..self.judge_own(&own) }
    }

    /// By value, the place in the order of sending.
    fn places(&self) -> BTreeMap<&[u8], usize> {
        let places: BTreeMap<&[u8], usize> =
            self.sent.iter().enumerate().map(|(place, value)| (&value[..], place)).collect();
        assert_eq!(places.len(), self.sent.len(), "values are not unique");
        places
    }

    /// Compares with all that was found of this producer: offsets, and places in the order of sending.
    fn judge_own(&self, own: &[(u64, usize)]) -> Anomalies {
        let mut anomalies = Anomalies::default();
        let mut found: BTreeMap<usize, u64> = BTreeMap::new();
        let mut newest = None;
        for &(offset, place) in own {
            if found.contains_key(&place) {
                anomalies.duplicated.push(place);
                continue;
            }
            found.insert(place, offset);
            if newest.is_some_and(|newest| place < newest) {
                anomalies.reordered.push(place);
            }
            newest = newest.max(Some(place));
        }
        for (&place, outcome) in &self.outcomes {
            match (outcome, found.get(&place)) {
                (Outcome::Acknowledged(_), None) => anomalies.lost.push(place),
                (Outcome::Acknowledged(told), Some(offset)) if told != offset => {
                    anomalies.moved.push(place);
                }
                (Outcome::Refused, Some(_)) => anomalies.resurrected.push(place),
                _ => {}
            }
        }
        let duplicated: BTreeSet<usize> = anomalies.duplicated.iter().copied().collect();
        anomalies.duplicated = duplicated.into_iter().collect();
        anomalies
    }
}

/// Offsets that do not follow the one before.
fn gaps(stored: &[Stored]) -> Vec<u64> {
    let pairs = stored.windows(2).filter(|pair| pair[0].0 + 1 != pair[1].0);
    pairs.map(|pair| pair[1].0).collect()
}

impl Anomalies {
    pub fn is_empty(&self) -> bool {
        *self == Anomalies::default()
    }
}

impl fmt::Display for Anomalies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing is wrong");
        }
        show(f, "lost", &self.lost)?;
        show(f, "duplicated", &self.duplicated)?;
        show(f, "moved", &self.moved)?;
        show(f, "reordered", &self.reordered)?;
        show(f, "resurrected", &self.resurrected)?;
        show(f, "invented, at offsets", &self.invented)?;
        show(f, "gaps, before offsets", &self.gaps)
    }
}

/// How many, and the first of them.
fn show<T: fmt::Debug>(f: &mut fmt::Formatter<'_>, name: &str, found: &[T]) -> fmt::Result {
    const SHOWN: usize = 10;
    if found.is_empty() {
        return Ok(());
    }
    write!(f, "{} {name}: {:?} ", found.len(), &found[..found.len().min(SHOWN)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent: a b c d; a and b acknowledged at 0 and 1, c refused, d without an answer.
    fn history() -> History {
        let mut history = History::default();
        for value in [b"a", b"b", b"c", b"d"] {
            history.sending(value.to_vec());
        }
        history.answered(0, Outcome::Acknowledged(0));
        history.answered(1, Outcome::Acknowledged(1));
        history.answered(2, Outcome::Refused);
        history
    }

    fn judge(values: &[&str]) -> Anomalies {
        let stored: Vec<Stored> =
            (0..).zip(values).map(|(offset, value)| (offset, value.as_bytes().to_vec())).collect();
        history().judge(&stored)
    }

    #[test]
    fn what_may_be_is_not_wrong() {
        assert!(judge(&["a", "b"]).is_empty());
        assert!(judge(&["a", "b", "d"]).is_empty());
        assert_eq!((history().sent(), history().acknowledged()), (4, 2));
    }

    /// A checker that finds nothing checks nothing.
    #[test]
    fn every_anomaly_is_found() {
        assert_eq!(judge(&["a"]).lost, [1]);
        assert_eq!(judge(&[]).lost, [0, 1]);
        assert_eq!(judge(&["a", "b", "a"]).duplicated, [0]);
        assert_eq!(judge(&["b", "a"]).reordered, [0]);
        assert_eq!(judge(&["b", "a"]).moved, [0, 1]);
        assert_eq!(judge(&["a", "b", "c"]).resurrected, [2]);
        assert_eq!(judge(&["a", "b", "x"]).invented, [2]);
        let gap = [(0, b"a".to_vec()), (1, b"b".to_vec()), (3, b"d".to_vec())];
        assert_eq!(history().judge(&gap).gaps, [3]);
        assert!(judge(&["b"]).to_string().contains("1 lost: [0]"), "{}", judge(&["b"]));
    }
}
