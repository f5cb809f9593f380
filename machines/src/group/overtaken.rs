//! The order of requests about offsets, whichever way they took.
//!
//! What was asked earlier must not be carried out later, or a commit that was given up, and whose connection healed,
//! would take back a newer one that was acknowledged. Two measures:
//! - a *sequence*: whoever commits numbers its commits. It stands in the log beside the offset, so it holds whoever
//!   coordinates, and however long the network keeps a request.
//! - the *beginning*: when a request came to the first node that took it, in this coordinator's time. One that began
//!   before another was decided about the same offset, and comes after it, is refused (so whoever tells it must not tell
//!   it earlier than it was, or what its caller committed last would refuse it). When the log was written that a
//!   coordinator begins with, it cannot tell: all of it counts as written when it was loaded. Where the number says
//!   which of two is the newer one, the beginning says nothing.

use super::{Change, GroupError, GroupPartition, Groups};
use crate::latest::{KEPT_MS, Latest};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;

/// A partition of a group, or the whole of it.
type Subject = (Arc<str>, Option<GroupPartition>);

/// When offsets were changed last.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    changed: Latest<Subject>,
    /// What the log held then was written before, nobody knows when.
    loaded: Option<Time>,
    /// Of what it held, that these offsets were deleted. Those that stand, the groups know.
    deleted: BTreeSet<Subject>,
}

impl Recent {
    /// The log is replayed from its beginning.
    pub(super) fn replay(&mut self, change: &Change) {
        let Some(subject) = subject_of(change) else { return };
        match change.value {
            None => self.deleted.insert(subject),
            Some(_) => self.deleted.remove(&subject),
        };
    }

    pub(super) fn loaded(&mut self, now: Time) {
        self.loaded = Some(now);
    }

    fn forget(&mut self, now: Time) {
        if self.loaded.is_some_and(|loaded| loaded.plus(KEPT_MS) < now) {
            self.loaded = None;
            self.deleted.clear();
        }
    }
}

fn subject_of(change: &Change) -> Option<Subject> {
    let Some(Key::Offset(key)) = &change.key.of else { return None };
    let partition = super::records::partition_id(key.partition).ok()?;
    let partition = GroupPartition { topic: key.topic.as_str().into(), partition };
    Some((change.key.group_id.as_str().into(), Some(partition)))
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    Commits(&'a pb::CommitOffsetsRequest),
    Partitions(&'a [pb::TopicPartitions]),
    /// All offsets of the group.
    Group,
}

impl Groups {
    /// Whether a request that began then may still be carried out. Changes nothing.
    ///
    /// # Errors
    /// [`GroupError::Overtaken`].
    pub fn check_order(
        &self,
        now: Time,
        began: Time,
        group: &str,
        scope: Scope<'_>,
    ) -> Result<(), GroupError> {
        if began.plus(KEPT_MS) < now {
            return Err(GroupError::Overtaken);
        }
        let newest = match scope {
            Scope::Group => self.last_change(group, None),
            Scope::Commits(request) => {
                let by_beginning =
                    request.commits.iter().filter(|commit| !self.is_ordered(request, commit));
                let named = by_beginning.filter_map(|commit| commit.partition.as_ref());
                let partitions = named.filter_map(|named| partition(&named.topic, named.partition));
                partitions.filter_map(|partition| self.last_change(group, Some(partition))).max()
            }
            Scope::Partitions(topics) => {
                let partitions = topics.iter().flat_map(|of_topic| {
                    let one = |number: &i32| partition(&of_topic.topic, *number);
                    of_topic.partitions.iter().filter_map(one)
                });
                partitions.filter_map(|partition| self.last_change(group, Some(partition))).max()
            }
        };
        match newest.is_some_and(|newest| began < newest) {
            true => Err(GroupError::Overtaken),
            false => Ok(()),
        }
    }

    /// This was decided now. For [`Groups::check_order`].
    pub fn note_decided(&mut self, now: Time, changes: &[Change]) {
        self.recent.forget(now);
        for (group, partition) in changes.iter().filter_map(subject_of) {
            self.recent.changed.note(now, (Arc::clone(&group), partition));
            self.recent.changed.note(now, (group, None));
        }
    }

    /// When that was changed last, or before when. None: never, or so long ago that no request is older.
    fn last_change(&self, group: &str, partition: Option<GroupPartition>) -> Option<Time> {
        let subject = (Arc::from(group), partition);
        let changed = self.recent.changed.of(&subject);
        let (_, partition) = &subject;
        let stands = self.groups.get(group).is_some_and(|group| match partition {
            Some(partition) => group.offsets.contains_key(partition),
            None => !group.offsets.is_empty(),
        });
        let was_there = stands || self.recent.deleted.contains(&subject);
        changed.or(self.recent.loaded.filter(|_| was_there))
    }

    /// The commit's number says whether it comes after the one that stands.
    fn is_ordered(&self, request: &pb::CommitOffsetsRequest, commit: &pb::PartitionCommit) -> bool {
        let Some((committer, _)) = numbered(request) else { return false };
        let existing = commit.partition.as_ref().and_then(|asked| self.existing(asked).ok());
        existing.is_some_and(|(key, topic_id)| {
            self.number_of(&request.group_id, &key, topic_id, committer).is_some()
        })
    }
}

fn partition(topic: &str, partition: i32) -> Option<GroupPartition> {
    let partition = u32::try_from(partition).ok()?.into();
    Some(GroupPartition { topic: topic.into(), partition })
}

/// Who numbers a commit, and its number; none if it is not numbered.
pub(super) fn numbered(request: &pb::CommitOffsetsRequest) -> Option<(u64, u64)> {
    let name = match request.member_id.as_str() {
        "" => &request.committer_id,
        id => id,
    };
    (request.sequence > 0).then(|| (fnv_1a(name.as_bytes()), request.sequence))
}

/// FNV-1a, 64 bits: small, and the same in every version.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::fnv_1a;

    #[test]
    fn the_hash_in_the_log_is_fnv_1a() {
        assert_eq!(fnv_1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_F739_67E8);
    }
}
