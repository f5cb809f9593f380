//! What a group has committed and how far that is behind: a row for each partition that has a committed offset
//! or a member that reads it.

use super::view::GroupView;
use crate::failure::{Context, Failure};
use crate::output::{Output, Table, number, text};
use crate::timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use troupe_client::{Client, ClientError, OffsetSpec};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1::{CommittedOffset, DescribeGroupResponse, MemberDescription};

/// A group's offsets, with totals.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OffsetsView {
    pub group_id: String,
    /// Records behind, over all partitions whose lag is known.
    pub lag: i64,
    pub topics: Vec<TopicLag>,
    offsets: Vec<OffsetRow>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicLag {
    pub topic: String,
    pub partition_count: usize,
    pub lag: i64,
    /// Partitions whose lag is not known: nothing is committed, or there is no such partition any more.
    pub unknown_count: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct OffsetRow {
    topic: String,
    partition: i32,
    /// None: nothing is committed.
    current_offset: Option<i64>,
    leader_epoch: Option<u32>,
    metadata: String,
    commit_timestamp: Option<i64>,
    /// None: it is not there any more, or nobody tells.
    log_end_offset: Option<i64>,
    /// What is below is deleted. None: as for the end.
    log_start_offset: Option<i64>,
    /// Records that are there and not committed for.
    lag: Option<i64>,
    #[serde(flatten)]
    member: Option<Assignee>,
}

/// Who reads it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Assignee {
    member_id: String,
    host: String,
    client_id: String,
}

impl Assignee {
    fn new(member: &MemberDescription) -> Assignee {
        Assignee {
            member_id: member.member_id.clone(),
            host: member.host.clone(),
            client_id: member.client_id.clone(),
        }
    }
}

/// Where partitions begin and end, asked for once for all groups of a command.
#[derive(Debug, Default)]
pub struct LogBounds(BTreeMap<String, BTreeMap<i32, Range<i64>>>);

impl LogBounds {
    /// The bounds of every partition of a topic. None of a topic that is gone.
    async fn of(
        &mut self,
        client: &Client,
        topic: &str,
    ) -> Result<&BTreeMap<i32, Range<i64>>, ClientError> {
        if !self.0.contains_key(topic) {
            let ends = match log_bounds(client, topic).await {
                Err(error) if error.reason() == ErrorCode::UnknownTopic => BTreeMap::new(),
                found => found?,
            };
            self.0.insert(topic.to_owned(), ends);
        }
        Ok(&self.0[topic])
    }
}

async fn log_bounds(
    client: &Client,
    topic: &str,
) -> Result<BTreeMap<i32, Range<i64>>, ClientError> {
    let metadata = client.topic(topic).await?;
    let list = async |spec| {
        let queries: Vec<(PartitionId, OffsetSpec)> =
            metadata.partitions.iter().map(|at| (at.partition, spec)).collect();
        let listed = client.list_offsets(topic, &queries).await?;
        let offset = |listed: &troupe_client::ListedOffset| {
            let partition = i32::try_from(listed.partition.0).ok()?;
            Some((partition, listed.offset?.to_wire()))
        };
        Ok::<BTreeMap<i32, i64>, ClientError>(listed.iter().filter_map(offset).collect())
    };
    let ends = list(OffsetSpec::Latest).await?;
    // Asked second: a beginning that moves on counts nothing that was there at the end.
    let starts = list(OffsetSpec::Earliest).await?;
    let bounds = ends.into_iter().map(|(at, end)| {
        let start = starts.get(&at).copied().unwrap_or_default();
        (at, start..end)
    });
    Ok(bounds.collect())
}

/// Asks for everything that a group's rows tell.
///
/// # Errors
/// What kept the coordinator or a leader from answering.
pub async fn gather(
    client: &Client,
    group: &DescribeGroupResponse,
    ends: &mut LogBounds,
) -> Result<OffsetsView, Failure> {
    let what = || format!("cannot describe group {}", group.group_id);
    let committed = client.admin().list_group_offsets(&group.group_id, Vec::new()).await;
    let mut rows = rows(&committed.with_context(what)?, &group.members);
    for row in rows.values_mut() {
        let ends = ends.of(client, &row.topic).await.with_context(what)?;
        row.bounds(ends.get(&row.partition));
    }
    Ok(OffsetsView::new(&group.group_id, rows.into_values().collect()))
}

