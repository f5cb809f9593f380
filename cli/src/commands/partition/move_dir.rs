//! `troupe partition move-dir`: what Kafka's AlterReplicaLogDirs does.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::show_size;
use crate::streams::notice;
use crate::topic_partitions::parse_partitions;
use clap::Args;
use serde::Serialize;
use std::path::Path;
use std::time::Duration;
use troupe_client::Admin;
use troupe_proto::admin::v1::{
    DescribeLogDirsResponse, LogDir, LogDirReplica, ReplicaLogDir, ReplicaMoveState,
    TopicPartitions,
};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

/// How often --wait looks.
const LOOK: Duration = Duration::from_millis(200);
/// Between two lines about the same copy.
const TELL_EVERY: u32 = 25;

#[derive(Debug, Args)]
pub struct MoveDir {
    /// The node whose replicas move
    #[arg(long, value_name = "ID")]
    node: i32,
    /// The directory that they move to, as log.dirs of the node names it
    #[arg(long, value_name = "DIR")]
    to: String,
    /// Wait until they are there
    #[arg(short, long)]
    wait: bool,
    /// A topic, or some of its partitions
    #[arg(value_name = "TOPIC[:PARTITION,..]", required = true, value_parser = parse_partitions)]
    partitions: Vec<TopicPartitions>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultView {
    topic: String,
    partition: i32,
    path: String,
    /// `taken`, `moved`, or `failed`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub async fn run(global: &Global, asked: MoveDir) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || format!("cannot move replicas of node {}", asked.node);
    let admin = client.admin_of(NodeId(asked.node)).await.with_context(what)?;
    let replicas = replicas(&admin, &asked).await.with_context(what)?;
    let results = admin.alter_replica_log_dirs(replicas).await.with_context(what)?;
    let mut results: Vec<ResultView> = results
        .into_iter()
        .map(|result| {
            let error = result.error.map(Error::from);
            ResultView {
                topic: result.topic,
                partition: result.partition,
                path: asked.to.clone(),
                outcome: if error.is_some() { "failed" } else { "taken" },
                reason: error.as_ref().map(|error| error.code.reason()),
                message: error.map_or_else(String::new, |error| error.message),
            }
        })
        .collect();
    if asked.wait {
        wait(&admin, &mut results).await.with_context(what)?;
    }
    global.output().many("results", &results, || table(&results))?;
    match results.iter().filter(|result| result.outcome == "failed").count() {
        0 => Ok(()),
        failed => {
            let cause = format!("{failed} of {} replicas do not move", results.len());
            let hint = "`troupe node logdirs` shows the directories of a node, and what is in them";
            Err(Failure::new(Exit::Failed, what(), cause).with_hint(hint))
        }
    }
}

/// Of a topic without numbers, all that the node has.
async fn replicas(
    admin: &Admin,
    asked: &MoveDir,
) -> Result<Vec<ReplicaLogDir>, troupe_client::ClientError> {
    let mut replicas = Vec::new();
    for TopicPartitions { topic, partitions } in &asked.partitions {
        let mut numbers = partitions.clone();
        if numbers.is_empty() {
            let held = admin.list_replicas_briefly(Some(topic)).await?;
            numbers.extend(held.iter().map(|replica| replica.partition));
        }
        replicas.extend(numbers.into_iter().map(|partition| ReplicaLogDir {
            topic: topic.clone(),
            partition,
            path: asked.to.clone(),
        }));
    }
    Ok(replicas)
}

/// Until none of them is under way.
async fn wait(admin: &Admin, results: &mut [ResultView]) -> Result<(), troupe_client::ClientError> {
    for round in 0u32.. {
        let described = admin.describe_log_dirs(Vec::new()).await?;
        let mut under_way = false;
        for result in results.iter_mut().filter(|result| result.outcome == "taken") {
            let own = described
                .moves
                .iter()
                .find(|one| (&one.topic, one.partition) == (&result.topic, result.partition));
            match own.map(|one| (one.state(), one)) {
                None => match is_there(&described, result) {
                    Some(true) => result.outcome = "moved",
                    Some(false) => {
                        result.outcome = "failed";
                        result.message =
                            "the node was started anew, and has forgotten the move: ask again"
                                .to_owned();
                    }
                    None => under_way = true,
                },
                Some((ReplicaMoveState::Failed, one)) => {
                    let error = one.error.clone().map(Error::from);
                    result.outcome = "failed";
                    result.reason = error.as_ref().map(|error| error.code.reason());
                    result.message = error.map_or_else(String::new, |error| error.message);
                }
                Some((state, one)) => {
                    under_way = true;
                    if state == ReplicaMoveState::Copying && round % TELL_EVERY == TELL_EVERY - 1 {
                        let left = u64::try_from(one.remaining_bytes).unwrap_or_default();
                        notice!("{}:{}: {} to go", one.topic, one.partition, show_size(left));
                    }
                }
            }
        }
        if !under_way {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Whether the replica serves from there; `None`: the directory does not tell.
fn is_there(described: &DescribeLogDirsResponse, result: &ResultView) -> Option<bool> {
    let is_to = |one: &&LogDir| Path::new(&one.path) == Path::new(&result.path);
    let Some(to) = described.log_dirs.iter().find(is_to) else { return Some(false) };
    if to.error.is_some() {
        return None;
    }
    let is_it = |one: &LogDirReplica| {
        (&one.topic, one.partition) == (&result.topic, result.partition) && !one.is_future
    };
    Some(to.replicas.iter().any(is_it))
}

fn table(results: &[ResultView]) -> Table {
    let mut table =
        Table::new(&[text("TOPIC"), number("PARTITION"), text("TO"), text("OUTCOME"), text("")]);
    for result in results {
        table.row(vec![
            result.topic.clone(),
            result.partition.to_string(),
            result.path.clone(),
            result.outcome.to_owned(),
            result.message.clone(),
        ]);
    }
    table
}
