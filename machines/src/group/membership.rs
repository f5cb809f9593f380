//! Members come, come back, change what they want, and go (G12–G14, G19).

use super::assignor::Assignor;
use super::connections::unknown;
use super::offsets::{not_found, partitions_of, unknown_member};
use super::rebalance::{DEFAULT_ASSIGNOR, Draft, Turn};
use super::state::{Current, Info, Member, Membership};
use super::subscription::Subscription;
use super::{Decision, GroupError, Groups, SessionId, check_group_id};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use troupe_proto::log::v1 as pb;

/// Of what a member calls itself.
const MAX_NAME_BYTES: usize = 1_024;

impl Groups {
    /// A member joins, or comes back: with its member id, or under its instance id. The answer is the push to
    /// the session, always with an assignment. `new_member_id` is nobody's yet; it is used unless the member
    /// comes back by its id.
    pub fn join(
        &mut self,
        now: Time,
        session: SessionId,
        new_member_id: String,
        host: &str,
        start: pb::MemberStart,
    ) -> Result<Decision<()>, GroupError> {
        check_group_id(&start.group_id)?;
        let draft = self.draft(now, &start.group_id);
        if !start.member_id.is_empty() {
            return self.come_back(draft, session, host, &start);
        }
        let info = self.info(host, &start)?;
        let instance = draft.membership.by_instance(&start.instance_id);
        match instance.filter(|_| !start.instance_id.is_empty()) {
            Some((old_id, old)) => {
                let (old_id, old) = (Arc::clone(old_id), Arc::clone(old));
                let old = (&old_id, &*old);
                self.take_over(draft, session, new_member_id.into(), old, &info, &start)
            }
            None => self.join_anew(draft, session, new_member_id.into(), &info, &start),
        }
    }

    /// The member holds what the assignment of this number said, and no more: what it gave up goes on to
    /// others. Another number than the one that is outstanding says nothing.
    pub fn applied(&mut self, now: Time, session: SessionId, number: u64) -> Decision<()> {
        let Some((group, member_id)) = self.connections.member_of(session).cloned() else {
            return Decision::default();
        };
        let outstanding = self.connections.connection(&group, &member_id).outstanding;
        if outstanding.is_none_or(|outstanding| outstanding.number != number) {
            return Decision::default();
        }
        self.connections.acknowledge(&group, &member_id);
        let mut draft = self.draft(now, &group);
        draft.reconcile(&mut self.connections, Turn::Applied(&member_id));
        draft.decision
    }

    /// The member wants other topics.
    pub fn subscribe(
        &mut self,
        now: Time,
        session: SessionId,
        subscription: pb::Subscription,
    ) -> Result<Decision<()>, GroupError> {
        let key = self.connections.member_of(session).cloned().ok_or_else(|| unknown(session))?;
        let subscription = Subscription::asked(&subscription)?;
        let mut draft = self.draft(now, &key.0);
        let member = draft.membership.members.get(&key.1).ok_or_else(|| unknown_member(&key))?;
        if member.info.subscription == subscription {
            return Ok(Decision::default());
        }
        let info = Info { subscription, ..member.info.clone() };
        draft.put_member(&key.1, &info);
        let assignor = draft.membership.assignor();
        draft.next_epoch(assignor);
        draft.reconcile(&mut self.connections, Turn::Nobody);
        Ok(draft.decision)
    }

    /// A dynamic member frees what it holds at once; a static one is only away (G13).
    pub fn leave(&mut self, now: Time, session: SessionId) -> Decision<()> {
        let Some((group, member_id)) = self.connections.member_of(session).cloned() else {
            return Decision::default();
        };
        let known = self.group(&group).and_then(|(_, it)| it.membership.members.get(&member_id));
        if known.is_some_and(|member| member.info.instance_id.is_some()) {
            self.disconnected(now, session);
            return Decision::default();
        }
        self.remove_members(now, &group, &[member_id])
    }