/// Without their ends.
fn rows(
    committed: &[CommittedOffset],
    members: &[MemberDescription],
) -> BTreeMap<(String, i32), OffsetRow> {
    let mut rows: BTreeMap<(String, i32), OffsetRow> = BTreeMap::new();
    let row = |topic: &str, partition: i32| OffsetRow {
        topic: topic.to_owned(),
        partition,
        ..OffsetRow::default()
    };
    for commit in committed {
        let (Some(at), Some(offset)) = (&commit.partition, &commit.offset) else { continue };
        let row = OffsetRow {
            current_offset: Some(offset.offset),
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            commit_timestamp: Some(commit.commit_timestamp_ms),
            ..row(&at.topic, at.partition)
        };
        rows.insert((at.topic.clone(), at.partition), row);
    }
    for member in members {
        for topic in &member.assigned {
            for &partition in &topic.partitions {
                let key = (topic.topic.clone(), partition);
                let held = rows.entry(key).or_insert_with(|| row(&topic.topic, partition));
                held.member = Some(Assignee::new(member));
            }
        }
    }
    rows
}

/// A committed offset beyond the end is not behind; one below the start is as far behind as the start, for what
/// retention has deleted is not there to be read.
fn lag(current: Option<i64>, bounds: Option<&Range<i64>>) -> Option<i64> {
    let Range { start, end } = bounds?;
    Some(end.saturating_sub(current?.max(*start)).max(0))
}

impl OffsetRow {
    fn bounds(&mut self, bounds: Option<&Range<i64>>) {
        self.log_start_offset = bounds.map(|bounds| bounds.start);
        self.log_end_offset = bounds.map(|bounds| bounds.end);
        self.lag = lag(self.current_offset, bounds);
    }
}

impl OffsetsView {
    fn new(group_id: &str, offsets: Vec<OffsetRow>) -> OffsetsView {
        let mut topics: Vec<TopicLag> = Vec::new();
        for row in &offsets {
            if topics.last().is_none_or(|last| last.topic != row.topic) {
                let topic = row.topic.clone();
                topics.push(TopicLag { topic, partition_count: 0, lag: 0, unknown_count: 0 });
            }
            let last = topics.last_mut().expect("one was pushed if there was none");
            last.partition_count += 1;
            last.lag += row.lag.unwrap_or(0);
            last.unknown_count += usize::from(row.lag.is_none());
        }
        let lag = topics.iter().map(|topic| topic.lag).sum();
        OffsetsView { group_id: group_id.to_owned(), lag, topics, offsets }
    }

    pub fn unknown_count(&self) -> usize {
        self.topics.iter().map(|topic| topic.unknown_count).sum()
    }
}

impl GroupView for OffsetsView {
    /// Rows of all groups; for a person, also the totals.
    fn render(output: &Output, groups: &[Self]) -> String {
        let mut out = output.table(&table(groups));
        if output.terminal {
            out.push('\n');
            out += &output.table(&totals(groups));
        }
        out
    }
}

fn table(groups: &[OffsetsView]) -> Table {
    // On a terminal, which is narrow, the name of a single group is what was typed.
    let group = match groups.len() {
        1 => text("GROUP").roomy(),
        _ => text("GROUP").at_most(12),
    };
    let mut table = Table::new(&[
        group,
        text("TOPIC").at_most(16),
        number("PARTITION"),
        number("CURRENT-OFFSET"),
        number("LOG-END-OFFSET"),
        number("LAG"),
        text("CONSUMER-ID").at_most(12),
        text("HOST").roomy(),
        text("CLIENT-ID").roomy(),
        number("LOG-START-OFFSET").wide(),
        number("LEADER-EPOCH").wide(),
        text("COMMITTED").wide(),
        text("METADATA").wide(),
    ]);
    let shown = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    for group in groups {
        for row in &group.offsets {
            let member = |show: fn(&Assignee) -> &String| {
                row.member.as_ref().map_or_else(String::new, |assignee| show(assignee).clone())
            };
            table.row(vec![
                group.group_id.clone(),
                row.topic.clone(),
                row.partition.to_string(),
                shown(row.current_offset),
                shown(row.log_end_offset),
                shown(row.lag),
                member(|assignee| &assignee.member_id),
                member(|assignee| &assignee.host),
                member(|assignee| &assignee.client_id),
                shown(row.log_start_offset),
                shown(row.leader_epoch.map(i64::from)),
                row.commit_timestamp.map_or_else(String::new, timestamp::show),
                row.metadata.clone(),
            ]);
        }
    }
    table
}

