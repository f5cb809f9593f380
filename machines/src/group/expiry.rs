//! What time does, and what topics do that come and go: members that are away or slow leave, offsets that
//! nobody needs any more go, and so do groups without anything (G13, G18, G26, G27).

use super::producers::producer_key;
use super::rebalance::{Turn, compute};
use super::records::{offset_key, pending_key};
use super::state::{Committed, Group};
use super::{Catalog, Change, Decision, GroupError, GroupPartition, Groups};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;

/// How often expired offsets are looked for (G27).
pub(super) const SWEEP_INTERVAL_MS: u64 = 600_000;

impl Groups {
    /// Topics have come, grown or gone: new targets where that changes something. The offsets of topics
    /// that are gone, and of those that were made again under the same name, are deleted.
    pub fn catalog_changed(&mut self, now: Time) -> Decision<()> {
        let mut decision = Decision::default();
        let Some(catalog) = self.catalog.clone() else { return decision };
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            let Some(group) = self.groups.get(&name) else { continue };
            if !self.is_affected(group) {
                continue;
            }
            decision.changes.extend(gone(&catalog, &name, group));
            let targets = compute(&group.membership, &catalog);
            let changes = group.membership.members.iter().any(|(member_id, member)| {
                member.target.epoch == 0
                    || targets.get(member_id) != Some(&member.target.partitions)
            });
            if changes {
                let mut draft = self.draft(now, &name);
                draft.retarget(targets);
                draft.reconcile(&mut self.connections, Turn::Nobody);
                merge(&mut decision, draft.decision);
            }
        }
        self.changed_topics = Some(Default::default());
        decision
    }

    /// Members that were away for longer than their session lasts, or have not applied what they were told
    /// within their rebalance timeout, are out. Now and then offsets and groups expire.
    pub fn on_time(&mut self, now: Time) -> Decision<()> {
        let mut decision = Decision::default();
        // Of these the rest of this decision knows only what was before it; and all is shared out.
        let mut left = BTreeSet::new();
        for (group, members) in self.connections.overdue(now) {
            for member_id in &members {
                if let Some(session) = self.connections.connection(&group, member_id).session {
                    let error = self.too_slow(&group, member_id);
                    decision.ended.push((session, error));
                }
            }
            merge(&mut decision, self.remove_members(now, &group, &members));
            left.insert(group);
        }
        let formed = self.forming.iter().filter(|(_, at)| **at <= now);
        let formed: Vec<_> = formed.map(|(name, _)| Arc::clone(name)).collect();
        for name in formed {
            self.forming.remove(&name);
            if !left.contains(&name) {
                merge(&mut decision, self.share_out(now, &name));
            }
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.next_sweep = Some(now.plus(SWEEP_INTERVAL_MS));
            decision.changes.extend(self.sweep(now));
        }
        decision
    }

    /// When [`Groups::on_time`] has something to do; calling it earlier does no harm.
    pub fn next_deadline(&self) -> Option<Time> {
        let sweep =
            self.next_sweep.filter(|_| !self.groups.is_empty() || !self.producers.is_empty());
        let formed = self.forming.values().min().copied();
        self.connections.next_deadline().into_iter().chain(sweep).chain(formed).min()
    }

    /// Nobody else is waited for: the members get their partitions.
    fn share_out(&mut self, now: Time, group: &Arc<str>) -> Decision<()> {
        let mut draft = self.draft(now, group);
        if draft.membership.members.is_empty() {
            return Decision::default();
        }
        let assignor = draft.membership.assignor();
        draft.next_epoch(assignor);
        draft.reconcile(&mut self.connections, Turn::Nobody);
        draft.decision
    }

    /// Whether topics have changed that the group reads or has offsets of.
    fn is_affected(&self, group: &Group) -> bool {
        let Some(changed) = &self.changed_topics else { return true };
        let has_offsets = |topic: &Arc<str>| {
            let (topic, partition) = (Arc::clone(topic), PartitionId(0));
            let first = GroupPartition { topic, partition };
            let committed = group.offsets.range(&first..).next().map(|(key, _)| key);
            let pending = group.pending.range(&first..).next().map(|(key, _)| key);
            committed.into_iter().chain(pending).any(|key| key.topic == first.topic)
        };
        changed.iter().any(|topic| self.is_subscribed(group, topic) || has_offsets(topic))
    }

    fn too_slow(&self, group: &Arc<str>, member_id: &Arc<str>) -> GroupError {
        let known = self.groups.get(group).and_then(|it| it.membership.members.get(member_id));
        GroupError::RebalanceTimedOut {
            member_id: member_id.to_string(),
            timeout_ms: known.map_or(0, |member| member.info.rebalance_timeout_ms),
        }
    }

    /// G27. Of what is pending nobody knows yet whether it stands, so its group stays.
    fn sweep(&self, now: Time) -> Vec<Change> {
        let mut changes = Vec::new();
        // Members that leave in the same decision are still there for this one: their offsets stay.
        for (name, group) in &self.groups {
            let is_expired = |(partition, it): &(&GroupPartition, &Committed)| {
                self.expires_at(group, it) <= now
                    && !self.is_subscribed(group, &partition.topic)
                    && !group.pending.contains_key(*partition)
            };
            let expired: Vec<_> = group.offsets.iter().filter(is_expired).collect();
            let nothing_left = expired.len() == group.offsets.len() && group.pending.is_empty();
            let offsets = expired.into_iter().map(|(partition, _)| offset_key(partition));
            changes.extend(offsets.map(|key| Change::remove(name, key)));
            let membership = &group.membership;
            if nothing_left && membership.members.is_empty() && membership.header.is_some() {
                changes.push(Change::remove(name, Key::Group(pb::GroupKey {})));
            }
        }
        let then = Time(now.0.saturating_sub(self.settings.producer_expiration_ms));
        let silent = self.producers.silent_since(then);
        changes.extend(silent.map(|id| Change::remove("", producer_key(id))));
        changes
    }

    /// When nobody needs the offset any more, unless a member reads the topic. What was committed after the
    /// last member left, by a reset, counts from then.
    fn expires_at(&self, group: &Group, committed: &Committed) -> Time {
        let committed_at = Time(u64::try_from(committed.commit_timestamp_ms).unwrap_or(0));
        let empty_since = group.membership.header.as_ref().and_then(|header| header.empty_since);
        let since = empty_since.map_or(committed_at, |at| at.max(committed_at));
        since.plus(self.settings.retention_ms)
    }
}

/// What the group has of topics that are not there any more.
fn gone(catalog: &Catalog, name: &str, group: &Group) -> Vec<Change> {
    let is_gone = |partition: &GroupPartition, it: &Committed| {
        let topic = catalog.topics.get(&partition.topic);
        topic.is_none_or(|topic| topic.id != it.topic_id)
    };
    let offsets = group.offsets.iter().filter(|(partition, it)| is_gone(partition, it));
    let pending = group.pending.iter().flat_map(|(partition, pending)| {
        let gone = pending.iter().filter(move |(_, it)| is_gone(partition, &it.offset));
        gone.map(move |(id, _)| pending_key(*id, partition))
    });
    let keys = offsets.map(|(partition, _)| offset_key(partition)).chain(pending);
    keys.map(|key| Change::remove(name, key)).collect()
}

fn merge(into: &mut Decision<()>, more: Decision<()>) {
    into.changes.extend(more.changes);
    into.pushes.extend(more.pushes);
    into.ended.extend(more.ended);
}
