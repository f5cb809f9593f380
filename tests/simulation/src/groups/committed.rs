//! What the log says of groups up to its high watermark, whoever knows of it: who holds what, and how far
//! each group has read.

use super::Place;
use crate::invariants;
use crate::settings::Bug;
use crate::violation::{Checked, Violation};
use crate::world::World;
use std::collections::BTreeMap;
use troupe_machines::group::Change;
use troupe_machines::group::planted::Bug as GroupBug;
use troupe_proto::ids::{PartitionKey, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

/// One append of a coordinator.
pub struct Batch {
    pub changes: Vec<Change>,
    /// Who asked for it, if it is a commit.
    pub committer: Option<Committer>,
}

#[derive(Clone, Debug)]
pub struct Committer {
    /// Empty: no member.
    pub member_id: String,
    pub epoch: u32,
    pub sent_at: u64,
}

/// A member's time with a partition: its id, and the epoch in which it got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    pub member_id: String,
    pub epoch: u32,
}

#[derive(Clone, Debug)]
pub struct Offset {
    pub offset: u64,
    pub by: Option<Ownership>,
    pub sent_at: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Holding {
    pub epoch: u32,
    /// In which epoch it got each.
    pub assigned: BTreeMap<Place, u32>,
    pub revoking: BTreeMap<Place, u32>,
}

impl Holding {
    pub fn since(&self, place: &Place) -> Option<u32> {
        self.assigned.get(place).or_else(|| self.revoking.get(place)).copied()
    }
}

/// Of one partition of `__consumer_offsets`. Everything by group first.
#[derive(Default)]
pub struct Committed {
    pub members: BTreeMap<(String, String), pb::MemberValue>,
    pub holdings: BTreeMap<(String, String), Holding>,
    pub offsets: BTreeMap<(String, Place), Offset>,
}

impl Committed {
    pub fn members_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a String> {
        self.members.keys().filter(move |(of, _)| of == group).map(|(_, member)| member)
    }

    pub fn holding(&self, group: &str, member: &str) -> Option<&Holding> {
        self.holdings.get(&(group.to_owned(), member.to_owned()))
    }

    pub fn offset(&self, group: &str, place: &Place) -> Option<u64> {
        self.offsets.get(&(group.to_owned(), place.clone())).map(|known| known.offset)
    }
}

fn places(assigned: &[pb::AssignedPartitions]) -> BTreeMap<Place, u32> {
    let of_topic = |topic: &pb::AssignedPartitions| {
        let id = TopicId::from_wire(&topic.topic_id).expect("a topic id has 16 bytes");
        let name = topic.topic.clone();
        let partitions = topic.partitions.clone().into_iter();
        partitions.map(move |one| {
            let partition = one.partition as u32;
            (Place { topic: name.clone(), id, partition }, one.epoch)
        })
    };
    assigned.iter().flat_map(of_topic).collect()
}

impl World {
    /// A batch is below a high watermark for the first time.
    pub fn group_batch_committed(&mut self, key: PartitionKey, value: u64) -> Checked {
        let Some(batch) = self.groups.batches.remove(&value) else { return Ok(()) };
        for change in &batch.changes {
            self.group_change_committed(key, change, batch.committer.as_ref())?;
        }
        Ok(())
    }

    fn group_change_committed(
        &mut self,
        key: PartitionKey,
        change: &Change,
        committer: Option<&Committer>,
    ) -> Checked {
        let group = change.key.group_id.clone();
        let value = change.value.as_ref().and_then(|value| value.of.clone());
        let unknown = || Violation::new("a record says something", format!("{change:?}"));
        let Some(known) = self.groups.committed.get_mut(&key) else { return Ok(()) };
        match (change.key.of.as_ref().ok_or_else(unknown)?, value) {
            (Key::Group(_), value) => {
                if let Some(Value::Group(value)) = value {
                    self.trace.note(self.now, "group", [value.epoch.into(), 0, 0, 0]);
                }
            }
            (Key::Member(member), Some(Value::Member(value))) => {
                known.members.insert((group, member.member_id.clone()), value);
            }
            (Key::Member(member), None) => {
                known.members.remove(&(group, member.member_id.clone()));
            }
            (Key::Current(member), Some(Value::Current(value))) => {
                let holding = Holding {
                    epoch: value.epoch,
                    assigned: places(&value.assigned),
                    revoking: places(&value.revoking),
                };
                let id = (group.clone(), member.member_id.clone());
                let before = known.holdings.insert(id, holding);
                let after = known.holding(&group, &member.member_id);
                let epochs = (before.map(|it| it.epoch), after.map(|it| it.epoch));
                invariants::member_epochs_only_grow(&member.member_id, epochs.0, epochs.1)?;
                let holdings = known.holdings.iter().filter(|((of, _), _)| *of == group);
                invariants::one_owner_per_partition(holdings.map(|((_, id), it)| (id, it)))?;
                self.group_counts.holdings_changed += 1;
            }
            (Key::Current(member), None) => {
                known.holdings.remove(&(group, member.member_id.clone()));
            }
            (Key::Target(_), _) => {}
            (Key::Offset(offset), Some(Value::Offset(value))) => {
                let id = TopicId::from_wire(&value.topic_id).ok_or_else(unknown)?;
                let partition = offset.partition as u32;
                let place = Place { topic: offset.topic.clone(), id, partition };
                self.offset_committed(key, &group, place, value.offset as u64, committer)?;
            }
            (Key::Offset(offset), None) => {
                let is_other = |place: &Place| {
                    place.topic != offset.topic || place.partition != offset.partition as u32
                };
                known.offsets.retain(|(of, place), _| *of != group || is_other(place));
                self.group_counts.offsets_deleted += 1;
                self.trace.note(self.now, "offset deleted", [offset.partition as u64, 0, 0, 0]);
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn offset_committed(
        &mut self,
        key: PartitionKey,
        group: &str,
        place: Place,
        offset: u64,
        committer: Option<&Committer>,
    ) -> Checked {
        const BY: &str = "I13 only members commit";
        let planted = self.settings.bug;
        let Some(known) = self.groups.committed.get_mut(&key) else { return Ok(()) };
        let committer = committer.ok_or_else(|| Violation::new(BY, "nobody asked for it"))?;
        let (reset, by) = if committer.member_id.is_empty() {
            let members = known.members_of(group).count();
            invariants::only_empty_groups_are_reset(group, members)?;
            self.group_counts.resets += 1;
            (true, None)
        } else {
            let holding = known.holding(group, &committer.member_id);
            let epoch = match invariants::only_owners_commit(&place, committer, holding) {
                Ok(epoch) => epoch,
                // so that I12 has to find this one
                Err(_) if planted == Some(Bug::Group(GroupBug::CommitByStaleMember)) => 0,
                Err(violation) => return Err(violation),
            };
            (false, Some(Ownership { member_id: committer.member_id.clone(), epoch }))
        };
        let sent_at = committer.sent_at;
        let facts = [place.partition.into(), offset, u64::from(reset), sent_at];
        self.trace.note(self.now, "offset", facts);
        let next = Offset { offset, by, sent_at };
        let before = known.offsets.insert((group.to_owned(), place.clone()), next.clone());
        if let Some(before) = before.filter(|_| !reset) {
            let late = invariants::committed_offsets_never_go_back(group, &place, &before, &next)?;
            self.group_counts.late_commits_of_owners += u64::from(late);
        }
        let read = self.groups.reading.read_below(group, &place);
        invariants::all_below_was_delivered(group, &place, offset, read)?;
        self.group_counts.offsets_committed += 1;
        Ok(())
    }
}
