//! `troupe node describe`: what the controller says about a node, and what the node says about its replicas.

use super::lookup::find;
use crate::as_of::{self, AsOf};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::{NodeView, table};
use crate::output::{Output, Table, number, text};
use crate::quantity::show_size;
use crate::replica_condition;
use crate::streams::notice;
use serde::Serialize;
use std::collections::BTreeMap;
use troupe_client::Client;
use troupe_proto::admin::v1::{PartitionFilter, Replica, ReplicaRole};
use troupe_proto::ids::NodeId;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribedNode {
    #[serde(flatten)]
    node: NodeView,
    replicas: Vec<ReplicaView>,
    as_of: Option<AsOf>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaView {
    topic: String,
    partition: i32,
    /// As the controller has committed it.
    in_sync: bool,
    /// What the node tells. None: it did not answer, or does not have it yet.
    #[serde(flatten)]
    held: Option<HeldView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HeldView {
    role: &'static str,
    /// How its actor is: `running`, or why not.
    condition: String,
    leader_epoch: u32,
    log_start_offset: i64,
    high_watermark: i64,
    log_end_offset: i64,
    size_bytes: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    offline_reason: String,
}

impl HeldView {
    fn new(replica: &Replica) -> HeldView {
        HeldView {
            role: match replica.role() {
                ReplicaRole::Leader => "leader",
                ReplicaRole::Follower => "follower",
                ReplicaRole::Offline => "offline",
                ReplicaRole::Unspecified => "unknown",
            },
            condition: replica_condition::show(replica),
            leader_epoch: replica.leader_epoch,
            log_start_offset: replica.log_start_offset,
            high_watermark: replica.high_watermark,
            log_end_offset: replica.log_end_offset,
            size_bytes: replica.size_bytes,
            offline_reason: replica.offline_reason.clone(),
        }
    }
}

pub async fn run(global: &Global, node: i32) -> Result<(), Failure> {
    let client = global.connect().await?;
    let view = find(&client, node).await?;
    let what = || format!("cannot list the replicas of node {node}");
    let assigned = client.admin().list_partitions(None, PartitionFilter::Unspecified).await;
    let mut held = held(&client, node).await;
    let replicas = assigned
        .with_context(what)?
        .into_iter()
        .filter(|partition| partition.replicas.contains(&node))
        .map(|partition| ReplicaView {
            in_sync: partition.in_sync_replicas.contains(&node),
            held: held.remove(&(partition.topic.clone(), partition.partition)),
            topic: partition.topic,
            partition: partition.partition,
        });
    let replicas = replicas.collect();
    let described = DescribedNode { node: view, replicas, as_of: as_of::ask(&client).await? };
    let output = global.output();
    output.one(&described, || render(&output, &described))?;
    described.as_of.iter().for_each(AsOf::warn);
    Ok(())
}

/// What the node has. One that does not answer has told nothing: the rest is worth showing, above all then.
async fn held(client: &Client, node: i32) -> BTreeMap<(String, i32), HeldView> {
    let replicas = match client.admin_of(NodeId(node)).await {
        Ok(admin) => admin.list_replicas(None).await,
        Err(error) => Err(error),
    };
    match replicas {
        Ok(replicas) => {
            let view = |replica: Replica| {
                let held = HeldView::new(&replica);
                ((replica.topic, replica.partition), held)
            };
            replicas.into_iter().map(view).collect()
        }
        Err(error) => {
            notice!("note: node {node} does not tell what it holds: {error}");
            BTreeMap::new()
        }
    }
}

fn render(output: &Output, described: &DescribedNode) -> String {
    let mut out = String::new();
    if output.terminal {
        out += &output.table(&table(std::slice::from_ref(&described.node)));
        out.push('\n');
    }
    let mut table = Table::new(&[
        text("TOPIC"),
        number("PARTITION"),
        text("ROLE"),
        text("IN SYNC"),
        number("EPOCH"),
        number("START"),
        number("END"),
        number("LOG END"),
        text("SIZE"),
        text("OFFLINE").wide(),
        text("CONDITION"),
    ]);
    for replica in &described.replicas {
        let held =
            |show: fn(&HeldView) -> String| replica.held.as_ref().map_or_else(String::new, show);
        table.row(vec![
            replica.topic.clone(),
            replica.partition.to_string(),
            held(|held| held.role.to_owned()),
            if replica.in_sync { "yes" } else { "no" }.to_owned(),
            held(|held| held.leader_epoch.to_string()),
            held(|held| held.log_start_offset.to_string()),
            held(|held| held.high_watermark.to_string()),
            held(|held| held.log_end_offset.to_string()),
            held(|held| show_size(held.size_bytes.unsigned_abs())),
            held(|held| held.offline_reason.clone()),
            held(|held| held.condition.clone()),
        ]);
    }
    out + &output.table(&table)
}