    /// The stream is gone. The member keeps its place until its session times out.
    pub fn disconnected(&mut self, now: Time, session: SessionId) {
        let Some((group, member_id)) = self.connections.member_of(session).cloned() else { return };
        let known = self.group(&group).and_then(|(_, it)| it.membership.members.get(&member_id));
        let timeout = known.map_or(0, |member| member.session_timeout());
        self.connections.disconnect(&group, &member_id, now.plus(timeout));
    }

    /// Somebody wants members to leave, all that are named or none: of those that have a stream it ends.
    ///
    /// # Errors
    /// [`GroupError::GroupNotFound`], [`GroupError::NoSuchMember`], [`GroupError::InvalidRequest`].
    pub fn expel(
        &mut self,
        now: Time,
        request: &pb::RemoveGroupMembersRequest,
    ) -> Result<Decision<pb::RemoveGroupMembersResponse>, GroupError> {
        check_group_id(&request.group_id)?;
        let (name, group) =
            self.group(&request.group_id).ok_or_else(|| not_found(&request.group_id))?;
        let members = &group.membership.members;
        let missing = |member: &String| GroupError::NoSuchMember {
            group: request.group_id.clone(),
            member: member.clone(),
        };
        let mut named = BTreeSet::new();
        for id in &request.member_ids {
            let (id, _) = members.get_key_value(id.as_str()).ok_or_else(|| missing(id))?;
            named.insert(Arc::clone(id));
        }
        for instance in &request.instance_ids {
            let mut members = members.iter();
            let is_it = |(_, member): &(&Arc<str>, &Arc<Member>)| {
                member.info.instance_id.as_deref() == Some(instance.as_str())
            };
            let (id, _) = members.find(is_it).ok_or_else(|| missing(instance))?;
            named.insert(Arc::clone(id));
        }
        if named.is_empty() {
            let reason = "no member is named; name some by member_ids or instance_ids".to_owned();
            return Err(GroupError::InvalidRequest { reason });
        }
        let (name, named) = (Arc::clone(name), named.into_iter().collect::<Vec<_>>());
        let mut ended = Vec::new();
        for id in &named {
            if let Some(session) = self.connections.connection(&name, id).session {
                let (group, member_id) = (name.to_string(), id.to_string());
                ended.push((session, GroupError::UnknownMember { group, member_id }));
            }
        }
        let removed = self.remove_members(now, &name, &named);
        ended.extend(removed.ended);
        let member_ids = named.iter().map(ToString::to_string).collect();
        let answer = pb::RemoveGroupMembersResponse { member_ids };
        Ok(Decision { changes: removed.changes, answer, pushes: removed.pushes, ended })
    }

    /// Members go, all at once. Whoever has a stream is for the caller to tell, before.
    pub(super) fn remove_members(
        &mut self,
        now: Time,
        group: &Arc<str>,
        member_ids: &[Arc<str>],
    ) -> Decision<()> {
        let mut draft = self.draft(now, group);
        for member_id in member_ids {
            draft.remove_member(member_id);
            self.connections.remove(group, member_id);
        }
        let assignor = draft.membership.assignor();
        draft.next_epoch(assignor);
        draft.reconcile(&mut self.connections, Turn::Nobody);
        draft.decision
    }

    fn join_anew(
        &mut self,
        mut draft: Draft,
        session: SessionId,
        member_id: Arc<str>,
        info: &Info,
        start: &pb::MemberStart,
    ) -> Result<Decision<()>, GroupError> {
        let assignor = choose_assignor(&draft.membership, None, &start.assignor)?;
        let limit = self.settings.max_members;
        if draft.membership.members.len() >= limit {
            return Err(GroupError::GroupMaxSizeReached { limit });
        }
        let delay = self.settings.initial_rebalance_delay_ms;
        if draft.membership.members.is_empty() && delay > 0 {
            self.forming.insert(Arc::clone(&draft.group), draft.now().plus(delay));
        }
        draft.put_member(&member_id, info);
        match self.forming.contains_key(&draft.group) {
            true => draft.next_epoch_without_targets(assignor, &member_id),
            false => draft.next_epoch(Some(assignor)),
        }
        self.connections.connect(&draft.group, &member_id, session);
        draft.reconcile(&mut self.connections, Turn::Joined(&member_id));
        Ok(draft.decision)
    }

