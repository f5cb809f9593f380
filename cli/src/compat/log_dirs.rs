//! kafka-log-dirs (A19): one line of JSON.

use super::ended::Ended;
use super::errors::named;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};
use crate::fan_out::fan_out;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use troupe_client::Client;
use troupe_proto::admin::v1::{DescribeLogDirsResponse, LogDir};
use troupe_proto::error::Error;
use troupe_proto::ids::NodeId;

static OPTIONS: Options = Options {
    about: "This tool helps to query log directory usage on the specified brokers.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("command-config", "file", "Settings of the client."),
        flag("describe", "What is in the directories."),
        value("topic-list", "a,b", "Only these topics."),
        value("broker-list", "1,2", "Only these nodes."),
    ],
    lead: "",
};

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["bootstrap-server", "describe"])?;
    link::run(describe(&given))
}

async fn describe(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let nodes = client.admin().get_cluster().await?.nodes;
    let mut known: Vec<i32> =
        nodes.iter().filter(|node| !node.fenced).map(|node| node.node_id).collect();
    known.sort_unstable();
    let asked = match given.listed("broker-list")? {
        None => known.clone(),
        Some(listed) => numbers(&listed)?,
    };
    let names = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let strange: Vec<i32> = asked.iter().copied().filter(|node| !known.contains(node)).collect();
    if !strange.is_empty() {
        return Err(Ended::err(format_args!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            names(&strange),
            names(&known)
        )));
    }
    print("Querying brokers for log directories information\n")?;
    let topics = given.listed("topic-list")?;
    let ends = ends(&client, &asked).await;
    let answers = fan_out(asked.iter().copied().collect(), async |node: NodeId| {
        client.admin_of(node).await?.describe_log_dirs(Vec::new()).await
    })
    .await;
    let mut brokers = Vec::new();
    for (node, answer) in answers {
        let answer = answer.map_err(|why| Ended::err(format_args!("broker {node}: {why}")))?;
        brokers.push(broker(node, answer, topics.as_deref(), &ends));
    }
    let text = json!({ "brokers": brokers, "version": 1 });
    print(&format!("Received log directory information from brokers {}\n{text}\n", names(&asked)))
}

fn numbers(listed: &[String]) -> Result<Vec<i32>, Ended> {
    let number = |text: &String| {
        text.parse().map_err(|_| {
            Ended::err(format_args!(
                "java.lang.NumberFormatException: For input string: \"{text}\""
            ))
        })
    };
    listed.iter().map(number).collect()
}

/// The ends of replicas, to tell how far one is behind the furthest.
type Ends = BTreeMap<(String, i32), BTreeMap<i32, i64>>;

async fn ends(client: &Client, nodes: &[i32]) -> Ends {
    let answers = fan_out(nodes.iter().copied().collect(), async |node: NodeId| {
        client.admin_of(node).await?.list_replicas(None).await
    })
    .await;
    let mut ends = Ends::new();
    for (node, answer) in answers {
        for replica in answer.unwrap_or_default() {
            let at = (replica.topic, replica.partition);
            ends.entry(at).or_default().insert(node, replica.log_end_offset);
        }
    }
    ends
}

fn broker(
    node: i32,
    answer: DescribeLogDirsResponse,
    topics: Option<&[String]>,
    ends: &Ends,
) -> Value {
    let directories: Vec<Value> =
        answer.log_dirs.iter().map(|directory| shown(node, directory, topics, ends)).collect();
    json!({ "broker": node, "logDirs": directories })
}

fn shown(node: i32, directory: &LogDir, topics: Option<&[String]>, ends: &Ends) -> Value {
    let is_asked = |topic: &String| topics.is_none_or(|topics| topics.contains(topic));
    let partitions: Vec<Value> = directory
        .replicas
        .iter()
        .filter(|replica| is_asked(&replica.topic))
        .map(|replica| {
            let of_all = ends.get(&(replica.topic.clone(), replica.partition));
            let furthest = of_all.and_then(|ends| ends.values().max().copied());
            let own = of_all.and_then(|ends| ends.get(&node).copied());
            let lag = furthest.zip(own).map_or(0, |(furthest, own)| (furthest - own).max(0));
            json!({
                "partition": format!("{}-{}", replica.topic, replica.partition),
                "size": replica.size_bytes, "offsetLag": lag, "isFuture": replica.is_future,
            })
        })
        .collect();
    let error = directory.error.clone().map(|error| named(&Error::from(error)));
    let error = error.or_else(|| directory.offline.then(|| directory.offline_reason.clone()));
    json!({ "partitions": partitions, "error": error, "logDir": directory.path })
}
