//! `troupe log scrub`: nodes look through their logs for rot, and say what they found.

use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::show_size;
use crate::streams::notice;
use crate::topic_partitions::parse_partitions;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;
use troupe_client::Client;
use troupe_proto::admin::v1::{ScrubReplicasRequest, ScrubReplicasResponse, TopicPartitions};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

const WHAT: &str = "cannot have the logs looked through";

#[derive(Debug, Args)]
pub struct Scrub {
    /// A topic, or some of its partitions [default: all]
    #[arg(value_name = "TOPIC[:PARTITION,..]", value_parser = parse_partitions)]
    partitions: Option<TopicPartitions>,
    /// Only the replicas of this node [default: of all nodes]
    #[arg(long, value_name = "ID")]
    node: Option<i32>,
}

/// What was found in one replica.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScrubView {
    node_id: i32,
    topic: String,
    partition: i32,
    /// `sound`, `damaged`, or `failed`.
    outcome: &'static str,
    segment_count: i32,
    batch_count: i64,
    size_bytes: i64,
    repaired_files: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl ScrubView {
    fn new(node_id: i32, answer: ScrubReplicasResponse) -> ScrubView {
        let error = answer.error.map(Error::from);
        ScrubView {
            node_id,
            topic: answer.topic,
            partition: answer.partition,
            outcome: match (&error, answer.damaged) {
                (Some(_), _) => "failed",
                (None, true) => "damaged",
                (None, false) => "sound",
            },
            segment_count: answer.segment_count,
            batch_count: answer.batch_count,
            size_bytes: answer.size_bytes,
            repaired_files: answer.repaired_files,
            message: error.map_or_else(String::new, |error| error.message),
        }
    }
}

pub async fn run(global: &Global, scrub: Scrub) -> Result<(), Failure> {
    let client = global.connect().await?;
    let cluster = client.describe_cluster().await.with_context(|| WHAT.to_owned())?;
    let mut nodes: BTreeSet<i32> = cluster.nodes.iter().map(|node| node.node_id).collect();
    if let Some(node) = scrub.node {
        if !nodes.contains(&node) {
            return Err(Failure::new(Exit::NotFound, WHAT, format!("there is no node {node}"))
                .with_hint("`troupe node list` shows the nodes"));
        }
        nodes = BTreeSet::from([node]);
    }
    let named = scrub.partitions.unwrap_or_default();
    let (output, mut found) = (global.output(), Vec::new());
    for node in nodes {
        ask(&client, node, &named, output.terminal, &mut found).await?;
    }
    output.many("replicas", &found, || table(&found))?;
    let count = |outcome| found.iter().filter(|view| view.outcome == outcome).count();
    match (count("damaged"), count("failed")) {
        (0, 0) => Ok(()),
        (damaged, failed) => {
            let cause =
                format!("{damaged} of {} replicas are damaged, {failed} say nothing", found.len());
            let hint = "`troupe cluster health` says which are not filled again yet";
            Err(Failure::new(Exit::Failed, "", cause).with_hint(hint))
        }
    }
}

/// The answers of one node, as they come.
async fn ask(
    client: &Client,
    node: i32,
    named: &TopicPartitions,
    tells: bool,
    found: &mut Vec<ScrubView>,
) -> Result<(), Failure> {
    let what = || format!("{WHAT} of node {node}");
    let admin = client.admin_of(NodeId(node)).await.with_context(what)?;
    let TopicPartitions { topic, partitions } = named.clone();
    let request = ScrubReplicasRequest { topic, partitions };
    let mut answers = admin.scrub_replicas(request).await.with_context(what)?;
    let mut done = 0;
    loop {
        let answer = answers.message().await.map_err(troupe_client::ClientError::from);
        let Some(answer) = answer.with_context(what)? else { return Ok(()) };
        done += 1;
        if tells {
            let (of, bytes) = (answer.replica_count, answer.size_bytes.unsigned_abs());
            let (topic, partition) = (&answer.topic, answer.partition);
            notice!("node {node}: {topic}:{partition}, {} ({done} of {of})", show_size(bytes));
        }
        found.push(ScrubView::new(node, answer));
    }
}

fn table(found: &[ScrubView]) -> Table {
    let mut table = Table::new(&[
        number("NODE"),
        text("TOPIC"),
        number("PARTITION"),
        text("OUTCOME"),
        number("SEGMENTS"),
        number("BATCHES"),
        number("SIZE"),
        text("REPAIRED"),
        text("MESSAGE"),
    ]);
    for view in found {
        table.row(vec![
            view.node_id.to_string(),
            view.topic.clone(),
            view.partition.to_string(),
            view.outcome.to_owned(),
            view.segment_count.to_string(),
            view.batch_count.to_string(),
            show_size(view.size_bytes.unsigned_abs()),
            view.repaired_files.join(", "),
            view.message.clone(),
        ]);
    }
    table
}
