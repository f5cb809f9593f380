//! `troupe bench failover`: three nodes of its own, a producer that never stops, and one fault after the other.
//!
//! - [`kind`]: the faults. [`mod@load`]: the producer. [`rounds`]: the faults, and waiting until all is well.
//! - [`verify`] reads everything back; [`report`] has the distributions.
//!
//! A failover is measured from the moment before the fault to the first acknowledgement of a record that the
//! next leader wrote: what the old one still acknowledged does not count.

mod kind;
mod load;
mod report;
mod rounds;
mod verify;

use super::nodes::{self, Nodes};
use super::temporary::directory;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::{parse_count, parse_size};
use crate::signals::Stop;
use clap::Args;
use kind::{Kind, KindArgument};
use load::Load;
use report::{Outcome, Report};
use rounds::Rounds;
use serde_json::json;
use std::path::PathBuf;
use troupe_broker::NodeConfig;
use troupe_client::{Client, ClientConfig};

/// Settings of the nodes that decide how long a failover takes.
const TELLING: [&str; 4] = [
    "broker.heartbeat.interval.ms",
    "broker.session.timeout.ms",
    "broker.reconnect.grace.ms",
    "controlled.shutdown.timeout.ms",
];

#[derive(Debug, Args)]
pub struct BenchFailover {
    /// What happens to the leader of a partition; several with commas between them
    #[arg(long = "kind", value_enum, value_delimiter = ',', default_value = "all")]
    kinds: Vec<KindArgument>,
    /// How often each
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Records per second to each partition
    #[arg(long, default_value = "200", value_parser = parse_count)]
    rate: u64,
    /// Partitions, each on all three nodes
    #[arg(short, long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(3..=100))]
    partitions: u32,
    /// Bytes in each value
    #[arg(long, default_value = "100", value_parser = parse_size)]
    size: u64,
    /// Where the nodes of this run keep their files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A key and its value for the nodes, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub async fn run(global: &Global, bench: BenchFailover) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage(
            "nodes are killed here, so it starts its own: leave out --server",
        ));
    }
    if bench.rate == 0 || bench.rounds == 0 {
        return Err(Failure::usage("--rate and --rounds have to be at least 1"));
    }
    let mut kinds: Vec<Kind> = Vec::new();
    for kind in bench.kinds.iter().copied().flat_map(Kind::of) {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    // Before there is anything that a signal could leave behind.
    let mut stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "failover")?;
    let nodes = Nodes::start(made.path(), &bench.set).await?;
    let mut rounds = Rounds::new(nodes, global.progress());
    let mut report = Report::default();
    for kind in kinds {
        let outcome = stop.or(measure(&mut rounds, &bench, kind)).await;
        report.add(outcome.map_err(Failure::interrupted)??);
    }
    report.print(global, &settings(&bench))
}

/// All rounds of one kind, on a topic of their own.
async fn measure(
    rounds: &mut Rounds,
    bench: &BenchFailover,
    kind: Kind,
) -> Result<Outcome, Failure> {
    let what = || format!("cannot measure {}", kind.name());
    let topic = format!("failover-{}", kind.name());
    rounds.make_topic(&topic, &kind.assignments(bench.partitions)).await?;
    let client =
        Client::connect(ClientConfig::new(rounds.nodes().servers())).await.with_context(what)?;
    // So that the first fault finds a client that knows everyone.
    client.topic(&topic).await.with_context(what)?;
    let size = usize::try_from(bench.size).map_err(Failure::usage)?;
    let load = Load::start(&client, &topic, bench.partitions, bench.rate, size).await;
    let load = load.with_context(what)?;
    let mut faults = Vec::new();
    for round in 0..bench.rounds {
        let fault = rounds.run(kind, &topic, round, &load).await?;
        rounds.report_progress(|| format!("{} {}/{}", kind.name(), round + 1, bench.rounds));
        faults.push(fault);
    }
    // Whatever was in doubt is settled before it is judged.
    rounds.wait_until_well(&topic).await?;
    let sent = load.finish().await.with_context(what)?;
    let stored = verify::read_back(&client, &topic, sent.len()).await.with_context(what)?;
    Ok(Outcome::new(kind, &faults, &sent, &stored))
}

fn settings(bench: &BenchFailover) -> serde_json::Value {
    let defaults = NodeConfig::default();
    let default = |key: &&str| defaults.get(key).map(|default| format!("{key}={default}"));
    let mut node: Vec<String> = TELLING.iter().filter_map(default).collect();
    node.extend(nodes::SETTINGS.map(str::to_owned));
    node.extend(bench.set.iter().cloned());
    json!({
        "nodes": 3,
        "rounds": bench.rounds,
        "partitions": bench.partitions,
        "recordSize": bench.size,
        "ratePerPartition": bench.rate,
        "producer": super::load::describe(&load::settings()),
        "node": node,
    })
}
