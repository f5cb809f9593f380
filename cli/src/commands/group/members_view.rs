//! Who is in a group, and what each reads.

use super::view::{GroupView, state_name};
use crate::assignment::assignment;
use crate::output::{Output, Table, Tone, number, text};
use crate::timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use troupe_proto::log::v1::{
    DescribeGroupResponse, MemberDescription, MemberState, Subscription, TopicPartitions,
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MembersView {
    group_id: String,
    state: &'static str,
    group_epoch: u32,
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    member_id: String,
    instance_id: String,
    host: String,
    client_id: String,
    member_epoch: u32,
    state: &'static str,
    connected: bool,
    /// When a member that is away leaves the group. None: it is connected, or that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    away_until: Option<String>,
    #[serde(skip)]
    away_until_ms: i64,
    topics: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pattern: String,
    partition_count: usize,
    /// By topic.
    assignment: BTreeMap<String, Vec<i32>>,
    target: BTreeMap<String, Vec<i32>>,
}

impl MembersView {
    pub fn new(group: &DescribeGroupResponse) -> MembersView {
        MembersView {
            group_id: group.group_id.clone(),
            state: state_name(group.state()),
            group_epoch: group.group_epoch,
            members: group.members.iter().map(MemberView::new).collect(),
        }
    }
}

impl GroupView for MembersView {
    fn render(output: &Output, groups: &[Self]) -> String {
        output.table(&table(groups))
    }
}

impl MemberView {
    fn new(member: &MemberDescription) -> MemberView {
        let Subscription { topics, pattern } = member.subscription.clone().unwrap_or_default();
        let assignment = by_topic(&member.assigned);
        MemberView {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            host: member.host.clone(),
            client_id: member.client_id.clone(),
            member_epoch: member.member_epoch,
            state: match member.state() {
                MemberState::Stable => "Stable",
                MemberState::UnrevokedPartitions => "UnrevokedPartitions",
                MemberState::UnreleasedPartitions => "UnreleasedPartitions",
                MemberState::Unspecified => "Unknown",
            },
            connected: member.connected,
            away_until: (member.away_until_ms > 0).then(|| timestamp::show(member.away_until_ms)),
            away_until_ms: member.away_until_ms,
            topics,
            pattern,
            partition_count: assignment.values().map(Vec::len).sum(),
            assignment,
            target: by_topic(&member.target),
        }
    }

    /// Of one that is away, how long its place is kept: who has stopped it looks for that.
    fn condition(&self, now_ms: i64) -> String {
        if self.connected {
            return self.state.to_owned();
        }
        match self.away_until_ms {
            0 => "Away".to_owned(),
            until => {
                let left = until.saturating_sub(now_ms).max(0).unsigned_abs();
                format!("Away, kept for {} s", left.div_ceil(1_000))
            }
        }
    }

    fn subscription(&self) -> String {
        match self.pattern.as_str() {
            "" => self.topics.join(","),
            pattern => format!("/{pattern}/"),
        }
    }
}

fn by_topic(topics: &[TopicPartitions]) -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in topics {
        found.entry(topic.topic.clone()).or_default().extend(&topic.partitions);
    }
    found.values_mut().for_each(|partitions| partitions.sort_unstable());
    found
}

fn table(groups: &[MembersView]) -> Table {
    let mut table = Table::new(&[
        text("GROUP"),
        text("CONSUMER-ID").at_most(20),
        text("INSTANCE-ID"),
        text("HOST").roomy(),
        text("CLIENT-ID").roomy(),
        number("EPOCH"),
        text("STATE"),
        number("#PARTITIONS"),
        text("ASSIGNMENT"),
        text("TARGET").wide(),
        text("SUBSCRIPTION").wide(),
        text("CONNECTED").wide(),
    ]);
    for group in groups {
        for member in &group.members {
            let tone = if member.connected { Tone::Plain } else { Tone::Warning };
            let cells = vec![
                group.group_id.clone(),
                member.member_id.clone(),
                member.instance_id.clone(),
                member.host.clone(),
                member.client_id.clone(),
                member.member_epoch.to_string(),
                member.condition(timestamp::now_ms()),
                member.partition_count.to_string(),
                assignment(&member.assignment),
                assignment(&member.target),
                member.subscription(),
                if member.connected { "yes" } else { "no" }.to_owned(),
            ];
            table.toned_row(tone, 6, cells);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use troupe_proto::log::v1::GroupState;

    #[test]
    fn a_member_is_told_with_what_it_holds_and_shall_hold() {
        let held = |topic: &str, partitions: &[i32]| TopicPartitions {
            topic: topic.into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        };
        let member = MemberDescription {
            member_id: "app-1".into(),
            instance_id: "one".into(),
            client_id: "app".into(),
            host: "10.0.0.7".into(),
            member_epoch: 10,
            state: MemberState::UnrevokedPartitions.into(),
            subscription: Some(Subscription { topics: vec!["t".into()], pattern: String::new() }),
            assigned: vec![held("t", &[2, 0]), held("u", &[1])],
            target: vec![held("t", &[0])],
            connected: true,
            away_until_ms: 0,
        };
        let group = DescribeGroupResponse {
            group_id: "g".into(),
            state: GroupState::Reconciling.into(),
            group_epoch: 11,
            members: vec![member],
            ..Default::default()
        };
        let views = [MembersView::new(&group)];
        let line = "g\tapp-1\tone\t10.0.0.7\tapp\t10\tUnrevokedPartitions\t3\tt(0,2),u(1)";
        let output = |format| Output { format, terminal: false };
        assert_eq!(MembersView::render(&output(Format::Table), &views), format!("{line}\n"));
        assert_eq!(
            MembersView::render(&output(Format::Wide), &views),
            format!("{line}\tt(0)\tt\tyes\n")
        );
        let away = MemberView { connected: false, ..MemberView::new(&group.members[0]) };
        assert_eq!(away.condition(0), "Away");
        let away = MemberView { away_until_ms: 41_500, ..away };
        assert_eq!(away.condition(1_000), "Away, kept for 41 s");
        let json = serde_json::to_value(&views[0]).unwrap();
        assert_eq!(json["members"][0]["assignment"]["t"], serde_json::json!([0, 2]));
        assert_eq!(json["state"], "Reconciling");
    }
}