    /// G13: the same instance in a new process. It gets what the old one had, without a rebalance; what the
    /// old one was giving up is free, because the new one never had it.
    fn take_over(
        &mut self,
        mut draft: Draft,
        session: SessionId,
        member_id: Arc<str>,
        (old_id, old): (&Arc<str>, &Member),
        info: &Info,
        start: &pb::MemberStart,
    ) -> Result<Decision<()>, GroupError> {
        let assignor = choose_assignor(&draft.membership, Some(old_id), &start.assignor)?;
        let wants_other = old.info.subscription != info.subscription
            || draft.membership.assignor() != Some(assignor);
        let wanted = old.current.assigned.iter();
        let wanted = wanted.filter(|(partition, held)| old.target.wants(partition, held.topic_id));
        let current = Current {
            epoch: old.current.epoch,
            previous_epoch: 0,
            assigned: wanted.map(|(partition, held)| (partition.clone(), *held)).collect(),
            revoking: BTreeMap::new(),
        };
        draft.remove_member(old_id);
        draft.put_member(&member_id, info);
        draft.put_target(&member_id, &old.target);
        draft.put_current(&member_id, &current);
        if let Some(ended) = self.connections.remove(&draft.group, old_id) {
            let instance_id = start.instance_id.clone();
            draft.decision.ended.push((ended, GroupError::FencedInstanceId { instance_id }));
        }
        if wants_other {
            draft.next_epoch(Some(assignor));
        }
        self.connections.connect(&draft.group, &member_id, session);
        draft.reconcile(&mut self.connections, Turn::Joined(&member_id));
        Ok(draft.decision)
    }

    /// G19: after a broken stream, or a coordinator that failed. It is told again all that it holds, and goes
    /// on from there when it has applied that.
    fn come_back(
        &mut self,
        mut draft: Draft,
        session: SessionId,
        host: &str,
        start: &pb::MemberStart,
    ) -> Result<Decision<()>, GroupError> {
        let known = draft.membership.members.get_key_value(start.member_id.as_str());
        let Some((member_id, member)) = known else { return Err(gone(&draft, start)) };
        let (member_id, member) = (Arc::clone(member_id), Arc::clone(member));
        check_epoch(&member, start)?;
        let assignor = choose_assignor(&draft.membership, Some(&member_id), &start.assignor)?;
        let said = self.info(host, start)?;
        let known = &member.info;
        // What it leaves out is as it was. What it is called, it is called for life.
        let info = Info {
            instance_id: known.instance_id.clone(),
            client_id: known.client_id.clone(),
            host: said.host,
            subscription: match start.subscription {
                Some(_) => said.subscription,
                None => known.subscription.clone(),
            },
            session_timeout_ms: match start.session_timeout_ms {
                0 => known.session_timeout_ms,
                _ => said.session_timeout_ms,
            },
            rebalance_timeout_ms: match start.rebalance_timeout_ms {
                0 => known.rebalance_timeout_ms,
                _ => said.rebalance_timeout_ms,
            },
        };
        let wants_other = info.subscription != member.info.subscription
            || draft.membership.assignor() != Some(assignor);
        if info != member.info {
            draft.put_member(&member_id, &info);
        }
        if wants_other {
            draft.next_epoch(Some(assignor));
        }
        if let Some(ended) = self.connections.connection(&draft.group, &member_id).session {
            let member_id = member_id.to_string();
            draft.decision.ended.push((ended, GroupError::MemberElsewhere { member_id }));
        }
        self.connections.connect(&draft.group, &member_id, session);
        draft.tell(&mut self.connections, &member_id);
        if wants_other {
            draft.reconcile(&mut self.connections, Turn::Nobody);
        }
        Ok(draft.decision)
    }

