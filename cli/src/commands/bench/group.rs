//! `troupe bench group`: how long a group takes to settle, and how long the loss of its coordinator is felt.
//!
//! - [`members`]: members that only hold what they are given: what is measured is the coordinator.
//! - `coordinator_loss`: commits without a pause through the SDK, while coordinators are killed.
//!
//! A group is settled when all members are in it and hold all partitions between them, in equal shares.

mod members;

use super::coordinator_loss::{Fault, kill_coordinator};
use super::nodes::Nodes;
use super::temporary::{directory, random_name, with_topic};
use super::workload::FlushPolicy;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use members::GroupMembers;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use troupe_client::{Assignor, Client, ClientConfig};

#[derive(Debug, Args)]
pub struct BenchGroup {
    /// Members of the group
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=5000))]
    members: u32,
    /// Partitions of the topic; at least as many as members
    #[arg(short, long, default_value_t = 1000)]
    partitions: u32,
    /// How often the members join, one leaves, and another one joins
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How often the coordinator is killed, of each kind; 0: never
    #[arg(long, default_value_t = 10)]
    failovers: u32,
    /// range, roundrobin, sticky or cooperative-sticky [default: the cluster's]
    #[arg(long)]
    assignor: Option<Assignor>,
    /// On three nodes of its own; the coordinator's node is killed too
    #[arg(long)]
    nodes: bool,
    /// Where the nodes of this run keep their files, for as long as it takes
    #[arg(long, value_name = "DIR", requires = "nodes")]
    dir: Option<PathBuf>,
    /// A key and its value for the nodes, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", requires = "nodes")]
    set: Vec<String>,
}

#[derive(Default)]
struct Outcome {
    /// Of each member: until it had what it shall have.
    member: Latencies,
    /// Of the whole group.
    join: Latencies,
    leave: Latencies,
    one_more: Latencies,
    actor: Latencies,
    node: Latencies,
}

pub async fn run(global: &Global, bench: BenchGroup) -> Result<(), Failure> {
    if bench.partitions < bench.members {
        return Err(Failure::usage("--partitions has to be at least --members"));
    }
    if !bench.nodes {
        let client = global.connect().await?;
        let outcome = measure(global, &bench, &client, None).await?;
        return report(global, &bench, &outcome);
    }
    if !global.server.is_empty() {
        return Err(Failure::usage("--nodes starts its own nodes: leave out --server"));
    }
    let what = || "cannot prepare the measurement".to_owned();
    // Before there is anything that a signal could leave behind.
    let _stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "group")?;
    let mut nodes = Nodes::start(made.path(), &bench.set).await?;
    let client = Client::connect(ClientConfig::new(nodes.servers())).await.with_context(what)?;
    let outcome = measure(global, &bench, &client, Some(&mut nodes)).await?;
    report(global, &bench, &outcome)
}

async fn measure(
    global: &Global,
    bench: &BenchGroup,
    client: &Client,
    nodes: Option<&mut Nodes>,
) -> Result<Outcome, Failure> {
    with_topic(client, bench.partitions, FlushPolicy::Os, async |topic: &str| {
        let mut outcome = Outcome::default();
        for round in 0..bench.rounds {
            settle(bench, client, topic, &mut outcome).await?;
            report_progress(global, || format!("members {}/{}", round + 1, bench.rounds));
        }
        for round in 0..bench.failovers {
            let pause = kill_coordinator(client, topic, Fault::Actor).await?;
            outcome.actor.record(pause);
            report_progress(global, || format!("actor {}/{}", round + 1, bench.failovers));
        }
        if let Some(nodes) = nodes {
            for round in 0..bench.failovers {
                let pause = kill_coordinator(client, topic, Fault::Node(nodes)).await?;
                outcome.node.record(pause);
                report_progress(global, || format!("node {}/{}", round + 1, bench.failovers));
            }
        }
        Ok(outcome)
    })
    .await
}

fn report_progress(global: &Global, what: impl FnOnce() -> String) {
    if global.progress() {
        notice!("{}", what());
    }
}

/// All members join a new group at once, one leaves, and one more joins.
async fn settle(
    bench: &BenchGroup,
    client: &Client,
    topic: &str,
    outcome: &mut Outcome,
) -> Result<(), Failure> {
    let group = random_name();
    let assignor = bench.assignor.map_or_else(String::new, |assignor| assignor.to_string());
    let mut members = GroupMembers::new(client, &group, topic, assignor, bench.partitions).await?;
    let began = Instant::now();
    for number in 0..bench.members {
        members.join(number).await?;
    }
    let settled = members.settled().await?;
    outcome.join.record(settled.at - began);
    for changed in settled.members {
        outcome.member.record(changed - began);
    }
    let began = Instant::now();
    members.leave(0);
    outcome.leave.record(members.settled().await?.at - began);
    let began = Instant::now();
    members.join(bench.members).await?;
    outcome.one_more.record(members.settled().await?.at - began);
    members.end().await;
    client
        .admin()
        .delete_group(&group)
        .await
        .with_context(|| format!("cannot delete group {group}"))
}

fn report(global: &Global, bench: &BenchGroup, outcome: &Outcome) -> Result<(), Failure> {
    let figures = [
        ("memberMs", "each member, all joining at once", &outcome.member),
        ("joinMs", "the group, all joining at once", &outcome.join),
        ("leaveMs", "the group, when one leaves", &outcome.leave),
        ("oneMoreMs", "the group, when one more joins", &outcome.one_more),
        ("coordinatorActorMs", "commits, coordinator's actor killed", &outcome.actor),
        ("coordinatorNodeMs", "commits, coordinator's node killed", &outcome.node),
    ];
    let measured = || figures.iter().filter(|(_, _, latencies)| latencies.count() > 0);
    if measured().next().is_none() {
        return Err(Failure::new(Exit::Usage, "", "nothing was to be measured"));
    }
    let results: serde_json::Map<String, serde_json::Value> =
        measured().map(|(name, _, latencies)| ((*name).to_owned(), latencies.view())).collect();
    let view = json!({
        "benchmark": "group",
        "settings": {
            "members": bench.members,
            "partitions": bench.partitions,
            "rounds": bench.rounds,
            "failovers": bench.failovers,
            "assignor": bench.assignor.map(|assignor| assignor.to_string()),
            "nodes": bench.nodes.then_some(3),
        },
        "result": results,
    });
    global.output().one(&view, || {
        let mut text = String::new();
        for (_, what, latencies) in measured() {
            text += &format!("{what:<36} {}\n", latencies.show());
        }
        text + &format!(
            "settings members={} partitions={} rounds={} failovers={}\n",
            bench.members, bench.partitions, bench.rounds, bench.failovers
        )
    })
}
