//! What the records of one group come to.

use super::assignor::Assignor;
use super::records::{group_partition, producer_id, topic_id};
use super::subscription::Subscription;
use super::{Change, GroupPartition, ReplayError};
use crate::time::Time;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use troupe_proto::ids::{ProducerEpoch, ProducerId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub membership: Membership,
    pub offsets: BTreeMap<GroupPartition, Committed>,
    /// What is part of transactions that are open, and of whose.
    pub pending: BTreeMap<GroupPartition, BTreeMap<ProducerId, Pending>>,
}

/// Who is in the group, and what they hold. A decision works on a copy, by the same replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Membership {
    /// `None`: no member has ever joined.
    pub header: Option<Header>,
    pub members: BTreeMap<Arc<str>, Arc<Member>>,
    /// Who holds which partition: assigned, or not given up yet.
    pub holders: BTreeMap<GroupPartition, Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub epoch: u32,
    pub assignor: Option<Assignor>,
    /// `None` while there are members.
    pub empty_since: Option<Time>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Member {
    pub info: Info,
    pub target: Target,
    pub current: Current,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Info {
    pub instance_id: Option<Arc<str>>,
    pub client_id: String,
    pub host: String,
    pub subscription: Subscription,
    pub session_timeout_ms: u32,
    pub rebalance_timeout_ms: u32,
}

/// What a member shall hold, since this epoch of the group; 0: nothing was computed yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Target {
    pub epoch: u32,
    pub partitions: BTreeMap<GroupPartition, TopicId>,
}

/// What a member holds. It reads what is assigned; what is revoking it was told to give up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Current {
    /// The epoch of the target that the member has come to; 0: it has not been told any.
    pub epoch: u32,
    pub previous_epoch: u32,
    pub assigned: BTreeMap<GroupPartition, Held>,
    pub revoking: BTreeMap<GroupPartition, Held>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub topic_id: TopicId,
    /// The member's when it got the partition. Older commits are not its own.
    pub epoch: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Committed {
    pub offset: i64,
    pub leader_epoch: Option<u32>,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    pub topic_id: TopicId,
    /// Of the commit, if it was numbered: its committer, hashed, and its number.
    pub numbered: Option<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    pub epoch: ProducerEpoch,
    /// Of those of one partition, the larger is the later one.
    pub number: u64,
    pub offset: Committed,
}

impl Committed {
    pub fn from_record(value: &pb::OffsetValue) -> Result<Committed, ReplayError> {
        Ok(Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.clone(),
            commit_timestamp_ms: value.commit_timestamp_ms,
            topic_id: topic_id(&value.topic_id)?,
            numbered: (value.sequence > 0).then_some((value.committer, value.sequence)),
        })
    }

    pub fn to_record(&self) -> pb::OffsetValue {
        let (committer, sequence) = self.numbered.unwrap_or_default();
        pb::OffsetValue {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
            commit_timestamp_ms: self.commit_timestamp_ms,
            topic_id: self.topic_id.to_wire(),
            committer,
            sequence,
        }
    }

    pub fn to_value(&self) -> Value {
        Value::Offset(self.to_record())
    }

    /// Whenever it was committed.
    pub fn says_the_same(&self, other: &Committed) -> bool {
        let commit_timestamp_ms = self.commit_timestamp_ms;
        *self == Committed { commit_timestamp_ms, ..other.clone() }
    }
}

impl Current {
    pub fn held(&self, partition: &GroupPartition) -> Option<Held> {
        self.assigned.get(partition).or_else(|| self.revoking.get(partition)).copied()
    }

    fn partitions(&self) -> impl Iterator<Item = &GroupPartition> {
        self.assigned.keys().chain(self.revoking.keys())
    }
}

impl Target {
    pub fn wants(&self, partition: &GroupPartition, topic_id: TopicId) -> bool {
        self.partitions.get(partition) == Some(&topic_id)
    }
}

impl Member {
    pub fn session_timeout(&self) -> u64 {
        u64::from(self.info.session_timeout_ms)
    }

    /// It waits for partitions that others have not given up yet.
    pub fn lacks_some(&self) -> bool {
        let assigned = &self.current.assigned;
        self.target.partitions.keys().any(|partition| !assigned.contains_key(partition))
    }

    /// It holds, or may still hold, what it shall not.
    pub fn holds_too_much(&self) -> bool {
        let unwanted = |(partition, held): (&GroupPartition, &Held)| {
            !self.target.wants(partition, held.topic_id)
        };
        !self.current.revoking.is_empty() || self.current.assigned.iter().any(unwanted)
    }
}

impl Membership {
    pub fn epoch(&self) -> u32 {
        self.header.as_ref().map_or(0, |header| header.epoch)
    }

    pub fn assignor(&self) -> Option<Assignor> {
        self.header.as_ref().and_then(|header| header.assignor)
    }

    pub fn by_instance(&self, instance_id: &str) -> Option<(&Arc<str>, &Arc<Member>)> {
        let is = |member: &Member| member.info.instance_id.as_deref() == Some(instance_id);
        self.members.iter().find(|(_, member)| is(member))
    }

