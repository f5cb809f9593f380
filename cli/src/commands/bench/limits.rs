//! `troupe bench limits`: what the broker does as a share of what the machine does, in one run.
//!
//! A shared machine is noisy, so raw and broker take turns, figures are medians of the rounds, and a ratio
//! is the median of the ratios of neighbouring pairs. Before each pair the file system is synced, so that
//! nobody pays for what the one before left dirty.

mod report;

use super::file_system::sync_file_system;
use super::raw::{Mode, Raw};
use super::server::Server;
use super::temporary::{directory, with_topic};
use super::throughput::Throughput;
use super::workload::{FlushPolicy, Workload};
use super::{cpu, load, reading};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::producer::Settings;
use crate::quantity::{parse_size, show_size};
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use report::{Measurement, Operation, RawFigure};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use troupe_client::{Client, ClientConfig, ProducerConfig};

#[derive(Debug, Args)]
pub struct BenchLimits {
    /// How often everything is measured
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of each measurement with 1 KiB records; a quarter of it with 100 B
    #[arg(long, default_value = "1GiB", value_parser = parse_size)]
    volume: u64,
    /// The same where the disk is waited for
    #[arg(long, default_value = "256MiB", value_parser = parse_size)]
    sync_volume: u64,
    /// Where the node of this run and the raw measurements keep their files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Bytes of a value and partitions of the topic.
const CASES: [(u64, u32); 4] = [(1024, 1), (1024, 6), (100, 1), (100, 6)];
const WARM_UP_BYTES: u64 = 64 << 20;
/// A raw file, the topic being measured, and one that is just being deleted.
const PAGE_CACHE_VOLUMES: u64 = 3;

pub async fn run(global: &Global, bench: BenchLimits) -> Result<(), Failure> {
    let what = || "cannot prepare the measurement".to_owned();
    // Before there is anything that a signal could leave behind.
    let _stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "limits")?;
    let raw = Raw::start(made.path()).with_context(what)?;
    // A node that was named is measured; else one of its own, in another process on the same disk.
    let server = if global.server.is_empty() {
        Some(Server::start(&made.path().join("node")).with_context(what)?)
    } else {
        None
    };
    let client = match &server {
        Some(server) => Client::connect(ClientConfig::new([server.address.clone()])).await,
        None => Client::connect(ClientConfig::new(global.server.clone())).await,
    };
    let mut limits = Limits {
        client: client.with_context(what)?,
        raw,
        server_pid: server.as_ref().map(Server::pid),
        directory: made.path().to_owned(),
        config: bench.settings.config(),
        raw_figures: BTreeMap::new(),
        measurements: Vec::new(),
    };
    let progress = global.progress();
    if progress {
        notice!("warming up");
    }
    limits.warm_up(bench.volume).await?;
    for round in 1..=bench.rounds {
        for (size, partitions) in CASES {
            if progress {
                notice!(
                    "round {round} of {}: {} records, {partitions} partitions",
                    bench.rounds,
                    show_size(size)
                );
            }
            limits.case(&bench, size, partitions).await?;
        }
    }
    let settings = serde_json::json!({
        "rounds": bench.rounds,
        "volume": bench.volume,
        "syncVolume": bench.sync_volume,
        "chunk": 1 << 20,
        "processes": "sender and receiver, client and node: each a process of its own",
        "server": if server.is_some() { "own" } else { "given" },
        "directory": limits.directory.parent().map(|dir| dir.display().to_string()),
        "producer": load::describe(&limits.config),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
    });
    report::print(global, &settings, &limits.raw_figures, &limits.measurements)
}

struct Limits {
    client: Client,
    raw: Raw,
    /// Whose processor time is counted, if the node is ours.
    server_pid: Option<u32>,
    directory: PathBuf,
    config: ProducerConfig,
    raw_figures: BTreeMap<Mode, RawFigure>,
    measurements: Vec<Measurement>,
}

impl Limits {
    /// On a virtual machine, memory that was never used costs a fault in the host at its first use, ten
    /// times the price of writing to it. So as much of the page cache as the rounds need is used once
    /// before anything counts; otherwise whoever writes first looks slow.
    async fn warm_up(&mut self, volume: u64) -> Result<(), Failure> {
        let what = || "cannot warm up".to_owned();
        self.raw.measure(Mode::Write, PAGE_CACHE_VOLUMES * volume).with_context(what)?;
        for mode in Mode::ALL {
            self.raw(mode, WARM_UP_BYTES)?;
        }
        let workload = workload(WARM_UP_BYTES, 1024, 1, FlushPolicy::Os);
        let config = self.config.clone();
        with_topic(&self.client, 1, FlushPolicy::Os, async |topic: &str| {
            load::run(&self.client, topic, &workload, config, None, None).await?;
            reading::run(&self.client, topic, Some(workload.records)).await
        })
        .await?;
        self.raw_figures.clear();
        Ok(())
    }