    /// What the member says of itself, with the defaults for what it leaves out.
    fn info(&self, host: &str, start: &pb::MemberStart) -> Result<Info, GroupError> {
        check_name("client_id", &start.client_id)?;
        check_name("instance_id", &start.instance_id)?;
        let settings = &self.settings;
        let (min, max) = (settings.min_session_timeout_ms, settings.max_session_timeout_ms);
        let is_static = !start.instance_id.is_empty();
        let session_timeout_ms = match start.session_timeout_ms {
            0 if is_static => settings.default_static_session_timeout_ms,
            0 => settings.default_session_timeout_ms,
            asked if asked < min || asked > max => {
                return Err(GroupError::InvalidSessionTimeout { asked, min, max });
            }
            asked => asked,
        };
        let rebalance_timeout_ms = match start.rebalance_timeout_ms {
            0 => settings.default_rebalance_timeout_ms,
            asked => asked,
        };
        let subscription = start.subscription.clone().unwrap_or_default();
        Ok(Info {
            instance_id: is_static.then(|| start.instance_id.as_str().into()),
            client_id: start.client_id.clone(),
            host: host.to_owned(),
            subscription: Subscription::asked(&subscription)?,
            session_timeout_ms,
            rebalance_timeout_ms,
        })
    }
}

/// Names are part of every record, answer and error about the member.
fn check_name(what: &str, name: &str) -> Result<(), GroupError> {
    if name.len() <= MAX_NAME_BYTES {
        return Ok(());
    }
    let reason = format!("{what} has {} bytes; use {MAX_NAME_BYTES} at most", name.len());
    Err(GroupError::InvalidRequest { reason })
}

/// The group's, unless a member comes that is, or will be, alone: that one chooses.
fn choose_assignor(
    membership: &Membership,
    returning: Option<&Arc<str>>,
    asked: &str,
) -> Result<Assignor, GroupError> {
    let current = membership.assignor();
    if asked.is_empty() {
        return Ok(current.unwrap_or(DEFAULT_ASSIGNOR));
    }
    let parsed = asked.parse::<Assignor>();
    let chosen = parsed.map_err(|_| GroupError::UnsupportedAssignor { asked: asked.to_owned() })?;
    let is_alone = membership.members.keys().all(|other| Some(other) == returning);
    match current {
        Some(current) if current != chosen && !is_alone => {
            let (asked, current) = (asked.to_owned(), current.to_string());
            Err(GroupError::InconsistentAssignor { asked, current })
        }
        _ => Ok(chosen),
    }
}

/// Its last epoch or the one before, and nothing that it does not hold.
fn check_epoch(member: &Member, start: &pb::MemberStart) -> Result<(), GroupError> {
    let current = &member.current;
    let asked = start.member_epoch;
    let mut known = asked == current.epoch || asked == current.previous_epoch;
    for topic in &start.owned {
        known &= partitions_of(topic)?.iter().all(|partition| {
            let same = |id: &[u8]| topic.topic_id.is_empty() || topic.topic_id[..] == *id;
            current.held(partition).is_some_and(|held| same(held.topic_id.as_bytes()))
        });
    }
    if known {
        return Ok(());
    }
    let member_id = start.member_id.clone();
    Err(GroupError::FencedMemberEpoch { member_id, asked, current: current.epoch })
}

/// Why a member cannot come back that is not there: another may have its place.
fn gone(draft: &Draft, start: &pb::MemberStart) -> GroupError {
    let instance_id = start.instance_id.clone();
    if !instance_id.is_empty() && draft.membership.by_instance(&instance_id).is_some() {
        return GroupError::FencedInstanceId { instance_id };
    }
    unknown_member(&(Arc::clone(&draft.group), start.member_id.as_str().into()))
}