    /// `strict`: of one that was just decided refuse that a partition is held by two, or by somebody who is no member.
    pub fn replay(&mut self, change: &Change, strict: bool) -> Result<(), ReplayError> {
        let key = change.key.of.as_ref().ok_or(ReplayError::UnknownKind)?;
        let value = match &change.value {
            Some(value) => Some(value.of.as_ref().ok_or(ReplayError::UnknownKind)?),
            None => None,
        };
        match (key, value) {
            (Key::Group(_), None) => self.header = None,
            (Key::Group(_), Some(Value::Group(value))) => {
                let assignor = match value.assignor.as_str() {
                    "" => None,
                    name => Some(name.parse().map_err(|_| ReplayError::Malformed("assignor"))?),
                };
                let empty_since = value.empty_since_ms.map(time);
                self.header = Some(Header { epoch: value.epoch, assignor, empty_since });
            }
            (Key::Member(key), None) => {
                let id = key.member_id.as_str();
                self.hold(id, Current::default(), strict)?;
                self.members.remove(id);
            }
            (Key::Member(key), Some(Value::Member(value))) => {
                self.member(&key.member_id).info = Info::from_record(value)?;
            }
            // The log may have forgotten the member already, but not yet what it held.
            (Key::Target(key), None) => {
                if self.members.contains_key(key.member_id.as_str()) {
                    self.member(&key.member_id).target = Target::default();
                }
            }
            (Key::Target(key), Some(Value::Target(value))) => {
                self.check_member(&key.member_id, strict)?;
                self.member(&key.member_id).target = Target::from_record(value)?;
            }
            (Key::Current(key), None) => {
                self.hold(&key.member_id, Current::default(), strict)?;
            }
            (Key::Current(key), Some(Value::Current(value))) => {
                self.check_member(&key.member_id, strict)?;
                self.member(&key.member_id);
                self.hold(&key.member_id, Current::from_record(value)?, strict)?;
            }
            (Key::Offset(_) | Key::PendingOffset(_) | Key::Producer(_), _) => {
                return Err(ReplayError::Malformed("place of an offset or a producer"));
            }
            (_, Some(_)) => return Err(ReplayError::Malformed("pair of key and value")),
        }
        Ok(())
    }

    fn check_member(&self, id: &str, strict: bool) -> Result<(), ReplayError> {
        match !strict || self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ReplayError::NotAMember(id.to_owned())),
        }
    }

    /// As it is, or a new one: in a compacted log the member's own record may come after the others.
    fn member(&mut self, id: &str) -> &mut Member {
        if !self.members.contains_key(id) {
            self.members.insert(id.into(), Arc::default());
        }
        let member = self.members.get_mut(id).expect("put there just before");
        Arc::make_mut(member)
    }

    /// The member holds exactly this from now on.
    fn hold(&mut self, id: &str, next: Current, exclusive: bool) -> Result<(), ReplayError> {
        let Some((id, _)) = self.members.get_key_value(id) else { return Ok(()) };
        let id = Arc::clone(id);
        let before = std::mem::take(&mut self.member(&id).current);
        for partition in before.partitions() {
            if next.held(partition).is_none() && self.holders.get(partition) == Some(&id) {
                self.holders.remove(partition);
            }
        }
        for partition in next.partitions() {
            match self.holders.get(partition) {
                Some(holder) if *holder == id => {}
                Some(holder) if exclusive => {
                    return Err(ReplayError::HeldTwice {
                        partition: partition.clone(),
                        first: holder.to_string(),
                        second: id.to_string(),
                    });
                }
                _ => {
                    self.holders.insert(partition.clone(), Arc::clone(&id));
                }
            }
        }
        self.member(&id).current = next;
        Ok(())
    }
}

impl Group {
    pub fn replay(&mut self, change: &Change, strict: bool) -> Result<(), ReplayError> {
        let (topic, number) = match &change.key.of {
            Some(Key::Offset(key)) => (&key.topic, key.partition),
            Some(Key::PendingOffset(key)) => (&key.topic, key.partition),
            _ => return self.membership.replay(change, strict),
        };
        let partition = group_partition(topic, number)?;
        let value = match &change.value {
            Some(value) => Some(value.of.as_ref().ok_or(ReplayError::UnknownKind)?),
            None => None,
        };
        match (&change.key.of, value) {
            (Some(Key::Offset(_)), None) => {
                self.offsets.remove(&partition);
            }
            (Some(Key::Offset(_)), Some(Value::Offset(value))) => {
                self.offsets.insert(partition, Committed::from_record(value)?);
            }
            (Some(Key::PendingOffset(key)), None) => {
                let id = producer_id(key.producer_id)?;
                if let Entry::Occupied(mut pending) = self.pending.entry(partition) {
                    pending.get_mut().remove(&id);
                    if pending.get().is_empty() {
                        pending.remove();
                    }
                }
            }
            (Some(Key::PendingOffset(key)), Some(Value::PendingOffset(value))) => {
                let offset = value.offset.as_ref();
                let offset = offset.ok_or(ReplayError::Malformed("offset that is pending"))?;
                let pending = Pending {
                    epoch: ProducerEpoch(value.producer_epoch),
                    number: value.number,
                    offset: Committed::from_record(offset)?,
                };
                let id = producer_id(key.producer_id)?;
                self.pending.entry(partition).or_default().insert(id, pending);
            }
            _ => return Err(ReplayError::Malformed("pair of key and value")),
        }
        Ok(())
    }

    /// Of which transaction the producer has something pending there.
    pub fn pending_epoch(
        &self,
        partition: &GroupPartition,
        id: ProducerId,
    ) -> Option<ProducerEpoch> {
        Some(self.pending.get(partition)?.get(&id)?.epoch)
    }

    /// Nothing is known of it: it need not be remembered.
    pub fn is_nothing(&self) -> bool {
        let membership = &self.membership;
        let is_empty = membership.header.is_none() && membership.members.is_empty();
        is_empty && self.offsets.is_empty() && self.pending.is_empty()
    }
}

fn time(ms: i64) -> Time {
    Time(u64::try_from(ms).unwrap_or(0))
}