    /// One size and number of partitions: produce and consume with `flush.policy=os`, then produce where
    /// every answer waits for the disk.
    async fn case(
        &mut self,
        bench: &BenchLimits,
        size: u64,
        partitions: u32,
    ) -> Result<(), Failure> {
        let share = if size < 1024 { 4 } else { 1 };
        let (volume, sync_volume) = (bench.volume / share, bench.sync_volume);
        let client = self.client.clone();
        let os = workload(volume, size, partitions, FlushPolicy::Os);
        with_topic(&client, partitions, FlushPolicy::Os, async |topic: &str| {
            let raw = self.raw(Mode::Write, volume)?;
            self.produce(Operation::ProduceOs, topic, &os, raw).await?;
            let raw = self.raw(Mode::Discard, volume)?;
            let (client, records) = (self.client.clone(), os.records);
            let reading = async { reading::run(&client, topic, Some(records)).await };
            let (throughput, cpu) = self.timed(reading).await?;
            self.keep(Operation::Consume, &os, throughput, raw, cpu);
            Ok(())
        })
        .await?;
        let commit = workload(sync_volume, size, partitions, FlushPolicy::Commit);
        with_topic(&client, partitions, FlushPolicy::Commit, async |topic: &str| {
            let raw = self.raw(Mode::Sync, sync_volume)?;
            self.produce(Operation::ProduceFsync, topic, &commit, raw).await
        })
        .await
    }

    async fn produce(
        &mut self,
        operation: Operation,
        topic: &str,
        workload: &Workload,
        raw_mb: f64,
    ) -> Result<(), Failure> {
        let (client, config) = (self.client.clone(), self.config.clone());
        let sending = async {
            let outcome = load::run(&client, topic, workload, config, None, None).await?;
            Ok(outcome.throughput)
        };
        let (throughput, cpu) = self.timed(sending).await?;
        self.keep(operation, workload, throughput, raw_mb, cpu);
        Ok(())
    }

    /// Runs a measurement and counts what processor time it took, here and in the node.
    async fn timed(
        &self,
        measurement: impl Future<Output = Result<Throughput, Failure>>,
    ) -> Result<(Throughput, report::Cpu), Failure> {
        let now = || {
            let server = self.server_pid.and_then(cpu::of_process);
            (cpu::of_process(std::process::id()), server)
        };
        let (client_before, server_before) = now();
        let throughput = measurement.await?;
        let (client_after, server_after) = now();
        let spent = |before: Option<Duration>, after: Option<Duration>| {
            Some(after?.saturating_sub(before?).as_secs_f64() / (throughput.bytes as f64 / 1e9))
        };
        let client = spent(client_before, client_after);
        Ok((throughput, report::Cpu { client, server: spent(server_before, server_after) }))
    }

    fn keep(
        &mut self,
        operation: Operation,
        workload: &Workload,
        throughput: Throughput,
        raw_mb: f64,
        cpu: report::Cpu,
    ) {
        let (size, partitions) = (workload.size, workload.partitions);
        let found = self.measurements.iter_mut().find(|m| m.is(operation, size, partitions));
        let round = report::Round { throughput, raw_mb, cpu };
        match found {
            Some(measurement) => measurement.rounds.push(round),
            None => self.measurements.push(Measurement::new(operation, size, partitions, round)),
        }
    }

    /// A raw measurement, in MB/s.
    fn raw(&mut self, mode: Mode, bytes: u64) -> Result<f64, Failure> {
        let what = || format!("cannot measure {}", mode.name());
        sync_file_system(&self.directory).with_context(what)?;
        let elapsed = self.raw.measure(mode, bytes).with_context(what)?;
        if mode != Mode::Discard {
            sync_file_system(&self.directory).with_context(what)?;
        }
        let mb = bytes as f64 / 1e6 / elapsed.as_secs_f64();
        self.raw_figures.entry(mode).or_default().rounds.push(mb);
        Ok(mb)
    }
}

fn workload(bytes: u64, size: u64, partitions: u32, flush_policy: FlushPolicy) -> Workload {
    Workload { records: bytes / size, size, partitions, flush_policy, seed: 1 }
}
