//! How far groups have read (G3, C16, C18, G19, G28, G29).

use super::connections::MemberKey;
use super::overtaken::numbered;
use super::planted::Bug;
use super::records::{number_to_wire, offset_key};
use super::state::{Committed, Group, Member};
use super::{CatalogTopic, Change, Decision, GroupError, GroupPartition, Groups, check_group_id};
use crate::time::Time;
use std::cmp::Ordering;
use std::sync::Arc;
use troupe_proto::error::Error as WireError;
use troupe_proto::ids::{PartitionId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;

/// Who commits.
#[derive(Clone, Copy)]
enum Committer<'a> {
    /// Somebody who is no member, of a group that has none.
    Outsider,
    Member {
        id: &'a str,
        epoch: u32,
        member: &'a Member,
    },
}

impl Groups {
    /// Each commit is taken or refused by itself. A member commits what it holds, in an epoch in which it has
    /// held it; what it was told to give up it still holds. Others commit only for groups without members. Of what a
    /// committer numbers the largest number stands; the same again is done already.
    pub fn commit(
        &self,
        now: Time,
        request: pb::CommitOffsetsRequest,
    ) -> Decision<pb::CommitOffsetsResponse> {
        let committer = self.committer(&request);
        let number = numbered(&request);
        let mut changes = Vec::new();
        let mut results = Vec::with_capacity(request.commits.len());
        for commit in &request.commits {
            let change = committer
                .clone()
                .and_then(|it| self.commit_one(now, &request.group_id, it, number, commit));
            let error = match change {
                Ok(change) => {
                    changes.extend(change);
                    None
                }
                Err(error) => Some(WireError::from(error).into()),
            };
            let partition = commit.partition.clone();
            results.push(pb::PartitionCommitResult { partition, error });
        }
        let answer = pb::CommitOffsetsResponse { results };
        Decision { changes, answer, ..Decision::default() }
    }

    /// What is committed; nothing for an unknown group. Commits that are not on every in-sync replica yet are
    /// told too: the caller gives the answer out when all that it has appended before is committed.
    ///
    /// # Errors
    /// Among others [`GroupError::UnstableOffsetCommit`], if the request says so.
    pub fn fetch_offsets(
        &self,
        request: &pb::FetchOffsetsRequest,
    ) -> Result<pb::FetchOffsetsResponse, GroupError> {
        check_group_id(&request.group_id)?;
        let group = self.groups.get(request.group_id.as_str());
        if !request.member_id.is_empty() {
            let member = known_member(group, &request.group_id, &request.member_id)?;
            if request.member_epoch != member.current.epoch {
                return Err(stale(&request.member_id, request.member_epoch, member.current.epoch));
            }
        }
        let Some(group) = group else { return Ok(pb::FetchOffsetsResponse::default()) };
        let mut offsets = Vec::new();
        if request.require_stable {
            self.check_stable(&request.group_id, &request.partitions)?;
        }
        if request.partitions.is_empty() {
            let all = group.offsets.iter().filter(|(key, it)| self.is_of_now(key, it.topic_id));
            offsets.extend(all.map(|(key, it)| to_wire(key, it)));
        }
        for topic in &request.partitions {
            let asked = (!topic.topic_id.is_empty()).then_some(&topic.topic_id[..]);
            for key in partitions_of(topic)? {
                if let Some(it) = group.offsets.get(&key)
                    && self.is_of_now(&key, it.topic_id)
                    && asked.is_none_or(|asked| it.topic_id.as_bytes() == asked)
                {
                    offsets.push(to_wire(&key, it));
                }
            }
        }
        Ok(pb::FetchOffsetsResponse { offsets })
    }

    /// G28: with its offsets, and only without members.
    pub fn delete_group(&self, _now: Time, group: &str) -> Result<Decision<()>, GroupError> {
        check_group_id(group)?;
        let (_, known) = self.group(group).ok_or_else(|| not_found(group))?;
        check_empty(group, known)?;
        let offsets = known.offsets.keys().map(|key| Change::remove(group, offset_key(key)));
        let mut changes: Vec<_> = offsets.collect();
        changes.extend(known.pending.keys().flat_map(|key| self.drop_pending(group, key)));
        changes.push(Change::remove(group, Key::Group(pb::GroupKey {})));
        Ok(Decision { changes, ..Decision::default() })
    }

