//! `troupe node drain`: returns when the node can be stopped without anyone waiting for an election.

use super::lookup::find;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::ids;
use crate::quantity::{parse_duration, show_duration};
use crate::streams::notice;
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientError};
use troupe_proto::admin::v1::{PartitionFilter, PartitionState};
use troupe_proto::ids::NodeId;

/// Between two looks at what the node still leads.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Partitions that are named one by one.
const NAMED: usize = 10;

#[derive(Debug, Args)]
pub struct Drain {
    /// Number of the node
    #[arg(value_name = "ID")]
    node: i32,
    /// Longest wait for other replicas to become able to lead
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "DURATION")]
    timeout: Duration,
}

pub async fn run(global: &Global, drain: Drain) -> Result<(), Failure> {
    let client = global.connect().await?;
    let node = drain.node;
    let what = || format!("cannot drain node {node}");
    let started = Instant::now();
    // A change whose answer is lost may be asked for again: a drained node stays drained.
    let moved =
        client.admin().drain_node(NodeId(node)).await.with_context(what)?.moved_leader_count;
    let mut told = usize::MAX;
    loop {
        let left = left(&client, node).await.with_context(what)?;
        if left.is_empty() {
            break;
        }
        if started.elapsed() >= drain.timeout {
            let cause =
                format!("after {} it still leads {}", show_duration(drain.timeout), named(&left));
            return Err(Failure::new(Exit::Failed, what(), cause).with_hint(format!(
                "bring the other replicas back (`troupe partition list --under-replicated`), \
                 or end the drain with `troupe node resume {node}`"
            )));
        }
        if global.progress() && left.len() != told {
            told = left.len();
            notice!("node {node} still leads {}", named(&left));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let elapsed = started.elapsed();
    let view = find(&client, node).await?;
    let document = json!({
        "nodeId": node,
        "movedLeaderCount": moved,
        "leaderCount": view.leader_count,
        "milliseconds": elapsed.as_millis(),
    });
    global.output().one(&document, || {
        format!(
            "node {node} leads nothing after {}: {moved} leaderships moved; it can be stopped\n",
            show_duration(elapsed)
        )
    })
}

/// What the node still leads.
async fn left(client: &Client, node: i32) -> Result<Vec<PartitionState>, ClientError> {
    let mut partitions = client.admin().list_partitions(None, PartitionFilter::Unspecified).await?;
    partitions.retain(|partition| partition.leader_id == Some(node));
    Ok(partitions)
}

/// The partitions, and who else is in sync with each.
fn named(partitions: &[PartitionState]) -> String {
    let one = |partition: &PartitionState| {
        let PartitionState { topic, partition, in_sync_replicas, .. } = partition;
        format!("{topic}:{partition} (in sync: {})", ids(in_sync_replicas))
    };
    let mut names: Vec<String> = partitions.iter().take(NAMED).map(one).collect();
    if partitions.len() > NAMED {
        names.push(format!("and {} more", partitions.len() - NAMED));
    }
    names.join(", ")
}
