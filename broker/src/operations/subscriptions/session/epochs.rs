//! The leader epochs of what was read, so that a commit can say of which log it is (C13).

use std::collections::{HashMap, VecDeque};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionKey};

/// Where each epoch began among the batches that were read, by partition.
#[derive(Default)]
pub struct Epochs(HashMap<PartitionKey, VecDeque<(LeaderEpoch, Offset)>>);

impl Epochs {
    /// Batches from `from` on are of this epoch. Reading may have begun anew there.
    pub fn note(&mut self, key: PartitionKey, epoch: LeaderEpoch, from: Offset) {
        let begun = self.0.entry(key).or_default();
        while begun.pop_back_if(|(_, at)| *at >= from).is_some() {}
        if begun.back().is_none_or(|(last, _)| *last != epoch) {
            begun.push_back((epoch, from));
        }
    }

    /// Of the last record before `end`, as far as it was read here.
    pub fn before(&mut self, key: &PartitionKey, end: Offset) -> Option<LeaderEpoch> {
        let begun = self.0.get_mut(key)?;
        // What is committed is never asked about again.
        while begun.get(1).is_some_and(|(_, at)| *at < end) {
            begun.pop_front();
        }
        begun.front().filter(|(_, at)| *at < end).map(|(epoch, _)| *epoch)
    }

    /// The same, of any position that is not committed yet.
    pub fn at(&self, key: &PartitionKey, end: Offset) -> Option<LeaderEpoch> {
        let mut begun = self.0.get(key)?.iter().rev();
        begun.find(|(_, at)| *at < end).map(|(epoch, _)| *epoch)
    }

    pub fn forget(&mut self, keep: impl Fn(&PartitionKey) -> bool) {
        self.0.retain(|key, _| keep(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::ids::{PartitionId, TopicId};

    #[test]
    fn a_commit_has_the_epoch_of_the_last_record_before_it() {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        let mut epochs = Epochs::default();
        assert_eq!(epochs.before(&key, Offset(5)), None);
        for (epoch, from) in [(3, 10), (3, 20), (5, 30), (6, 40)] {
            epochs.note(key, LeaderEpoch(epoch), Offset(from));
        }
        let mut before = |end| epochs.before(&key, Offset(end)).map(|epoch| epoch.0);
        assert_eq!(before(10), None, "nothing before it was read here");
        assert_eq!(epochs.at(&key, Offset(10)), None);
        assert_eq!(epochs.at(&key, Offset(31)), Some(LeaderEpoch(5)));
        let mut before = |end| epochs.before(&key, Offset(end)).map(|epoch| epoch.0);
        assert_eq!(before(30), Some(3));
        assert_eq!(before(31), Some(5));
        assert_eq!(before(99), Some(6));
        epochs.note(key, LeaderEpoch(7), Offset(35));
        assert_eq!(epochs.before(&key, Offset(36)), Some(LeaderEpoch(7)), "read anew from there");
    }
}
