//! `troupe group delete`: groups, or what they have committed for some partitions.

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, report, text};
use crate::topic_selection::TopicSelection;
use clap::Args;
use serde::Serialize;
use troupe_client::Client;
use troupe_proto::error::Error;
use troupe_proto::log::v1::{CommittedOffset, PartitionCommitResult, TopicPartitions};

#[derive(Debug, Args)]
pub struct Delete {
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Keep the group; delete what it has committed for the topics that --topic names
    #[arg(long, requires = "topics")]
    offsets: bool,
    /// Topics, or some of their partitions
    #[arg(long = "topic", visible_alias = "topics", value_name = "TOPIC[:PARTITION,..],..")]
    #[arg(requires = "offsets")]
    topics: Vec<TopicSelection>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(global: &Global, delete: Delete) -> Result<(), Failure> {
    let client = global.connect().await?;
    let named = delete.groups.join(", ");
    let what = format!("cannot delete {named}");
    if delete.offsets {
        if !delete.yes {
            let question = format!("Delete what {named} has committed for these topics?");
            confirm(&what, &question, "--yes deletes without a question")?;
        }
        return delete_offsets(global, &client, &delete).await;
    }
    if !delete.yes {
        let question = format!("Delete {named} and all that is committed?");
        confirm(&what, &question, "--yes deletes without a question")?;
    }
    delete_groups(global, &client, &delete.groups).await
}

/// One after the other; one that is refused does not keep the others.
async fn delete_groups(global: &Global, client: &Client, groups: &[String]) -> Result<(), Failure> {
    let mut refused: Option<Failure> = None;
    for group in groups {
        let deleted = client.admin().delete_group(group).await;
        match deleted.with_context(|| format!("cannot delete group {group}")) {
            Ok(()) => {
                let view = serde_json::json!({ "groupId": group, "deleted": true });
                global.output().one(&view, || format!("deleted group {group}\n"))?;
            }
            Err(failure) => {
                if let Some(earlier) = refused.replace(failure) {
                    report(&earlier, global.format());
                }
            }
        }
    }
    refused.map_or(Ok(()), Err)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeletedOffset {
    group_id: String,
    topic: String,
    partition: i32,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl DeletedOffset {
    fn new(group: &str, result: PartitionCommitResult) -> DeletedOffset {
        let at = result.partition.unwrap_or_default();
        let error = result.error.map(Error::from);
        DeletedOffset {
            group_id: group.to_owned(),
            topic: at.topic,
            partition: at.partition,
            deleted: error.is_none(),
            reason: error.as_ref().map(|error| error.code.reason()),
            message: error.map_or_else(String::new, |error| error.message),
        }
    }
}

async fn delete_offsets(global: &Global, client: &Client, delete: &Delete) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for group in &delete.groups {
        let what = || format!("cannot delete offsets of group {group}");
        let committed =
            client.admin().list_group_offsets(group, Vec::new()).await.with_context(what)?;
        let partitions = expanded(TopicSelection::to_wire(&delete.topics), &committed);
        let results = client.admin().delete_group_offsets(group, partitions).await;
        let results = results.with_context(what)?.into_iter();
        rows.extend(results.map(|result| DeletedOffset::new(group, result)));
    }
    global.output().many("offsets", &rows, || table(&rows))?;
    if rows.is_empty() {
        let cause = "nothing is committed for these topics";
        return Err(Failure::new(Exit::NotFound, "nothing was deleted", cause)
            .with_hint("`troupe group describe NAME` shows what is committed"));
    }
    match rows.iter().filter(|row| !row.deleted).count() {
        0 => Ok(()),
        kept => {
            let cause = format!("{kept} of {} offsets were not deleted", rows.len());
            Err(Failure::new(Exit::Refused, "", cause))
        }
    }
}

/// A topic without partitions stands for those that something is committed for.
fn expanded(topics: Vec<TopicPartitions>, committed: &[CommittedOffset]) -> Vec<TopicPartitions> {
    let mut spelled = Vec::new();
    for mut topic in topics {
        if topic.partitions.is_empty() {
            let partitions = committed.iter().filter_map(|offset| offset.partition.as_ref());
            let ours = partitions.filter(|at| at.topic == topic.topic);
            topic.partitions = ours.map(|at| at.partition).collect();
            topic.partitions.sort_unstable();
        }
        if !topic.partitions.is_empty() {
            spelled.push(topic);
        }
    }
    spelled
}

fn table(rows: &[DeletedOffset]) -> Table {
    let mut table =
        Table::new(&[text("GROUP"), text("TOPIC"), number("PARTITION"), text("OUTCOME")]);
    for row in rows {
        let outcome = match row.reason {
            None => "deleted".to_owned(),
            Some(reason) => format!("{reason}: {}", row.message),
        };
        let (group, topic) = (row.group_id.clone(), row.topic.clone());
        table.row(vec![group, topic, row.partition.to_string(), outcome]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::log::v1::TopicPartition;

    #[test]
    fn a_topic_without_partitions_stands_for_what_is_committed() {
        let committed = [("a", 2), ("a", 0), ("b", 1)].map(|(topic, partition)| CommittedOffset {
            partition: Some(TopicPartition {
                topic: topic.into(),
                partition,
                ..Default::default()
            }),
            ..CommittedOffset::default()
        });
        let selection = ["a".parse().unwrap(), "b:7,c".parse().unwrap()];
        let spelled = expanded(TopicSelection::to_wire(&selection), &committed);
        let spelled: Vec<_> =
            spelled.into_iter().map(|topic| (topic.topic, topic.partitions)).collect();
        assert_eq!(spelled, [("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![7])]);
    }
}
