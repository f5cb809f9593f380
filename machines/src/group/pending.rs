//! Offsets that are part of a transaction (X15, X16): pending from when they are committed in it until its marker says
//! whether they stand.
//!
//! ```text
//!  commit_in_transaction ─► pending ─┬─ marker: committed ─► the offset, unless a later one stands
//!                                    └─ marker: aborted ───► nothing
//! ```
//!
//! Of all that is committed for a partition the latest stands, as in Kafka, and an offset of a transaction counts from
//! when it was pending, not from its marker: what another transaction had pending before goes when a later one is
//! committed, and all that is pending goes when an offset is committed without a transaction, or deleted. A group with
//! something pending does not expire.
//! Which transaction is meant, epochs say (X19): a marker of the second version is of a newer epoch than what it ends, one
//! of the first of the same. There a late commit is told from one of the next transaction by when it began, in
//! [`Scope::Transaction`](super::Scope::Transaction).
//!
//! Promises: what was committed in a transaction stands only if the transaction is committed; no commit joins a
//! transaction that has ended; a marker that comes again changes nothing; the next transaction is not ended by it.
//! Never here: whether the transaction's coordinator knows that the group is part of it; that has to be before.

use super::offsets::{known_member, partitions_of, stale, unknown_member};
use super::planted::Bug;
use super::producers::{Heard, Place};
use super::records::{offset_key, pending_key};
use super::state::{Committed, Member};
use super::{Change, Decision, GroupError, GroupPartition, Groups, check_group_id};
use crate::producer::{ClientVersion, Producer};
use crate::time::Time;
use std::cmp::Ordering;
use troupe_proto::batch::Marker;
use troupe_proto::error::Error as WireError;
use troupe_proto::ids::{ProducerId, TopicId};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_value::Of as Value;

impl Groups {
    /// Each commit is pending or refused by itself. If a member is named all of them are of what it holds, since its epoch
    /// or before: else the group has gone on, and nothing is pending (X16). Others commit beside members: they know
    /// by other means that they may.
    ///
    /// # Errors
    /// Of the whole: [`GroupError::InvalidGroupId`], [`GroupError::ProducerFenced`], [`GroupError::UnknownMember`],
    /// [`GroupError::StaleMemberEpoch`], [`GroupError::GivenUp`], [`GroupError::FencedInstanceId`].
    pub fn commit_in_transaction(
        &self,
        now: Time,
        producer: Producer,
        request: &pb::CommitTransactionOffsetsRequest,
    ) -> Result<Decision<pb::CommitTransactionOffsetsResponse>, GroupError> {
        check_group_id(&request.group_id)?;
        let current = self.producers.newest_epoch(producer.id);
        if producer.epoch < current && !self.bugs.has(Bug::CommitInEndedTransaction) {
            return Err(GroupError::ProducerFenced { asked: producer, current });
        }
        let member = self.member_of_transaction(request)?;
        let mut decision = Decision::<pb::CommitTransactionOffsetsResponse>::default();
        for commit in &request.commits {
            let error = match self.offset_of(now, commit) {
                Ok((key, offset)) => {
                    if let Some(member) = member {
                        check_holds(member, request, &key, offset.topic_id)?;
                    }
                    decision.changes.extend(self.pend(producer, &request.group_id, &key, offset));
                    None
                }
                Err(error) => Some(WireError::from(error).into()),
            };
            let partition = commit.partition.clone();
            decision.answer.results.push(pb::PartitionCommitResult { partition, error });
        }
        Ok(decision)
    }

    /// A transaction of the producer is decided. Of what is pending, that of its newest epoch stands or goes as the marker
    /// says; older ones are of transactions whose markers never came, and go.
    ///
    /// # Errors
    /// [`GroupError::CoordinatorFenced`].
    pub fn mark(
        &self,
        now: Time,
        producer: Producer,
        marker: Marker,
        version: ClientVersion,
    ) -> Result<Decision<()>, GroupError> {
        let before = self.producers.heard(producer.id);
        if let Some(heard) = before
            && marker.coordinator_epoch < heard.coordinator_epoch
        {
            let (asked, current) = (marker.coordinator_epoch, heard.coordinator_epoch);
            return Err(GroupError::CoordinatorFenced { producer, asked, current });
        }
        let ends_its_own = version == ClientVersion::First || self.bugs.has(Bug::EndTheNextToo);
        let is_ended = |epoch| match producer.epoch.cmp(&epoch) {
            Ordering::Greater => true,
            Ordering::Equal => ends_its_own,
            Ordering::Less => false,
        };
        let open = self.producers.open(producer.id).filter(|(_, epoch)| is_ended(*epoch));
        let open: Vec<_> = open.collect();
        let newest = open.iter().map(|(_, epoch)| *epoch).max();
        let mut changes = Vec::new();
        for (place, epoch) in open {
            let stands = marker.committed && Some(epoch) == newest
                || self.bugs.has(Bug::AbortedOffsetsStand);
            changes.extend(self.end(producer.id, place, stands));
        }
        let mut heard = Heard {
            epoch: producer.epoch,
            coordinator_epoch: marker.coordinator_epoch,
            version,
            at: now,
        };
        if let Some(before) = before.filter(|before| before.epoch > producer.epoch) {
            (heard.epoch, heard.version) = (before.epoch, before.version);
        }
        let is_news = before.is_none_or(|before| Heard { at: now, ..before } != heard);
        // Of the first version each counts: what began before it is of a transaction that has ended.
        if is_news || !changes.is_empty() || version == ClientVersion::First {
            changes.push(heard.to_change(producer.id));
        }
        Ok(Decision { changes, ..Decision::default() })
    }

