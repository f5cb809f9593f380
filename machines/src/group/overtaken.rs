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

use super::records::{group_partition, producer_id};
use super::state::Committed;
use super::{Change, GroupError, GroupPartition, Groups};
use crate::latest::{KEPT_MS, Latest};
use crate::producer::Producer;
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::ids::{ProducerEpoch, ProducerId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

/// What a request may be about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// All offsets of a group.
    Group(Arc<str>),
    Offset(Arc<str>, GroupPartition),
    /// What is pending of a partition, in that producer's transaction.
    Pending(Arc<str>, GroupPartition, Producer),
    /// The end of a producer's transaction.
    End(ProducerId),
}

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
        let Some(subject @ Subject::Offset(..)) = subject_of(change) else { return };
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
    let group = || Arc::from(change.key.group_id.as_str());
    let value = change.value.as_ref().and_then(|value| value.of.as_ref());
    match (change.key.of.as_ref()?, value) {
        (Key::Offset(key), _) => {
            Some(Subject::Offset(group(), group_partition(&key.topic, key.partition).ok()?))
        }
        // What goes with a marker was not asked for: the next transaction may have asked before.
        (Key::PendingOffset(key), Some(Value::PendingOffset(value))) => {
            let id = producer_id(key.producer_id).ok()?;
            let producer = Producer { id, epoch: ProducerEpoch(value.producer_epoch) };
            let partition = group_partition(&key.topic, key.partition).ok()?;
            Some(Subject::Pending(group(), partition, producer))
        }
        (Key::Producer(key), Some(_)) => Some(Subject::End(producer_id(key.producer_id).ok()?)),
        _ => None,
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    Commits(&'a pb::CommitOffsetsRequest),
    /// In a transaction of the producer.
    Transaction(Producer, &'a pb::CommitTransactionOffsetsRequest),
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
            Scope::Transaction(producer, request) => {
                let commits = request.commits.iter();
                let pending = commits.filter_map(|commit| {
                    let (key, offset) = self.offset_of(now, commit).ok()?;
                    self.last_pending(group, key, producer, &offset)
                });
                pending.chain(self.last_end(producer)).max()
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
        for subject in changes.iter().filter_map(subject_of) {
            let changed = &mut self.recent.changed;
            if let Subject::Pending(group, partition, _) = &subject {
                changed.note(now, Subject::Offset(Arc::clone(group), partition.clone()));
            }
            if let Subject::Offset(group, _) | Subject::Pending(group, ..) = &subject {
                changed.note(now, Subject::Group(Arc::clone(group)));
            }
            changed.note(now, subject);
        }
    }

    /// When the producer last had another offset pending there, or before when.
    fn last_pending(
        &self,
        group: &str,
        key: GroupPartition,
        producer: Producer,
        asked: &Committed,
    ) -> Option<Time> {
        let own = self.groups.get(group).and_then(|it| it.pending.get(&key)?.get(&producer.id));
        let own = own.filter(|own| own.epoch == producer.epoch);
        if own.is_some_and(|own| own.offset.says_the_same(asked)) {
            return None;
        }
        let changed = self.recent.changed.of(&Subject::Pending(group.into(), key, producer));
        changed.or(self.recent.loaded.filter(|_| own.is_some()))
    }

    /// When the producer's last transaction ended, or before when, if that is not told by its epoch.
    fn last_end(&self, producer: Producer) -> Option<Time> {
        self.producers.heard(producer.id).filter(|heard| heard.keeps_epoch_of(producer))?;
        self.recent.changed.of(&Subject::End(producer.id)).or(self.recent.loaded)
    }

    /// When that was changed last, or before when. None: never, or so long ago that no request is older.
    fn last_change(&self, group: &str, partition: Option<GroupPartition>) -> Option<Time> {
        let stands = self.groups.get(group).is_some_and(|group| match &partition {
            Some(key) => group.offsets.contains_key(key) || group.pending.contains_key(key),
            None => !group.offsets.is_empty() || !group.pending.is_empty(),
        });
        let subject = match partition {
            Some(partition) => Subject::Offset(group.into(), partition),
            None => Subject::Group(group.into()),
        };
        let changed = self.recent.changed.of(&subject);
        let was_there = stands || self.recent.deleted.contains(&subject);
        changed.or(self.recent.loaded.filter(|_| was_there))
    }

    /// The commit's number says whether it comes after the one that stands. It says nothing of what is pending.
    fn is_ordered(&self, request: &pb::CommitOffsetsRequest, commit: &pb::PartitionCommit) -> bool {
        let Some((committer, _)) = numbered(request) else { return false };
        let existing = commit.partition.as_ref().and_then(|asked| self.existing(asked).ok());
        existing.is_some_and(|(key, topic_id)| {
            self.number_of(&request.group_id, &key, topic_id, committer).is_some()
                && !self.has_pending(&request.group_id, &key)
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
