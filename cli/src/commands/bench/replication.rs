//! `troupe bench replication`: how fast a follower gets what its leader has, and what it costs to wait for it.
//!
//! - [`cluster`]: three nodes of its own, their topics, and a follower that is stopped and started again.
//! - [`sent`] is what moves bytes; [`catch_up`] watches the follower; [`latency`] sends one record at a time; [`report`] has the figures.
//!
//! What is compared is measured in turns, and a ratio is the median of the ratios within rounds: the machine is
//! as noisy for one as for the other. The file system is synced before every measurement that moves bytes.

mod catch_up;
mod cluster;
mod latency;
mod report;
mod sent;

use super::file_system::sync_file_system;
use super::raw::{Mode, Raw};
use super::temporary::directory;
use super::throughput::Throughput;
use super::workload::{FlushPolicy, Workload};
use super::{load, nodes};
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::{parse_count, parse_size};
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use cluster::Cluster;
use report::{Bulk, Figures};
use sent::{RECORD_BYTES, producer, workload};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Partitions of the topics that bytes are moved through.
const CASES: [u32; 2] = [1, 6];
/// A topic on three nodes, and one that is just being deleted.
const PAGE_CACHE_VOLUMES: u64 = 4;
const WARM_UP_BYTES: u64 = 64 << 20;
/// How often a follower may have most of it before it is first seen.
const CATCH_UP_ATTEMPTS: usize = 5;

#[derive(Debug, Args)]
pub struct BenchReplication {
    /// How often everything is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Bytes of values that are produced, and that a follower catches up with
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    bytes: u64,
    /// Calls of each kind in a round, to measure latencies
    #[arg(long, default_value = "1k", value_parser = parse_count)]
    calls: u64,
    /// Calls per second, all kinds in turn and never two at a time
    #[arg(long, default_value = "500", value_parser = parse_count)]
    rate: u64,
    /// Where the nodes of this run keep their files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A key and its value for the nodes, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub async fn run(global: &Global, bench: BenchReplication) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("it stops and starts nodes of its own: leave out --server"));
    }
    if bench.rate == 0 || bench.calls == 0 {
        return Err(Failure::usage("--rate and --calls have to be at least 1"));
    }
    if bench.bytes < RECORD_BYTES {
        let cause = format!("--bytes is less than one record of {RECORD_BYTES} bytes");
        return Err(Failure::usage(cause));
    }
    // Before there is anything that a signal could leave behind.
    let mut stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "replication")?;
    let cluster = Cluster::start(made.path(), &bench.set).await?;
    let mut rounds =
        Rounds { cluster, dir: made.path(), bench: &bench, figures: Figures::default() };
    let outcome = stop.or(rounds.run(global.progress())).await;
    outcome.map_err(Failure::interrupted)??;
    rounds.figures.print(global, &settings(&bench))
}

struct Rounds<'a> {
    cluster: Cluster,
    dir: &'a Path,
    bench: &'a BenchReplication,
    figures: Figures,
}

