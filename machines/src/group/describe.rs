//! What tools see of groups.

use super::connections::Connection;
use super::offsets::not_found;
use super::records::topic_partitions;
use super::state::{Group, Member};
use super::{GroupError, Groups, check_group_id};
use std::sync::Arc;
use troupe_proto::log::v1 as pb;

impl Groups {
    /// All groups, by name. Who coordinates them is for the caller to say.
    pub fn list(&self) -> Vec<pb::GroupListing> {
        let listing = |(name, group): (&Arc<str>, &Group)| pb::GroupListing {
            group_id: name.to_string(),
            state: state(group, self.forming.contains_key(name)).into(),
            member_count: i32::try_from(group.membership.members.len()).unwrap_or(i32::MAX),
            coordinator_id: 0,
            assignor: assignor(group),
        };
        self.groups.iter().map(listing).collect()
    }

    /// One group with its members. Who coordinates it is for the caller to say.
    pub fn describe(&self, group: &str) -> Result<pb::DescribeGroupResponse, GroupError> {
        check_group_id(group)?;
        let (name, group) = self.group(group).ok_or_else(|| not_found(group))?;
        let members = group.membership.members.iter();
        let describe = |(id, member): (&Arc<str>, &Arc<Member>)| {
            describe_member(id, member, self.connections.connection(name, id))
        };
        Ok(pb::DescribeGroupResponse {
            group_id: name.to_string(),
            state: state(group, self.forming.contains_key(name)).into(),
            group_epoch: group.membership.epoch(),
            assignor: assignor(group),
            coordinator_id: 0,
            coordinator_endpoint: String::new(),
            members: members.map(describe).collect(),
        })
    }
}

/// G20. A target is computed with the change that asks for it, so that a group is assigning only while more
/// members are waited for, and after a crash in between.
fn state(group: &Group, forming: bool) -> pb::GroupState {
    let members = &group.membership.members;
    if members.is_empty() {
        pb::GroupState::Empty
    } else if forming || members.values().any(|member| member.target.epoch == 0) {
        pb::GroupState::Assigning
    } else if members.values().any(|member| is_behind(member)) {
        pb::GroupState::Reconciling
    } else {
        pb::GroupState::Stable
    }
}

fn is_behind(member: &Member) -> bool {
    member.current.epoch < member.target.epoch || member_state(member) != pb::MemberState::Stable
}

/// G16.
fn member_state(member: &Member) -> pb::MemberState {
    if member.holds_too_much() {
        pb::MemberState::UnrevokedPartitions
    } else if member.lacks_some() {
        pb::MemberState::UnreleasedPartitions
    } else {
        pb::MemberState::Stable
    }
}

fn assignor(group: &Group) -> String {
    group.membership.assignor().map(|assignor| assignor.to_string()).unwrap_or_default()
}

fn describe_member(id: &str, member: &Member, connection: Connection) -> pb::MemberDescription {
    let away_until = connection.away_until.filter(|_| connection.session.is_none());
    let (info, current) = (&member.info, &member.current);
    let mut held: Vec<_> = current.assigned.iter().chain(&current.revoking).collect();
    held.sort_by_key(|(partition, _)| *partition);
    let held = held.into_iter().map(|(partition, held)| (partition, held.topic_id));
    let target = member.target.partitions.iter().map(|(partition, id)| (partition, *id));
    pb::MemberDescription {
        member_id: id.to_owned(),
        instance_id: info.instance_id.as_deref().unwrap_or_default().to_owned(),
        client_id: info.client_id.clone(),
        host: info.host.clone(),
        member_epoch: current.epoch,
        state: member_state(member).into(),
        subscription: Some(pb::Subscription {
            topics: info.subscription.topics.iter().map(|topic| topic.to_string()).collect(),
            pattern: info.subscription.pattern_source().to_owned(),
        }),
        assigned: topic_partitions(held),
        target: topic_partitions(target),
        connected: connection.session.is_some(),
        away_until_ms: away_until.map_or(0, |at| i64::try_from(at.0).unwrap_or(i64::MAX)),
    }
}