/// A row for each topic, and one for each group that has several.
fn totals(groups: &[OffsetsView]) -> Table {
    let mut table = Table::new(&[
        text("GROUP"),
        text("TOTAL OF"),
        number("PARTITIONS"),
        number("LAG"),
        number("LAG UNKNOWN"),
    ]);
    let mut row = |group: &OffsetsView, of: &str, partitions: usize, lag: i64, unknown: usize| {
        let unknown = if unknown == 0 { String::new() } else { unknown.to_string() };
        table.row(vec![
            group.group_id.clone(),
            of.to_owned(),
            partitions.to_string(),
            lag.to_string(),
            unknown,
        ]);
    };
    for group in groups {
        for topic in &group.topics {
            row(group, &topic.topic, topic.partition_count, topic.lag, topic.unknown_count);
        }
        if group.topics.len() != 1 {
            row(group, "all topics", group.offsets.len(), group.lag, group.unknown_count());
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use troupe_proto::log::v1::{OffsetAndMetadata, TopicPartition, TopicPartitions};

    fn committed(topic: &str, partition: i32, offset: i64) -> CommittedOffset {
        CommittedOffset {
            partition: Some(TopicPartition {
                topic: topic.into(),
                partition,
                ..Default::default()
            }),
            offset: Some(OffsetAndMetadata { offset, ..Default::default() }),
            commit_timestamp_ms: 1_709_210_096_789,
        }
    }

    fn member(id: &str, topic: &str, partitions: &[i32]) -> MemberDescription {
        MemberDescription {
            member_id: id.into(),
            client_id: "app".into(),
            host: "10.0.0.7".into(),
            assigned: vec![TopicPartitions {
                topic: topic.into(),
                partitions: partitions.to_vec(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    /// Three partitions of `a` that end at 10, and one of `gone`, which ends nowhere.
    fn view() -> OffsetsView {
        let offsets = [committed("a", 0, 4), committed("a", 1, 12), committed("gone", 0, 7)];
        let mut rows = rows(&offsets, &[member("app-1", "a", &[0, 2])]);
        for row in rows.values_mut().filter(|row| row.topic == "a") {
            row.bounds(Some(&(0..10)));
        }
        OffsetsView::new("g", rows.into_values().collect())
    }

    /// C12: the lag is the log's end minus what is committed; what is not known is `-`.
    #[test]
    fn a_row_for_each_partition_that_is_committed_or_read() {
        let output = Output { format: Format::Table, terminal: false };
        assert_eq!(
            OffsetsView::render(&output, &[view()]),
            "g\ta\t0\t4\t10\t6\tapp-1\t10.0.0.7\tapp\n\
             g\ta\t1\t12\t10\t0\t-\t-\t-\n\
             g\ta\t2\t-\t10\t-\tapp-1\t10.0.0.7\tapp\n\
             g\tgone\t0\t7\t-\t-\t-\t-\t-\n"
        );
    }

    /// What was deleted cannot be read any more, and is no work that waits.
    #[test]
    fn lag_begins_at_the_log_s_start() {
        assert_eq!(lag(Some(5), Some(&(40..40))), Some(0));
        assert_eq!(lag(Some(5), Some(&(40..45))), Some(5));
        assert_eq!(lag(Some(42), Some(&(40..45))), Some(3));
        assert_eq!(lag(Some(46), Some(&(40..45))), Some(0));
        assert_eq!(lag(None, Some(&(40..45))), None);
    }

    #[test]
    fn totals_are_of_each_topic_and_of_all() {
        let view = view();
        assert_eq!(view.lag, 6);
        assert_eq!(view.unknown_count(), 2);
        let output = Output { format: Format::Table, terminal: true };
        let shown = OffsetsView::render(&output, &[view]);
        let (rows, totals) = shown.split_once("\n\n").unwrap();
        assert!(rows.starts_with("TOPIC  PARTITION  CURRENT-OFFSET  LOG-END-OFFSET  LAG"));
        let totals: Vec<Vec<&str>> =
            totals.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            totals,
            [
                vec!["g", "a", "3", "6", "1"],
                vec!["g", "gone", "1", "0", "1"],
                vec!["g", "all", "topics", "4", "6", "2"],
            ]
        );
    }

    #[test]
    fn json_tells_unknown_from_none() {
        let json = serde_json::to_value(view()).unwrap();
        assert_eq!((&json["groupId"], &json["lag"]), (&"g".into(), &6.into()));
        assert_eq!(json["offsets"][2]["currentOffset"], serde_json::Value::Null);
        assert_eq!(json["offsets"][2]["memberId"], "app-1");
        assert_eq!(json["topics"][0]["unknownCount"], 1);
    }
}
