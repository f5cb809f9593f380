//! From what the members of a group shall hold to what they hold (G14–G20).
//!
//! A member is told one thing at a time. First it gives up what it shall not have; when it has said that it
//! did, its epoch becomes that of its target and it gets what nobody else holds. A member whose target does
//! not change is not bothered, and keeps its epoch. One that is away is told nothing until it comes back.

use super::assignor::{Assignor, AssignorMember, assign};
use super::connections::Connections;
use super::planted::Bug;
use super::records::{member_key, topic_partitions};
use super::state::{Current, Header, Held, Info, Member, Membership, Target};
use super::subscription::Matches;
use super::{Catalog, Change, Decision, GroupPartition, Groups, Push};
use crate::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_proto::ids::TopicId;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_record_key::Of as Key;
use troupe_proto::log::v1::group_record_value::Of as Value;

/// What a new group uses whose first member names none.
pub(super) const DEFAULT_ASSIGNOR: Assignor = Assignor::CooperativeSticky;

pub(super) type Targets = BTreeMap<Arc<str>, BTreeMap<GroupPartition, TopicId>>;

/// A decision under way: the membership as it will be once the changes so far are replayed.
pub(super) struct Draft {
    pub group: Arc<str>,
    pub membership: Membership,
    pub decision: Decision<()>,
    now: Time,
    catalog: Arc<Catalog>,
    /// False only with [`Bug::GrantBeforeRelease`].
    strict: bool,
}

