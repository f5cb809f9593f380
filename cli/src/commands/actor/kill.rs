//! `troupe actor kill`: one actor by its address, or whoever leads a partition or coordinates a group; with what it
//! cost.

use crate::actors::node_of;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::roles::{Partition, actor_of, coordinator_of, parse_partition};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::fmt;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientError, OffsetSpec};
use troupe_proto::chaos::v1alpha1::KillMode;
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};

/// Between two looks at who leads.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How long a new leader is waited for, where there is somebody who can be one.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct Kill {
    /// As `troupe actor tree` shows it
    #[arg(required_unless_present_any = ["leader", "coordinator"])]
    address: Option<String>,
    /// The partition's actor on the node that leads it
    #[arg(long, value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    #[arg(conflicts_with = "address")]
    leader: Option<Partition>,
    /// The actor that coordinates this group
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["address", "leader"])]
    coordinator: Option<String>,
    /// How it dies
    #[arg(long, value_enum, default_value_t = Mode::Stop)]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// It stops at its next message
    Stop,
    /// It panics in its next message
    Panic,
}

impl From<Mode> for KillMode {
    fn from(mode: Mode) -> KillMode {
        match mode {
            Mode::Stop => KillMode::Stop,
            Mode::Panic => KillMode::Panic,
        }
    }
}

pub async fn run(global: &Global, kill: Kill) -> Result<(), Failure> {
    let client = global.connect().await?;
    match (kill.leader, kill.coordinator, kill.address) {
        (Some(partition), _, _) => kill_leader(global, &client, &partition, kill.mode).await,
        (None, Some(group), _) => {
            let address = coordinator_of(&client, &group).await?;
            kill_address(global, &client, &address, kill.mode).await
        }
        (None, None, Some(address)) => kill_address(global, &client, &address, kill.mode).await,
        (None, None, None) => {
            Err(Failure::usage("an address, --leader or --coordinator is needed"))
        }
    }
}

async fn kill_address(
    global: &Global,
    client: &Client,
    address: &str,
    mode: Mode,
) -> Result<(), Failure> {
    let what = || format!("cannot kill {address}");
    let Some(node) = node_of(address) else {
        return Err(Failure::new(
            Exit::NotFound,
            what(),
            "an address begins with `node/`, and its number",
        )
        .with_hint("`troupe actor tree` shows the addresses"));
    };
    let cluster = client.describe_cluster().await.with_context(what)?;
    if !cluster.nodes.iter().any(|known| known.node_id == node.0) {
        return Err(Failure::new(Exit::NotFound, what(), format!("there is no node {node}"))
            .with_hint("`troupe node list` shows the nodes"));
    }
    let admin = client.admin_of(node).await.with_context(what)?;
    let answer = admin.kill_actor(address, mode.into()).await.with_context(what)?;
    let view = json!({
        "address": address, "recoveryMicros": answer.recovery_micros, "restarts": answer.restarts,
    });
    global.output().one(&view, || {
        format!(
            "killed {address}; a new one serves after {} (restart {})\n",
            show_micros(answer.recovery_micros),
            answer.restarts
        )
    })
}

/// Who leads a partition, and in which epoch.
#[derive(Clone, Copy, Debug)]
struct Leader {
    node: NodeId,
    epoch: LeaderEpoch,
    /// Replicas in sync, itself among them.
    in_sync: usize,
}

impl Leader {
    fn view(self) -> Value {
        json!({ "leaderId": self.node.0, "leaderEpoch": self.epoch.0 })
    }
}

async fn kill_leader(
    global: &Global,
    client: &Client,
    partition: &Partition,
    mode: Mode,
) -> Result<(), Failure> {
    let Partition { topic, number } = partition;
    let what = || format!("cannot kill the leader of {topic}:{number}");
    let there = client.topic(topic).await.with_context(what)?.partitions.len();
    if *number as usize >= there {
        let cause = format!("there is no partition {number}; the topic has 0 to {}", there - 1);
        return Err(Failure::new(Exit::NotFound, what(), cause));
    }
    let before = leader(client, partition).await.with_context(what)?.ok_or_else(|| {
        Failure::new(Exit::Failed, what(), "nobody leads it")
            .with_hint(format!("`troupe partition list {topic}` shows who is in sync"))
    })?;
    let admin = client.admin_of(before.node).await.with_context(what)?;
    let address = actor_of(client, before.node, partition, what).await?;
    let started = Instant::now();
    let killed = async { admin.kill_actor(&address, mode.into()).await };
    let led = served_anew(client, partition, before, started);
    let (answer, led) = tokio::join!(killed, led);
    let answer = answer.with_context(what)?;
    let (after, took) = match led.with_context(what)? {
        Some((after, took)) => (Some(after), Some(micros(took))),
        None => (leader(client, partition).await.with_context(what)?, None),
    };
    let view = json!({
        "address": address,
        "recoveryMicros": answer.recovery_micros,
        "restarts": answer.restarts,
        "before": before.view(),
        "after": after.map(Leader::view),
        "leaderMicros": took,
    });
    global.output().one(&view, || {
        let led = match (after, took) {
            (Some(now), Some(took)) => {
                format!("{topic}:{number} is led by {now} after {}", show_micros(took))
            }
            (Some(now), None) => format!("{topic}:{number} is still led by {now}"),
            (None, _) => format!("nobody leads {topic}:{number}"),
        };
        format!(
            "killed {address}, which led in epoch {}\n\
             {led}; the killed one is back after {} (restart {})\n",
            before.epoch,
            show_micros(answer.recovery_micros),
            answer.restarts
        )
    })
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} in epoch {}", self.node, self.epoch)
    }
}

/// Who answers for the partition in a later epoch, and since when. None: nobody does. An actor that nobody else
/// can take over from comes back and leads on, in the same epoch.
async fn served_anew(
    client: &Client,
    partition: &Partition,
    before: Leader,
    started: Instant,
) -> Result<Option<(Leader, Duration)>, ClientError> {
    let number = PartitionId(partition.number);
    let mut changed = None;
    if before.in_sync < 2 {
        return Ok(None);
    }
    while started.elapsed() < TIMEOUT {
        if changed.is_none() {
            changed = leader(client, partition).await?.filter(|now| now.epoch > before.epoch);
        }
        if let Some(now) = changed {
            let query = [(number, OffsetSpec::Latest)];
            let listed = client.list_offsets(&partition.topic, &query).await;
            if listed.is_ok_and(|listed| listed[0].leader_epoch >= now.epoch) {
                return Ok(Some((now, started.elapsed())));
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(None)
}

/// As the controller has committed it.
async fn leader(client: &Client, partition: &Partition) -> Result<Option<Leader>, ClientError> {
    let topic = client.admin().get_topic(&partition.topic).await?;
    let found = topic
        .partitions
        .iter()
        .find(|found| i64::from(found.partition) == i64::from(partition.number));
    Ok(found.filter(|found| found.leader_id >= 0).map(|found| Leader {
        node: NodeId(found.leader_id),
        epoch: LeaderEpoch(found.leader_epoch),
        in_sync: found.in_sync_replicas.len(),
    }))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn show_micros(micros: i64) -> String {
    format!("{:.1} ms", micros as f64 / 1e3)
}
