//! `--describe`: offsets, members or the state of groups, each under its own heading.

use super::named::{failed, groups, is_missing, state_name};
use crate::compat::columns::{row, width};
use crate::compat::ended::Ended;
use crate::compat::link::print;
use crate::compat::options::Given;
use crate::streams::write_notice;
use std::collections::BTreeMap;
use troupe_client::{Client, OffsetSpec};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1::{
    DescribeGroupResponse, GroupState, MemberDescription, TopicPartitions,
};

pub async fn run(client: &Client, given: &Given) -> Result<(), Ended> {
    let all = given.has("all-groups");
    let verbose = given.has("verbose");
    for name in groups(client, given).await? {
        let group = match client.admin().describe_group(&name).await {
            // It went between the two questions.
            Err(error) if all && is_missing(&error) => continue,
            Err(error) if is_missing(&error) => {
                return Err(Ended::out(format_args!(
                    "\nError: Executing consumer group command failed due to \
                     org.apache.kafka.common.errors.GroupIdNotFoundException: Group {name} not found."
                )));
            }
            found => found.map_err(|error| failed(&error))?,
        };
        // Of the group, before its rows: what they are true of.
        match group.state() {
            GroupState::Empty | GroupState::Dead => {
                write_notice(format_args!("\nConsumer group '{name}' has no active members.\n"));
            }
            GroupState::Assigning | GroupState::Reconciling => {
                write_notice(format_args!("\nWarning: Consumer group '{name}' is rebalancing.\n"));
            }
            GroupState::Stable | GroupState::Unspecified => {}
        }
        if given.has("members") {
            print(&members(&group, verbose))?;
        } else if given.has("state") {
            print(&state(&group, verbose))?;
        } else {
            print(&offsets(client, &group, verbose).await?)?;
        }
    }
    Ok(())
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// A partition that is committed for, or read by a member.
#[derive(Default)]
struct Lag {
    committed: Option<i64>,
    leader_epoch: Option<u32>,
    end: Option<i64>,
    reader: Option<usize>,
}

async fn offsets(
    client: &Client,
    group: &DescribeGroupResponse,
    verbose: bool,
) -> Result<String, Ended> {
    let mut found: BTreeMap<(String, i32), Lag> = BTreeMap::new();
    let committed = client.admin().list_group_offsets(&group.group_id, Vec::new()).await;
    for one in committed.map_err(|error| failed(&error))? {
        let (Some(at), Some(offset)) = (one.partition, one.offset) else { continue };
        let lag = found.entry((at.topic, at.partition)).or_default();
        (lag.committed, lag.leader_epoch) = (Some(offset.offset), offset.leader_epoch);
    }
    for (reader, member) in group.members.iter().enumerate() {
        for topic in &member.assigned {
            for &partition in &topic.partitions {
                found.entry((topic.topic.clone(), partition)).or_default().reader = Some(reader);
            }
        }
    }
    let mut topics: Vec<String> = found.keys().map(|(topic, _)| topic.clone()).collect();
    topics.dedup();
    for topic in topics {
        let ours: Vec<i32> =
            found.keys().filter(|(name, _)| *name == topic).map(|(_, number)| *number).collect();
        let number = |number: &i32| PartitionId(number.unsigned_abs());
        let queries: Vec<_> = ours.iter().map(|it| (number(it), OffsetSpec::Latest)).collect();
        let ends = match client.list_offsets(&topic, &queries).await {
            // It is gone, and what is committed for it is still there.
            Err(error) if error.reason() == ErrorCode::UnknownTopic => continue,
            ends => ends.map_err(|error| failed(&error))?,
        };
        for (partition, end) in ours.iter().zip(ends) {
            if let Some(lag) = found.get_mut(&(topic.clone(), *partition)) {
                lag.end = end.offset.map(|offset| offset.to_wire());
            }
        }
    }
    Ok(offsets_table(group, &found, verbose))
}

fn offsets_table(
    group: &DescribeGroupResponse,
    found: &BTreeMap<(String, i32), Lag>,
    verbose: bool,
) -> String {
    if found.is_empty() {
        return String::new();
    }
    let told = |member: fn(&MemberDescription) -> &String| {
        width(15, group.members.iter().map(|it| member(it).as_str()))
    };
    let mut widths = vec![
        width(15, [group.group_id.as_str()].into_iter()),
        width(15, found.keys().map(|(topic, _)| topic.as_str())),
        10,
    ];
    let mut headings = vec!["GROUP", "TOPIC", "PARTITION"];
    if verbose {
        widths.push(15);
        headings.push("LEADER-EPOCH");
    }
    widths.extend([15, 15, 15, told(|it| &it.member_id), told(|it| &it.host)]);
    headings.extend([
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let mut text = format!("\n{}", row(&widths, &headings));
    let number = |it: Option<i64>| it.map_or_else(|| "-".to_owned(), |it| it.to_string());
    for ((topic, partition), lag) in found {
        let reader = lag.reader.and_then(|at| group.members.get(at));
        let of = |member: fn(&MemberDescription) -> &String| {
            reader.map_or("-", |reader| dash(member(reader).as_str()))
        };
        let behind = lag.end.zip(lag.committed).map(|(end, committed)| end - committed);
        let (partition, epoch) = (partition.to_string(), number(lag.leader_epoch.map(i64::from)));
        let (current, end, behind) = (number(lag.committed), number(lag.end), number(behind));
        let mut cells = vec![group.group_id.as_str(), topic, &partition];
        cells.extend(verbose.then_some(epoch.as_str()));
        cells.extend([current.as_str(), &end, &behind]);
        cells.extend([of(|it| &it.member_id), of(|it| &it.host), of(|it| &it.client_id)]);
        text += &row(&widths, &cells);
    }
    text
}

fn members(group: &DescribeGroupResponse, verbose: bool) -> String {
    let told = |least: usize, member: fn(&MemberDescription) -> &String| {
        width(least, group.members.iter().map(|it| member(it).as_str()))
    };
    let is_static = group.members.iter().any(|member| !member.instance_id.is_empty());
    let mut widths =
        vec![width(15, [group.group_id.as_str()].into_iter()), told(15, |it| &it.member_id)];
    let mut headings = vec!["GROUP", "CONSUMER-ID"];
    if is_static {
        widths.push(told(17, |it| &it.instance_id));
        headings.push("GROUP-INSTANCE-ID");
    }
    widths.extend([told(15, |it| &it.host), told(15, |it| &it.client_id), 15]);
    headings.extend(["HOST", "CLIENT-ID", "#PARTITIONS"]);
    if verbose {
        let assigned: Vec<String> = group.members.iter().map(|it| shown(&it.assigned)).collect();
        widths.extend([15, width(20, assigned.iter().map(String::as_str)), 15]);
        headings.extend([
            "CURRENT-EPOCH",
            "CURRENT-ASSIGNMENT",
            "TARGET-EPOCH",
            "TARGET-ASSIGNMENT",
        ]);
    }
    let mut text = format!("\n{}", row(&widths, &headings));
    for member in &group.members {
        let held: usize = member.assigned.iter().map(|topic| topic.partitions.len()).sum();
        let (held, epoch) = (held.to_string(), member.member_epoch.to_string());
        let (current, target) = (shown(&member.assigned), shown(&member.target));
        let group_epoch = group.group_epoch.to_string();
        let mut cells = vec![group.group_id.as_str(), dash(&member.member_id)];
        cells.extend(is_static.then(|| dash(&member.instance_id)));
        cells.extend([dash(&member.host), dash(&member.client_id), held.as_str()]);
        if verbose {
            cells.extend([epoch.as_str(), dash(&current), group_epoch.as_str(), dash(&target)]);
        }
        text += &row(&widths, &cells);
    }
    text
}

/// `first:0,1;second:2`.
fn shown(topics: &[TopicPartitions]) -> String {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for topic in topics {
        by_topic.entry(&topic.topic).or_default().extend(&topic.partitions);
    }
    let each = by_topic.into_iter().map(|(topic, mut numbers)| {
        numbers.sort_unstable();
        let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
        format!("{topic}:{}", numbers.join(","))
    });
    each.collect::<Vec<_>>().join(";")
}

fn state(group: &DescribeGroupResponse, verbose: bool) -> String {
    let coordinator = format!("{}  ({})", group.coordinator_endpoint, group.coordinator_id);
    let mut widths = vec![
        width(15, [group.group_id.as_str()].into_iter()),
        width(25, [coordinator.as_str()].into_iter()),
        20,
        20,
    ];
    let mut headings = vec!["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE"];
    let epoch = group.group_epoch.to_string();
    let count = group.members.len().to_string();
    let strategy = match group.members.is_empty() {
        true => "-",
        false => dash(&group.assignor),
    };
    let mut cells =
        vec![group.group_id.as_str(), coordinator.as_str(), strategy, state_name(group.state())];
    if verbose {
        widths.extend([15, 25]);
        headings.extend(["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
        // A target is made with the epoch that it is for.
        cells.extend([epoch.as_str(), epoch.as_str()]);
    }
    headings.push("#MEMBERS");
    cells.push(&count);
    format!("\n{}{}", row(&widths, &headings), row(&widths, &cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> DescribeGroupResponse {
        let held = |partitions: &[i32]| TopicPartitions {
            topic: "first".to_owned(),
            partitions: partitions.to_vec(),
            ..TopicPartitions::default()
        };
        let member = MemberDescription {
            member_id: "consumer-1".to_owned(),
            client_id: "consumer".to_owned(),
            host: "127.0.0.1".to_owned(),
            member_epoch: 3,
            assigned: vec![held(&[1, 0])],
            target: vec![held(&[0])],
            ..MemberDescription::default()
        };
        DescribeGroupResponse {
            group_id: "g".to_owned(),
            state: GroupState::Stable.into(),
            group_epoch: 4,
            assignor: "range".to_owned(),
            coordinator_id: 2,
            coordinator_endpoint: "h:7070".to_owned(),
            members: vec![member],
        }
    }

    fn words(text: &str) -> Vec<Vec<&str>> {
        text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
    }

    /// A7.
    #[test]
    fn columns_are_kafka_s() {
        let lag = Lag { committed: Some(4), end: Some(10), reader: Some(0), ..Lag::default() };
        let found = BTreeMap::from([
            (("first".to_owned(), 0), lag),
            (("gone".to_owned(), 1), Lag { committed: Some(1), ..Lag::default() }),
        ]);
        let text = offsets_table(&group(), &found, false);
        assert!(
            text.starts_with(
                "\nGROUP           TOPIC           PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG             CONSUMER-ID     HOST            CLIENT-ID\n"
            ),
            "{text}"
        );
        let rows = words(&text);
        assert_eq!(
            rows[1],
            ["g", "first", "0", "4", "10", "6", "consumer-1", "127.0.0.1", "consumer"]
        );
        assert_eq!(rows[2], ["g", "gone", "1", "1", "-", "-", "-", "-", "-"]);
        let text = members(&group(), true);
        assert_eq!(
            words(&text)[1],
            ["g", "consumer-1", "127.0.0.1", "consumer", "2", "3", "first:0,1", "4", "first:0"]
        );
        let text = state(&group(), false);
        assert_eq!(words(&text)[1], ["g", "h:7070", "(2)", "range", "Stable", "1"]);
    }
}