    /// For readers that want to go on from what will stay.
    pub(super) fn check_stable(
        &self,
        group: &str,
        asked: &[pb::TopicPartitions],
    ) -> Result<(), GroupError> {
        let Some(known) = self.groups.get(group) else { return Ok(()) };
        let mut keys = Vec::new();
        for topic in asked {
            keys.extend(partitions_of(topic)?);
        }
        let is_asked = |key: &&GroupPartition| asked.is_empty() || keys.contains(key);
        match known.pending.keys().find(is_asked) {
            Some(partition) if !self.bugs.has(Bug::CallPendingStable) => {
                let (group, partition) = (group.to_owned(), partition.clone());
                Err(GroupError::UnstableOffsetCommit { group, partition })
            }
            _ => Ok(()),
        }
    }

    /// Nothing is pending there any more.
    pub(super) fn drop_pending(&self, group: &str, key: &GroupPartition) -> Vec<Change> {
        let pending = self.groups.get(group).and_then(|known| known.pending.get(key));
        let producers = pending.into_iter().flat_map(|pending| pending.keys());
        producers.map(|id| Change::remove(group, pending_key(*id, key))).collect()
    }

    pub(super) fn has_pending(&self, group: &str, key: &GroupPartition) -> bool {
        self.groups.get(group).is_some_and(|known| known.pending.contains_key(key))
    }

    /// The member that commits; `None`: no member.
    fn member_of_transaction(
        &self,
        request: &pb::CommitTransactionOffsetsRequest,
    ) -> Result<Option<&Member>, GroupError> {
        let (id, instance) = (request.member_id.as_str(), request.instance_id.as_str());
        if id.is_empty() && instance.is_empty() || self.bugs.has(Bug::CommitByStaleMember) {
            return Ok(None);
        }
        let group = self.groups.get(request.group_id.as_str());
        if !instance.is_empty() {
            match group.and_then(|group| group.membership.by_instance(instance)) {
                Some((holder, _)) if **holder == *id => {}
                Some(_) => {
                    return Err(GroupError::FencedInstanceId { instance_id: instance.to_owned() });
                }
                None => return Err(unknown_member(&(request.group_id.as_str().into(), id.into()))),
            }
        }
        let member = known_member(group, &request.group_id, id)?;
        let current = member.current.epoch;
        match request.member_epoch > current {
            true => Err(stale(id, request.member_epoch, current)),
            false => Ok(Some(member)),
        }
    }

    /// What is pending already is not once more: it keeps its place among the others.
    fn pend(
        &self,
        producer: Producer,
        group: &str,
        key: &GroupPartition,
        offset: Committed,
    ) -> Option<Change> {
        let pending = self.groups.get(group).and_then(|known| known.pending.get(key));
        let own = pending.and_then(|pending| pending.get(&producer.id));
        if own.is_some_and(|own| own.epoch == producer.epoch && own.offset.says_the_same(&offset)) {
            return None;
        }
        let last = pending.and_then(|pending| pending.values().map(|it| it.number).max());
        let value = pb::PendingOffsetValue {
            producer_epoch: producer.epoch.0,
            number: last.unwrap_or(0) + 1,
            offset: Some(offset.to_record()),
        };
        Some(Change::put(group, pending_key(producer.id, key), Value::PendingOffset(value)))
    }

    /// What the producer has pending there stands from now on, or goes. What others had pending before that would take it
    /// back later.
    fn end(&self, id: ProducerId, (group, key): &Place, stands: bool) -> Vec<Change> {
        let all = self.groups.get(group).and_then(|known| known.pending.get(key));
        let Some((all, own)) = all.and_then(|all| Some((all, all.get(&id)?))) else {
            return Vec::new();
        };
        let mut changes = Vec::new();
        if stands {
            changes.push(Change::put(group, offset_key(key), own.offset.to_value()));
            let earlier = all.iter().filter(|(_, other)| other.number < own.number);
            changes.extend(earlier.map(|(id, _)| Change::remove(group, pending_key(*id, key))));
        }
        changes.push(Change::remove(group, pending_key(id, key)));
        changes
    }
}

/// Also of what it was told to give up: until it has, that is its own.
fn check_holds(
    member: &Member,
    request: &pb::CommitTransactionOffsetsRequest,
    key: &GroupPartition,
    topic_id: TopicId,
) -> Result<(), GroupError> {
    let held = member.current.held(key).filter(|held| held.topic_id == topic_id);
    match held.is_some_and(|held| held.epoch <= request.member_epoch) {
        true => Ok(()),
        false => Err(GroupError::GivenUp {
            member_id: request.member_id.clone(),
            partition: key.clone(),
            asked: request.member_epoch,
            current: member.current.epoch,
        }),
    }
}