    /// G28: of topics that no member subscribes to. One that is not committed is deleted already.
    pub fn delete_offsets(
        &self,
        _now: Time,
        request: pb::DeleteGroupOffsetsRequest,
    ) -> Result<Decision<pb::DeleteGroupOffsetsResponse>, GroupError> {
        let name = request.group_id.as_str();
        check_group_id(name)?;
        let (_, group) = self.group(name).ok_or_else(|| not_found(name))?;
        let mut decision = Decision::<pb::DeleteGroupOffsetsResponse>::default();
        for topic in &request.partitions {
            let subscribed = self.is_subscribed(group, &topic.topic);
            for key in partitions_of(topic)? {
                let partition = Some(pb::TopicPartition {
                    topic: topic.topic.clone(),
                    partition: number_to_wire(key.partition),
                    topic_id: topic.topic_id.clone(),
                });
                let error = subscribed.then(|| {
                    let (group, topic) = (name.to_owned(), topic.topic.clone());
                    WireError::from(GroupError::GroupSubscribedToTopic { group, topic }).into()
                });
                if !subscribed && group.offsets.contains_key(&key) {
                    decision.changes.push(Change::remove(name, offset_key(&key)));
                }
                if !subscribed {
                    decision.changes.extend(self.drop_pending(name, &key));
                }
                decision.answer.results.push(pb::PartitionCommitResult { partition, error });
            }
        }
        Ok(decision)
    }

    pub(super) fn is_subscribed(&self, group: &Group, topic: &str) -> bool {
        let internal = self.topic(topic).is_some_and(|topic| topic.internal);
        let mut members = group.membership.members.values();
        members.any(|member| member.info.subscription.includes(topic, internal))
    }

    /// Not of a topic that was deleted, as far as is known.
    pub(super) fn is_of_now(&self, partition: &GroupPartition, topic_id: TopicId) -> bool {
        self.topic(&partition.topic).is_none_or(|topic| topic.id == topic_id)
    }

    fn topic(&self, name: &str) -> Option<&CatalogTopic> {
        self.catalog.as_ref().and_then(|catalog| catalog.topics.get(name))
    }

    fn committer<'a>(
        &'a self,
        request: &'a pb::CommitOffsetsRequest,
    ) -> Result<Committer<'a>, GroupError> {
        check_group_id(&request.group_id)?;
        let group = self.groups.get(request.group_id.as_str());
        if self.bugs.has(Bug::CommitByStaleMember) {
            return Ok(Committer::Outsider);
        }
        let id = request.member_id.as_str();
        if id.is_empty() {
            group.map_or(Ok(()), |group| check_empty(&request.group_id, group))?;
            return Ok(Committer::Outsider);
        }
        let member = known_member(group, &request.group_id, id)?;
        let epoch = request.member_epoch;
        if epoch > member.current.epoch {
            return Err(stale(id, epoch, member.current.epoch));
        }
        Ok(Committer::Member { id, epoch, member })
    }

    fn commit_one(
        &self,
        now: Time,
        group: &str,
        committer: Committer<'_>,
        number: Option<(u64, u64)>,
        commit: &pb::PartitionCommit,
    ) -> Result<Vec<Change>, GroupError> {
        let (key, mut committed) = self.offset_of(now, commit)?;
        let topic_id = committed.topic_id;
        committed.numbered = number;
        if let Committer::Member { id, epoch, member } = committer {
            let held = member.current.held(&key).filter(|held| held.topic_id == topic_id);
            let Some(held) = held else {
                let member_id = id.to_owned();
                return Err(GroupError::NotAssigned { member_id, partition: key });
            };
            if epoch < held.epoch {
                return Err(stale(id, epoch, member.current.epoch));
            }
            let revoking = member.current.revoking.contains_key(&key);
            if revoking && self.bugs.has(Bug::SkipAtHandOver) {
                committed.offset += 1;
            }
        }
        if let Some((committer, asked)) = number
            && let Some(current) = self.number_of(group, &key, topic_id, committer)
        {
            match asked.cmp(&current) {
                Ordering::Less => return Err(GroupError::CommitSuperseded { asked, current }),
                // It waits for the first one, which may not be on every in-sync replica yet.
                Ordering::Equal => return Ok(Vec::new()),
                Ordering::Greater => {}
            }
        }
        let mut changes = vec![Change::put(group, offset_key(&key), committed.to_value())];
        changes.extend(self.drop_pending(group, &key));
        Ok(changes)
    }

    /// What is to be committed, and of which partition, whoever commits it.
    pub(super) fn offset_of(
        &self,
        now: Time,
        commit: &pb::PartitionCommit,
    ) -> Result<(GroupPartition, Committed), GroupError> {
        let invalid = |reason: &str| GroupError::InvalidRequest { reason: reason.to_owned() };
        let asked = commit.partition.as_ref().ok_or_else(|| invalid("name a partition"))?;
        let offset = commit.offset.as_ref().ok_or_else(|| invalid("name an offset"))?;
        if offset.offset < 0 {
            return Err(invalid("an offset is 0 or more; commit the next record to read"));
        }
        let (actual, limit) = (offset.metadata.len(), self.settings.metadata_max_bytes);
        if actual > limit {
            return Err(GroupError::OffsetMetadataTooLarge { actual, limit });
        }
        let (key, topic_id) = self.existing(asked)?;
        let committed = Committed {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            commit_timestamp_ms: now.as_timestamp(),
            topic_id,
            numbered: None,
        };
        Ok((key, committed))
    }

    /// The number of the commit that stands, if it is that committer's.
    pub(super) fn number_of(
        &self,
        group: &str,
        key: &GroupPartition,
        topic_id: TopicId,
        committer: u64,
    ) -> Option<u64> {
        let standing = self.groups.get(group)?.offsets.get(key)?;
        let (by, number) = standing.numbered?;
        (by == committer && standing.topic_id == topic_id).then_some(number)
    }

    /// The partition as the catalog has it.
    pub(super) fn existing(
        &self,
        asked: &pb::TopicPartition,
    ) -> Result<(GroupPartition, TopicId), GroupError> {
        let name = asked.topic.as_str();
        let known = self.catalog.as_ref().and_then(|it| it.topics.get_key_value(name));
        let same = |topic: &CatalogTopic| {
            asked.topic_id.is_empty() || topic.id.as_bytes()[..] == asked.topic_id[..]
        };
        let (name, topic) = known
            .filter(|(_, topic)| same(topic))
            .ok_or_else(|| GroupError::UnknownTopic { topic: name.to_owned() })?;
        match u32::try_from(asked.partition) {
            Ok(partition) if partition < topic.partitions => {
                let partition = PartitionId(partition);
                Ok((GroupPartition { topic: Arc::clone(name), partition }, topic.id))
            }
            _ => Err(GroupError::UnknownPartition {
                topic: asked.topic.clone(),
                partition: asked.partition,
                partitions: topic.partitions,
            }),
        }
    }
}