impl Rounds<'_> {
    async fn run(&mut self, progress: bool) -> Result<(), Failure> {
        let tell = |what: &dyn Fn() -> String| {
            if progress {
                notice!("{}", what());
            }
        };
        tell(&|| "warming up".to_owned());
        self.warm_up().await?;
        let rounds = self.bench.rounds;
        for round in 1..=rounds {
            for partitions in CASES {
                tell(&|| format!("round {round} of {rounds}: bytes, {partitions} partitions"));
                self.move_bytes(partitions).await?;
            }
            let (calls, rate) = (self.bench.calls, self.bench.rate);
            for policy in [FlushPolicy::Os, FlushPolicy::Commit] {
                let name = policy.name();
                tell(&|| format!("round {round} of {rounds}: latency, flush.policy={name}"));
                let latencies = latency::measure(&self.cluster, policy, calls, rate).await?;
                self.figures.keep_latencies(policy, latencies);
            }
        }
        Ok(())
    }

    /// Memory that a virtual machine has never used costs a fault in its host; see `bench limits`.
    async fn warm_up(&mut self) -> Result<(), Failure> {
        let what = || "cannot warm up".to_owned();
        let raw = Raw::start(self.dir).with_context(what)?;
        raw.measure(Mode::Write, PAGE_CACHE_VOLUMES * self.bench.bytes).with_context(what)?;
        drop(raw);
        let workload = workload(WARM_UP_BYTES.min(self.bench.bytes), 1);
        self.produce(&[vec![1, 2, 3]], &workload).await.map(drop)
    }

    /// The same bytes to one node, from a leader to its follower, and to three nodes.
    async fn move_bytes(&mut self, partitions: u32) -> Result<(), Failure> {
        let workload = workload(self.bench.bytes, partitions);
        let on = |nodes: &[i32]| vec![nodes.to_vec(); partitions as usize];
        let alone = self.produce(&on(&[1]), &workload).await?;
        let caught_up = self.catch_up(&on(&[1, 2]), &workload).await?;
        let turning: Vec<Vec<i32>> = (0..partitions).map(cluster::three_from).collect();
        let everywhere = self.produce(&turning, &workload).await?;
        self.figures.keep_bulk(partitions, Bulk { alone, caught_up, everywhere });
        Ok(())
    }

    /// acks=all, as fast as it goes.
    async fn produce(
        &self,
        assignments: &[Vec<i32>],
        workload: &Workload,
    ) -> Result<Throughput, Failure> {
        let topic = self.cluster.make_topic(assignments, workload.flush_policy).await?;
        self.sync()?;
        let client = self.cluster.client();
        let sent = load::run(client, &topic, workload, producer(), None, None).await?;
        self.cluster.delete_topic(&topic).await?;
        Ok(sent.throughput)
    }

    /// Fills a topic while its follower is stopped, and lets it come back.
    async fn catch_up(
        &mut self,
        assignments: &[Vec<i32>],
        workload: &Workload,
    ) -> Result<catch_up::CaughtUp, Failure> {
        for _ in 0..CATCH_UP_ATTEMPTS {
            let topic = self.cluster.make_topic(assignments, workload.flush_policy).await?;
            self.cluster.stop_follower(&topic).await?;
            load::run(self.cluster.client(), &topic, workload, producer(), None, None).await?;
            self.sync()?;
            let caught_up = catch_up::measure(&mut self.cluster, &topic).await?;
            self.cluster.delete_topic(&topic).await?;
            if let Some(caught_up) = caught_up {
                return Ok(caught_up);
            }
        }
        let cause = "it had more than half of it when it was first seen: take more --bytes";
        Err(Failure::new(Exit::Failed, "the follower was too fast to be watched", cause))
    }

    fn sync(&self) -> Result<(), Failure> {
        sync_file_system(self.dir).with_context(|| "cannot sync the file system".to_owned())
    }
}

fn settings(bench: &BenchReplication) -> serde_json::Value {
    // What is set later counts.
    let mut node = BTreeMap::new();
    let own = nodes::SETTINGS.into_iter().chain(cluster::SETTINGS);
    for setting in own.chain(bench.set.iter().map(String::as_str)) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        node.insert(key, value);
    }
    json!({
        "nodes": "3, each a process of its own; they, and the client while it sends, share the processors",
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "rounds": bench.rounds,
        "bytes": bench.bytes,
        "recordSize": RECORD_BYTES,
        "flushPolicyOfBytes": FlushPolicy::Os.name(),
        "producerOfBytes": load::describe(&producer()),
        "callsPerRound": bench.calls,
        "callsPerSecond": bench.rate,
        "producerOfCalls": load::describe(&latency::producer()),
        "node": node,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: BenchReplication,
    }

    #[test]
    fn a_follower_catches_up_with_a_gibibyte_unless_told_otherwise() {
        let bench = Cli::try_parse_from(["bench"]).unwrap().bench;
        assert_eq!((bench.rounds, bench.bytes), (5, 1 << 30));
        let arguments = ["bench", "--rounds", "3", "--bytes", "64MiB", "--set", "shards=1"];
        let bench = Cli::try_parse_from(arguments).unwrap().bench;
        assert_eq!((bench.rounds, bench.bytes, bench.set.len()), (3, 64 << 20, 1));
        assert!(Cli::try_parse_from(["bench", "--rounds", "0"]).is_err());
    }
}
