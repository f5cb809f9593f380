//! `troupe node logdirs`: what Kafka's `kafka-log-dirs` shows.

use crate::failure::{Context, Failure};
use crate::fan_out::fan_out;
use crate::global::Global;
use crate::output::{Output, Table, number, text};
use crate::quantity::show_size;
use crate::streams::notice;
use crate::topic_partitions::parse_partitions;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use troupe_proto::admin::v1::{
    DescribeLogDirsResponse, LogDir, LogDirReplica, ReplicaMove, ReplicaMoveState, TopicPartitions,
};

#[derive(Debug, Args)]
pub struct Logdirs {
    /// Only of this node [default: of all that are alive]
    #[arg(long, value_name = "ID")]
    node: Option<i32>,
    /// Only what is there of these: a topic, or some of its partitions
    #[arg(value_name = "TOPIC[:PARTITION,..]", value_parser = parse_partitions)]
    partitions: Vec<TopicPartitions>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryView {
    node_id: i32,
    path: String,
    directory_id: String,
    offline: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    offline_reason: String,
    total_bytes: i64,
    usable_bytes: i64,
    replicas: Vec<ReplicaView>,
    /// Why bytes and replicas are not told.
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplicaView {
    topic: String,
    partition: i32,
    size_bytes: i64,
    /// A copy that does not serve yet.
    is_future: bool,
    /// Of a copy: what it lacks still.
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining_bytes: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MoveView {
    node_id: i32,
    topic: String,
    partition: i32,
    path: String,
    /// `waiting`, `copying`, or `failed`.
    state: &'static str,
    copied_bytes: i64,
    remaining_bytes: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

pub async fn run(global: &Global, asked: Logdirs) -> Result<(), Failure> {
    let client = global.connect().await?;
    let nodes: BTreeSet<i32> = match asked.node {
        Some(node) => BTreeSet::from([super::lookup::find(&client, node).await?.node_id]),
        None => {
            let cluster = client.admin().get_cluster().await;
            let cluster = cluster.with_context(|| "cannot list the nodes".to_owned())?;
            let alive = cluster.nodes.iter().filter(|node| !node.fenced);
            alive.map(|node| node.node_id).collect()
        }
    };
    let (mut directories, mut moves) = (Vec::new(), Vec::new());
    if let Some(node) = asked.node {
        // Who asks one node is told by its error why it says nothing.
        let what = || format!("cannot describe the log directories of node {node}");
        let admin = client.admin_of(troupe_proto::ids::NodeId(node)).await.with_context(what)?;
        let answer = admin.describe_log_dirs(asked.partitions).await.with_context(what)?;
        take(answer, &mut directories, &mut moves);
    } else {
        let answers = fan_out(nodes, async |node| {
            client.admin_of(node).await?.describe_log_dirs(asked.partitions.clone()).await
        });
        for (node, answer) in answers.await {
            match answer {
                Ok(answer) => take(answer, &mut directories, &mut moves),
                Err(why) => notice!("note: node {node} does not tell its log directories: {why}"),
            }
        }
    }
    let view = serde_json::json!({ "logDirs": directories, "moves": moves });
    let output = global.output();
    output.one(&view, || render(&output, &directories, &moves))
}

fn take(
    answer: DescribeLogDirsResponse,
    directories: &mut Vec<DirectoryView>,
    moves: &mut Vec<MoveView>,
) {
    let node_id = answer.node_id;
    let now = &answer.moves;
    directories.extend(answer.log_dirs.into_iter().map(|directory| view(node_id, directory, now)));
    moves.extend(answer.moves.into_iter().map(|one| MoveView {
        node_id,
        state: match one.state() {
            ReplicaMoveState::Waiting => "waiting",
            ReplicaMoveState::Copying => "copying",
            ReplicaMoveState::Failed => "failed",
            ReplicaMoveState::Unspecified => "unknown",
        },
        message: one.error.map_or_else(String::new, |error| error.message),
        topic: one.topic,
        partition: one.partition,
        path: one.path,
        copied_bytes: one.copied_bytes,
        remaining_bytes: one.remaining_bytes,
    }));
}

fn view(node_id: i32, directory: LogDir, moves: &[ReplicaMove]) -> DirectoryView {
    let remaining = |replica: &LogDirReplica| {
        let here = |one: &&ReplicaMove| {
            (&one.topic, one.partition) == (&replica.topic, replica.partition)
                && one.path == directory.path
                && one.state() == ReplicaMoveState::Copying
        };
        moves.iter().find(here).filter(|_| replica.is_future).map(|one| one.remaining_bytes)
    };
    let replicas = directory.replicas.iter().map(|replica| ReplicaView {
        remaining_bytes: remaining(replica),
        topic: replica.topic.clone(),
        partition: replica.partition,
        size_bytes: replica.size_bytes,
        is_future: replica.is_future,
    });
    DirectoryView {
        node_id,
        replicas: replicas.collect(),
        path: directory.path,
        directory_id: directory.directory_id,
        offline: directory.offline,
        offline_reason: directory.offline_reason,
        total_bytes: directory.total_bytes,
        usable_bytes: directory.usable_bytes,
        error: directory.error.map_or_else(String::new, |error| error.message),
    }
}

fn render(output: &Output, directories: &[DirectoryView], moves: &[MoveView]) -> String {
    let mut table = Table::new(&[
        number("NODE"),
        text("LOG DIR"),
        text("STATE"),
        number("REPLICAS"),
        number("SIZE"),
        number("USABLE"),
        number("TOTAL"),
    ]);
    for one in directories {
        let size: i64 = one.replicas.iter().map(|replica| replica.size_bytes).sum();
        table.row(vec![
            one.node_id.to_string(),
            one.path.clone(),
            state(one).to_owned(),
            one.replicas.iter().filter(|replica| !replica.is_future).count().to_string(),
            show(size),
            show(one.usable_bytes),
            show(one.total_bytes),
        ]);
    }
    let mut out = output.table(&table);
    for one in directories {
        for why in [&one.offline_reason, &one.error].into_iter().filter(|why| !why.is_empty()) {
            out.push_str(&format!("{} of node {}: {why}\n", one.path, one.node_id));
        }
    }
    let mut table = Table::new(&[
        number("NODE"),
        text("LOG DIR"),
        text("TOPIC"),
        number("PARTITION"),
        number("SIZE"),
        text("FUTURE"),
    ]);
    for (one, replica) in
        directories.iter().flat_map(|one| one.replicas.iter().map(move |it| (one, it)))
    {
        table.row(vec![
            one.node_id.to_string(),
            one.path.clone(),
            replica.topic.clone(),
            replica.partition.to_string(),
            show(replica.size_bytes),
            match (replica.is_future, replica.remaining_bytes) {
                (false, _) => String::new(),
                (true, None) => "left over".to_owned(),
                (true, Some(bytes)) => format!("{} to go", show(bytes)),
            },
        ]);
    }
    out.push('\n');
    out.push_str(&output.table(&table));
    for one in moves.iter().filter(|one| one.state != "copying") {
        let MoveView { node_id, topic, partition, path, state, message, .. } = one;
        let why = if message.is_empty() { String::new() } else { format!(": {message}") };
        out.push_str(&format!("{topic}:{partition} to {path} on node {node_id}: {state}{why}\n"));
    }
    out
}

fn state(directory: &DirectoryView) -> &'static str {
    match (directory.offline, directory.error.is_empty()) {
        (true, _) => "offline",
        (false, true) => "online",
        (false, false) => "unknown",
    }
}

fn show(bytes: i64) -> String {
    show_size(u64::try_from(bytes).unwrap_or_default())
}