/// A member that is to be told something now.
#[derive(Clone, Copy)]
pub(super) enum Turn<'a> {
    Nobody,
    /// It has joined: it is told what it holds, even if that is nothing.
    Joined(&'a Arc<str>),
    /// It has given up what it was told to.
    Applied(&'a Arc<str>),
}

impl Groups {
    /// A decision about a group, be it new.
    pub(super) fn draft(&self, now: Time, group: &str) -> Draft {
        let known = self.group(group);
        Draft {
            group: known.map_or_else(|| group.into(), |(name, _)| Arc::clone(name)),
            membership: known.map(|(_, group)| group.membership.clone()).unwrap_or_default(),
            decision: Decision::default(),
            now,
            catalog: self.catalog.clone().unwrap_or_default(),
            strict: !self.bugs.has(Bug::GrantBeforeRelease),
        }
    }
}

impl Draft {
    pub fn put_member(&mut self, member_id: &str, info: &Info) {
        self.put(Key::Member(member_key(member_id)), Value::Member(info.to_record()));
    }

    pub fn put_target(&mut self, member_id: &str, target: &Target) {
        self.put(Key::Target(member_key(member_id)), Value::Target(target.to_record()));
    }

    pub fn put_current(&mut self, member_id: &str, current: &Current) {
        self.put(Key::Current(member_key(member_id)), Value::Current(current.to_record()));
    }

    /// The member is out; what it held is free.
    pub fn remove_member(&mut self, member_id: &str) {
        let group = Arc::clone(&self.group);
        self.change(Change::remove(&group, Key::Current(member_key(member_id))));
        self.change(Change::remove(&group, Key::Target(member_key(member_id))));
        self.change(Change::remove(&group, Key::Member(member_key(member_id))));
    }

    /// G15: the members or what they want have changed. The next epoch, and the targets of those for whom
    /// that changes something.
    pub fn next_epoch(&mut self, assignor: Option<Assignor>) {
        let empty_since = self.membership.members.is_empty().then_some(self.now);
        let epoch = self.membership.epoch() + 1;
        self.put_header(&Header { epoch, assignor, empty_since });
        let targets = compute(&self.membership, &self.catalog);
        self.put_targets(targets);
    }

    /// The next epoch, in which the member that joins gets nothing yet: more members are waited for.
    pub fn next_epoch_without_targets(&mut self, assignor: Assignor, member_id: &str) {
        let epoch = self.membership.epoch() + 1;
        self.put_header(&Header { epoch, assignor: Some(assignor), empty_since: None });
        self.put_target(member_id, &Target { epoch, partitions: BTreeMap::new() });
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// G15: topics have changed. Nothing is done where that changes no target.
    pub fn retarget(&mut self, targets: Targets) {
        let epoch = self.membership.epoch() + 1;
        let assignor = self.membership.assignor();
        self.put_header(&Header { epoch, assignor, empty_since: None });
        self.put_targets(targets);
    }

    /// Brings every member as far as it can go at present.
    pub fn reconcile(&mut self, connections: &mut Connections, turn: Turn<'_>) {
        // Who gives something up comes first, so that others get it.
        if let Turn::Applied(member_id) = turn {
            self.step(connections, member_id, turn);
        }
        let members: Vec<_> = self.membership.members.keys().cloned().collect();
        for member_id in &members {
            if !matches!(turn, Turn::Applied(done) if done == member_id) {
                self.step(connections, member_id, turn);
            }
        }
    }

    /// Tells the member all that it holds.
    pub fn tell(&mut self, connections: &mut Connections, member_id: &Arc<str>) {
        let Some(member) = self.membership.members.get(member_id) else { return };
        let Some(session) = connections.connection(&self.group, member_id).session else { return };
        let deadline = self.now.plus(u64::from(member.info.rebalance_timeout_ms));
        let assigned = &member.current.assigned;
        let assigned = assigned.iter().map(|(partition, held)| (partition, held.topic_id));
        let number = connections.tell(&self.group, member_id, deadline);
        self.decision.pushes.push(Push {
            session,
            member_id: Arc::clone(member_id),
            member_epoch: member.current.epoch,
            assignment: Some((number, topic_partitions(assigned))),
        });
    }

    /// One member's next step, if there is one that it can be told now.
    fn step(&mut self, connections: &mut Connections, member_id: &Arc<str>, turn: Turn<'_>) {
        let Some(member) = self.membership.members.get(member_id).cloned() else { return };
        let connection = connections.connection(&self.group, member_id);
        let Some(session) = connection.session else { return };
        let joined = matches!(turn, Turn::Joined(joined) if joined == member_id);
        let applied = matches!(turn, Turn::Applied(applied) if applied == member_id);
        let waits =
            connection.outstanding.is_some() || (!member.current.revoking.is_empty() && !applied);
        if waits {
            return;
        }
        let next = self.next_step(member_id, &member);
        let anew = next.assigned.len() != member.current.assigned.len()
            || !next.revoking.is_empty()
            || joined;
        let epoch_moves = next.epoch != member.current.epoch;
        if next != member.current {
            self.put_current(member_id, &next);
        }
        if anew {
            self.tell(connections, member_id);
        } else if epoch_moves {
            let (member_id, member_epoch) = (Arc::clone(member_id), next.epoch);
            self.decision.pushes.push(Push { session, member_id, member_epoch, assignment: None });
        }
    }

    /// G16, of a member that has nothing left to give up of what it was told before.
    fn next_step(&self, member_id: &Arc<str>, member: &Member) -> Current {
        let (target, current) = (&member.target, &member.current);
        let (keep, unwanted): (BTreeMap<_, _>, BTreeMap<_, _>) = current
            .assigned
            .iter()
            .map(|(partition, held)| (partition.clone(), *held))
            .partition(|(partition, held)| target.wants(partition, held.topic_id));
        let (epoch, previous_epoch) = (current.epoch, current.previous_epoch);
        if !unwanted.is_empty() {
            return Current { epoch, previous_epoch, assigned: keep, revoking: unwanted };
        }
        let next_epoch = epoch.max(target.epoch);
        let moves = next_epoch != epoch;
        let mut assigned = keep;
        for (partition, topic_id) in &target.partitions {
            let holder = self.membership.holders.get(partition);
            let is_free = holder.is_none_or(|holder| holder == member_id) || !self.strict;
            if is_free && !assigned.contains_key(partition) {
                let held = Held { topic_id: *topic_id, epoch: next_epoch };
                assigned.insert(partition.clone(), held);
            }
        }
        Current {
            epoch: next_epoch,
            previous_epoch: if moves { epoch } else { previous_epoch },
            assigned,
            revoking: BTreeMap::new(),
        }
    }

    fn put_header(&mut self, header: &Header) {
        let value = pb::GroupValue {
            epoch: header.epoch,
            assignor: header.assignor.map(|assignor| assignor.to_string()).unwrap_or_default(),
            empty_since_ms: header.empty_since.map(Time::as_timestamp),
        };
        self.put(Key::Group(pb::GroupKey {}), Value::Group(value));
    }

    fn put_targets(&mut self, targets: Targets) {
        let epoch = self.membership.epoch();
        for (member_id, partitions) in targets {
            let known = self.membership.members.get(&member_id).map(|member| &member.target);
            if known.is_some_and(|known| known.epoch == 0 || known.partitions != partitions) {
                self.put_target(&member_id, &Target { epoch, partitions });
            }
        }
    }

    fn put(&mut self, key: Key, value: Value) {
        self.change(Change::put(&self.group, key, value));
    }

    fn change(&mut self, change: Change) {
        self.membership
            .replay(&change, self.strict)
            .expect("a record made from sound state keeps it sound, and I13 with it");
        self.decision.changes.push(change);
    }
}

/// What every member shall hold, by the group's assignor.
pub(super) fn compute(membership: &Membership, catalog: &Catalog) -> Targets {
    let mut matches = Matches::new(catalog);
    let mut partitions = BTreeMap::new();
    let mut members = Vec::with_capacity(membership.members.len());
    for (member_id, member) in &membership.members {
        let topics = matches.topics(&member.info.subscription);
        for topic in &topics {
            if let Some(known) = catalog.topics.get(topic) {
                partitions.entry(Arc::clone(topic)).or_insert(known.partitions);
            }
        }
        let is_of_now = |(partition, id): &(&GroupPartition, &TopicId)| {
            catalog.topics.get(&partition.topic).is_some_and(|topic| topic.id == **id)
        };
        let owned = member.target.partitions.iter().filter(is_of_now);
        members.push(AssignorMember {
            member_id: Arc::clone(member_id),
            instance_id: member.info.instance_id.clone(),
            topics,
            owned: owned.map(|(partition, _)| partition.clone()).collect(),
            epoch: member.target.epoch,
        });
    }
    let assignor = membership.assignor().unwrap_or(DEFAULT_ASSIGNOR);
    let with_id = |partition: GroupPartition| {
        let id = catalog.topics.get(&partition.topic).map(|topic| topic.id);
        id.map(|id| (partition, id))
    };
    assign(assignor, &members, &partitions)
        .into_iter()
        .map(|(member_id, shall)| (member_id, shall.into_iter().filter_map(with_id).collect()))
        .collect()
}
