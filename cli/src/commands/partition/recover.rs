//! `troupe partition recover`: what is damaged and no other replica has is given up.

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::topic_partitions::parse_partitions;
use clap::Args;
use serde::Serialize;
use troupe_client::Client;
use troupe_proto::admin::v1::{OffsetRange, PartitionFilter};
use troupe_proto::ids::NodeId;

const WHAT: &str = "cannot give up what is damaged";

#[derive(Debug, Args)]
pub struct Recover {
    /// The partition
    #[arg(value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    partition: (String, i32),
    /// What is damaged is lost: say that you know it
    #[arg(long, required = true)]
    accept_loss: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn parse_partition(text: &str) -> Result<(String, i32), String> {
    let named = parse_partitions(text)?;
    match named.partitions[..] {
        [partition] => Ok((named.topic, partition)),
        _ => Err("name one partition, as TOPIC:PARTITION".to_owned()),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LostView {
    first_offset: i64,
    end_offset: i64,
}

pub async fn run(global: &Global, recover: Recover) -> Result<(), Failure> {
    let client = global.connect().await?;
    let (topic, partition) = &recover.partition;
    let leader = leader(&client, topic, *partition).await?;
    let admin = client.admin_of(leader).await.with_context(|| WHAT.to_owned())?;
    if !recover.yes {
        let replicas = admin.list_replicas(Some(topic.as_str())).await;
        let mut replicas = replicas.with_context(|| WHAT.to_owned())?.into_iter();
        let damaged = replicas.find(|replica| replica.partition == *partition);
        let question = match damaged.and_then(|replica| replica.damaged_offsets) {
            Some(OffsetRange { first_offset, end_offset }) => format!(
                "Give up offsets {first_offset} to {end_offset} of {topic}:{partition}, and what else is damaged behind?"
            ),
            None => format!("Give up what is damaged in {topic}:{partition}?"),
        };
        confirm(WHAT, &question, "`troupe partition recover --accept-loss --yes ..`")?;
    }
    let lost = admin.recover_partition(topic, *partition).await.with_context(|| WHAT.to_owned())?;
    let lost: Vec<_> = lost
        .into_iter()
        .map(|OffsetRange { first_offset, end_offset }| LostView { first_offset, end_offset })
        .collect();
    global.output().many("lostOffsets", &lost, || table(topic, *partition, &lost))
}

async fn leader(client: &Client, topic: &str, partition: i32) -> Result<NodeId, Failure> {
    let listed = client.admin().list_partitions(Some(topic), PartitionFilter::Unspecified).await;
    let mut listed = listed.with_context(|| WHAT.to_owned())?.into_iter();
    let Some(state) = listed.find(|state| state.partition == partition) else {
        let cause = format!("topic `{topic}` has no partition {partition}");
        return Err(Failure::new(Exit::NotFound, WHAT, cause));
    };
    state.leader_id.map(NodeId).ok_or_else(|| {
        let hint = "`troupe partition list` shows its replicas, `troupe node list` who is alive";
        Failure::new(Exit::Failed, WHAT, "nobody leads the partition").with_hint(hint)
    })
}

fn table(topic: &str, partition: i32, lost: &[LostView]) -> Table {
    let mut table = Table::new(&[
        text("TOPIC"),
        number("PARTITION"),
        number("LOST FROM"),
        number("LOST TO"),
        number("RECORDS"),
    ]);
    for range in lost {
        table.row(vec![
            topic.to_owned(),
            partition.to_string(),
            range.first_offset.to_string(),
            range.end_offset.to_string(),
            (range.end_offset - range.first_offset).to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_is_named() {
        assert_eq!(parse_partition("orders:3"), Ok(("orders".to_owned(), 3)));
        for text in ["orders", "orders:", "orders:1,2", "orders:x"] {
            assert!(parse_partition(text).is_err(), "{text}");
        }
    }
}
