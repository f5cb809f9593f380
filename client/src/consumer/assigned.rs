//! What a consumer holds, and how far it has come in each. Pure.

use crate::topic_partition::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::ids::{LeaderEpoch, Offset, TopicId};
use troupe_proto::log::v1 as wire;

/// An offset to commit, or one that is committed: that of the next record to read (C16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// One more than that of the last record that was processed.
    pub offset: Offset,
    /// Of the last record that was processed, if known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Up to 4096 bytes.
    pub metadata: String,
}

impl OffsetAndMetadata {
    pub fn new(offset: impl Into<Offset>) -> Self {
        Self { offset: offset.into(), leader_epoch: None, metadata: String::new() }
    }
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Not known yet: what is committed, or what the policy says.
    Committed,
    /// What the policy says: what was there is gone.
    Reset,
    /// Lazily, as `seek_to_beginning` and `seek_to_end` want.
    Beginning,
    End,
    /// The next record.
    At(Offset),
}

impl Position {
    pub(super) fn offset(self) -> Option<Offset> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Committed | Self::Reset | Self::Beginning | Self::End => None,
        }
    }
}

/// A partition that the consumer holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub position: Position,
    /// None: not looked up yet.
    pub topic_id: Option<TopicId>,
    /// Of the last record that was returned.
    pub leader_epoch: Option<LeaderEpoch>,
    pub paused: bool,
    /// The last that was committed, as far as this consumer knows.
    pub committed: Option<Offset>,
    /// Where this consumer began with it, if nothing was committed.
    pub began: Option<Offset>,
    /// Its records ended with an error that the application has been told; the next call tries again (C19).
    pub failed: bool,
}

impl Held {
    pub(super) fn new(topic_id: Option<TopicId>) -> Self {
        Self {
            position: Position::Committed,
            topic_id,
            leader_epoch: None,
            paused: false,
            committed: None,
            began: None,
            failed: false,
        }
    }
}

pub(crate) type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// Offsets that shall be committed, and of which topics they are: one that was made again under the same name is
/// another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Due {
    pub offsets: Offsets,
    pub topic_ids: BTreeMap<Arc<str>, TopicId>,
}

/// Everything that the consumer holds.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    pub partitions: BTreeMap<TopicPartition, Held>,
    /// Read on since somebody asked.
    advanced: BTreeSet<TopicPartition>,
}

/// What a new assignment changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// To be given up: committed for first.
    pub revoked: Vec<TopicPartition>,
    /// Of topics that are not there any more under their names: nothing can be committed.
    pub lost: Vec<TopicPartition>,
    pub added: Vec<(TopicPartition, TopicId)>,
}

impl Assigned {
    /// What has to happen so that exactly `wanted` is held.
    pub(super) fn change_to(&self, wanted: &BTreeMap<TopicPartition, TopicId>) -> Change {
        let mut change = Change::default();
        for (at, held) in &self.partitions {
            match wanted.get(at) {
                None => change.revoked.push(at.clone()),
                Some(id) if held.topic_id.is_some_and(|held| held != *id) => {
                    change.lost.push(at.clone());
                }
                Some(_) => {}
            }
        }
        for (at, id) in wanted {
            if !self.partitions.contains_key(at) || change.lost.contains(at) {
                change.added.push((at.clone(), *id));
            }
        }
        change
    }

    /// Reading goes on there: what is before it was returned, or is for nobody. `read_in`: the leader epoch of the last
    /// record, if any was returned.
    pub(super) fn advance(
        &mut self,
        at: &TopicPartition,
        to: Offset,
        read_in: Option<LeaderEpoch>,
    ) {
        let Some(held) = self.partitions.get_mut(at) else { return };
        held.leader_epoch = read_in.or(held.leader_epoch);
        if held.position != Position::At(to) {
            held.position = Position::At(to);
            self.advanced.insert(at.clone());
        }
    }

    /// It has gone to a place that nobody has read up to.
    pub(super) fn moved(&mut self, at: &TopicPartition) {
        self.advanced.remove(at);
    }

    /// The positions of what was read on since this was asked last.
    pub(super) fn take_advanced(&mut self) -> Offsets {
        let advanced = std::mem::take(&mut self.advanced);
        let known = advanced.into_iter().filter_map(|at| {
            let held = self.partitions.get(&at)?;
            let (offset, leader_epoch) = (held.position.offset()?, held.leader_epoch);
            Some((at, OffsetAndMetadata { offset, leader_epoch, metadata: String::new() }))
        });
        known.collect()
    }

    /// With the topics that are read, as far as they are known.
    pub(super) fn due(&self, offsets: Offsets) -> Due {
        let known = self.partitions.iter().filter_map(|(at, held)| Some((at, held.topic_id?)));
        let of_these = known.filter(|(at, _)| offsets.contains_key(at));
        let topic_ids = of_these.map(|(at, id)| (Arc::clone(&at.topic), id)).collect();
        Due { offsets, topic_ids }
    }

