//! `troupe bench offsets`: what compaction does for the offsets of groups.
//!
//! On three nodes of its own many groups commit many offsets, while `__consumer_offsets` is not cleaned. Then
//! coordinators are killed, and it is measured how long nothing is committed; the topic is cleaned; and the same is
//! measured again.

mod commits;
mod topic;

use super::coordinator_loss::{Fault, kill_coordinator};
use super::nodes::Nodes;
use super::temporary::{directory, with_topic};
use super::workload::FlushPolicy;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::quantity::{grouped, parse_count, rounded, show_size};
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use commits::Load;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientConfig};

#[derive(Debug, Args)]
pub struct BenchOffsets {
    /// Groups that commit
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    groups: u64,
    /// Committed offsets, all groups together
    #[arg(long, default_value = "10M", value_parser = parse_count)]
    commits: u64,
    /// Partitions whose offsets a group commits, in one request
    #[arg(short, long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5000))]
    partitions: u32,
    /// Groups that commit at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    at_once: u32,
    /// How often coordinators are killed, of each kind, before and after
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Where the nodes of this run keep their files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A key and its value for the nodes, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// How the topic is, and what the loss of a coordinator costs then.
struct Stand {
    /// On the leaders' disks.
    bytes: u64,
    /// Of one partition, at most.
    largest: u64,
    actor: Latencies,
    node: Latencies,
}

pub async fn run(global: &Global, bench: BenchOffsets) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("it starts nodes of its own: leave out --server"));
    }
    let load = Load::new(bench.groups, bench.commits, bench.partitions, bench.at_once)?;
    let what = || "cannot prepare the measurement".to_owned();
    // Before there is anything that a signal could leave behind.
    let _stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "offsets")?;
    let mut settings = vec!["log.cleaner.backoff.ms=1000".to_owned()];
    settings.extend(bench.set.iter().cloned());
    let mut nodes = Nodes::start(made.path(), &settings).await?;
    let client = Client::connect(ClientConfig::new(nodes.servers())).await.with_context(what)?;
    let told = |what: &str| {
        if global.progress() {
            notice!("{what}");
        }
    };
    with_topic(&client, bench.partitions, FlushPolicy::Os, async |name: &str| {
        load.first(&client, name).await?;
        topic::hold(&client).await?;
        told("committing");
        let began = Instant::now();
        load.run(&client, name).await?;
        let took = began.elapsed();
        told("losing coordinators, before");
        let before = stand(&bench, &client, &mut nodes, name).await?;
        told("cleaning");
        let began = Instant::now();
        topic::clean(&client, &nodes).await?;
        let cleaning = began.elapsed();
        told("losing coordinators, after");
        let after = stand(&bench, &client, &mut nodes, name).await?;
        report(global, &bench, (took, cleaning), (&before, &after))
    })
    .await
}

async fn stand(
    bench: &BenchOffsets,
    client: &Client,
    nodes: &mut Nodes,
    name: &str,
) -> Result<Stand, Failure> {
    let (bytes, largest) = topic::sizes(client, nodes).await?;
    let (mut actor, mut node) = (Latencies::default(), Latencies::default());
    for _ in 0..bench.rounds {
        actor.record(kill_coordinator(client, name, Fault::Actor).await?);
        node.record(kill_coordinator(client, name, Fault::Node(nodes)).await?);
    }
    Ok(Stand { bytes, largest, actor, node })
}

impl Stand {
    fn view(&self) -> serde_json::Value {
        json!({
            "bytes": self.bytes,
            "largestPartitionBytes": self.largest,
            "coordinatorActorMs": self.actor.view(),
            "coordinatorNodeMs": self.node.view(),
        })
    }

    fn show(&self, when: &str) -> String {
        format!(
            "{when:<7} {} in all, {} at most in a partition\n        actor killed: {}\n        node killed:  {}\n",
            show_size(self.bytes),
            show_size(self.largest),
            self.actor.show(),
            self.node.show(),
        )
    }
}

fn report(
    global: &Global,
    bench: &BenchOffsets,
    (committing, cleaning): (Duration, Duration),
    (before, after): (&Stand, &Stand),
) -> Result<(), Failure> {
    let view = json!({
        "benchmark": "offsets",
        "settings": {
            "groups": bench.groups,
            "commits": bench.commits,
            "partitions": bench.partitions,
            "rounds": bench.rounds,
            "set": bench.set,
        },
        "commitsPerSecond": (bench.commits as f64 / committing.as_secs_f64()).round(),
        "cleaningSeconds": rounded(cleaning.as_secs_f64()),
        "before": before.view(),
        "after": after.view(),
    });
    global.output().one(&view, || {
        format!(
            "commits {} of {} groups in {:.1} s; cleaned in {:.1} s\n{}{}",
            grouped(bench.commits),
            grouped(bench.groups),
            committing.as_secs_f64(),
            cleaning.as_secs_f64(),
            before.show("before"),
            after.show("after"),
        )
    })
}