pub(super) fn unknown_member((group, member): &MemberKey) -> GroupError {
    GroupError::UnknownMember { group: group.to_string(), member_id: member.to_string() }
}

pub(super) fn known_member<'a>(
    group: Option<&'a Group>,
    name: &str,
    member_id: &str,
) -> Result<&'a Member, GroupError> {
    let member = group.and_then(|group| group.membership.members.get(member_id));
    member.map(|member| &**member).ok_or_else(|| unknown_member(&(name.into(), member_id.into())))
}

pub(super) fn stale(member_id: &str, asked: u32, current: u32) -> GroupError {
    GroupError::StaleMemberEpoch { member_id: member_id.to_owned(), asked, current }
}

pub(super) fn not_found(group: &str) -> GroupError {
    GroupError::GroupNotFound { group: group.to_owned() }
}

fn check_empty(name: &str, group: &Group) -> Result<(), GroupError> {
    match group.membership.members.len() {
        0 => Ok(()),
        members => Err(GroupError::GroupNotEmpty { group: name.to_owned(), members }),
    }
}

pub(super) fn partitions_of(
    topic: &pb::TopicPartitions,
) -> Result<Vec<GroupPartition>, GroupError> {
    let name: Arc<str> = topic.topic.as_str().into();
    let one = |number: &i32| {
        let partition = u32::try_from(*number).map(PartitionId).map_err(|_| {
            let reason = format!("{number} is no partition; they count from 0");
            GroupError::InvalidRequest { reason }
        })?;
        Ok(GroupPartition { topic: Arc::clone(&name), partition })
    };
    topic.partitions.iter().map(one).collect()
}

fn to_wire(key: &GroupPartition, it: &Committed) -> pb::CommittedOffset {
    pb::CommittedOffset {
        partition: Some(pb::TopicPartition {
            topic: key.topic.to_string(),
            partition: number_to_wire(key.partition),
            topic_id: it.topic_id.to_wire(),
        }),
        offset: Some(pb::OffsetAndMetadata {
            offset: it.offset,
            leader_epoch: it.leader_epoch,
            metadata: it.metadata.clone(),
        }),
        commit_timestamp_ms: it.commit_timestamp_ms,
    }
}