    /// The positions that are not committed yet, of these partitions or of all (C14).
    pub(super) fn uncommitted(&self, only: Option<&[TopicPartition]>) -> Offsets {
        let wanted = |at: &TopicPartition| only.is_none_or(|only| only.contains(at));
        let mut offsets = self.positions();
        offsets.retain(|at, position| {
            let committed = self.partitions.get(at).and_then(|held| held.committed);
            wanted(at) && committed != Some(position.offset)
        });
        offsets
    }

    /// All positions that are known, as they are committed.
    pub(super) fn positions(&self) -> Offsets {
        let known = self.partitions.iter().filter_map(|(at, held)| {
            let (offset, leader_epoch) = (held.position.offset()?, held.leader_epoch);
            Some((at.clone(), OffsetAndMetadata { offset, leader_epoch, metadata: String::new() }))
        });
        known.collect()
    }

    /// What is committed now.
    pub(super) fn note_committed(&mut self, offsets: &Offsets) {
        for (at, committed) in offsets {
            if let Some(held) = self.partitions.get_mut(at) {
                held.committed = Some(committed.offset);
            }
        }
    }

    pub(super) fn names(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }
}

/// As the contract writes partitions: by topic. Those without an id are left out.
pub(super) fn to_wire(
    partitions: &BTreeMap<TopicPartition, TopicId>,
) -> Vec<wire::TopicPartitions> {
    let mut topics: Vec<wire::TopicPartitions> = Vec::new();
    for (at, id) in partitions {
        let topic_id = id.to_wire();
        match topics.last_mut() {
            Some(last) if *last.topic == *at.topic && last.topic_id == topic_id => {
                last.partitions.push(at.partition.0 as i32);
            }
            _ => topics.push(wire::TopicPartitions {
                topic: at.topic.to_string(),
                topic_id,
                partitions: vec![at.partition.0 as i32],
            }),
        }
    }
    topics
}

/// The other way; what is no partition is left out.
pub(super) fn from_wire(topics: &[wire::TopicPartitions]) -> BTreeMap<TopicPartition, TopicId> {
    let mut partitions = BTreeMap::new();
    for topic in topics {
        let Some(id) = TopicId::from_wire(&topic.topic_id) else { continue };
        let name: std::sync::Arc<str> = topic.topic.as_str().into();
        for partition in topic.partitions.iter().filter_map(|&number| u32::try_from(number).ok()) {
            partitions.insert(TopicPartition::new(name.clone(), partition), id);
        }
    }
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(partition: u32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    fn held(partitions: &[(u32, TopicId)]) -> Assigned {
        let held = partitions.iter().map(|&(n, id)| (p(n), Held::new(Some(id))));
        Assigned { partitions: held.collect(), ..Assigned::default() }
    }

    /// C20, G17: what stays is neither given up nor begun anew.
    #[test]
    fn what_stays_is_not_touched() {
        let id = TopicId::random();
        let assigned = held(&[(0, id), (1, id), (2, id)]);
        let change = assigned.change_to(&BTreeMap::from([(p(0), id), (p(1), id), (p(3), id)]));
        let expected = Change { revoked: vec![p(2)], lost: vec![], added: vec![(p(3), id)] };
        assert_eq!(change, expected);
    }

    /// A topic that was deleted and made again is another one: its offsets mean nothing.
    #[test]
    fn a_topic_made_anew_is_lost_and_assigned() {
        let (old, new) = (TopicId::random(), TopicId::random());
        let change = held(&[(0, old)]).change_to(&BTreeMap::from([(p(0), new)]));
        assert_eq!(change, Change { revoked: vec![], lost: vec![p(0)], added: vec![(p(0), new)] });
    }

    /// C14: positions as of what was returned, each once.
    #[test]
    fn only_positions_that_moved_are_committed() {
        let id = TopicId::random();
        let mut assigned = held(&[(0, id), (1, id), (2, id)]);
        for partition in 0..2 {
            assigned.partitions.get_mut(&p(partition)).unwrap().position = Position::At(Offset(7));
        }
        assert_eq!(assigned.uncommitted(None).len(), 2, "the position of the third is not known");
        assigned.note_committed(&BTreeMap::from([(p(0), OffsetAndMetadata::new(7))]));
        assert_eq!(assigned.uncommitted(None).into_keys().collect::<Vec<_>>(), [p(1)]);
        assert!(assigned.uncommitted(Some(&[p(0)])).is_empty());
        assert_eq!(assigned.positions().len(), 2);
    }

    #[test]
    fn partitions_go_through_the_contract_unchanged() {
        let (a, b) = (TopicId::random(), TopicId::random());
        let partitions = BTreeMap::from([
            (TopicPartition::new("a", 0), a),
            (TopicPartition::new("a", 2), a),
            (TopicPartition::new("b", 1), b),
        ]);
        let wire = to_wire(&partitions);
        assert_eq!(wire.len(), 2);
        assert_eq!(from_wire(&wire), partitions);
    }
}
