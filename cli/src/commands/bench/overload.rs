//! `troupe bench overload`: more than three nodes can carry, and what a small producer feels of it.
//!
//! The nodes are `troupe dev --nodes 3`, one process; the greedy producers are processes of their own that send as
//! fast as they can; the small one is this process, at a steady rate, to a topic of its own.

use super::load;
use super::temporary::directory;
use super::workload::{FlushPolicy, Workload};
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::quantity::{parse_count, parse_duration, parse_size, rounded};
use clap::Args;
use serde_json::json;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientConfig, OffsetSpec, ProducerConfig};
use troupe_proto::admin::v1::CreateTopicRequest;

const GREEDY: &str = "overload-greedy";
const SMALL: &str = "overload-small";
/// More than any of them sends in the time.
const WITHOUT_END: &str = "1000000000";
/// What a node says that fences another, and that was not running itself.
const FENCES: &str = "is not heard any more; fencing it";
const STOOD_STILL: &str = "did not run for a while";

#[derive(Debug, Args)]
pub struct BenchOverload {
    /// Producers that send as fast as they can
    #[arg(long, default_value_t = 8)]
    greedy: usize,
    /// Bytes in each of their records
    #[arg(long, default_value = "1KiB", value_parser = parse_size)]
    greedy_size: u64,
    /// Partitions that they send to, each on three nodes
    #[arg(short, long, default_value_t = 6)]
    partitions: i32,
    /// Records per second of the small producer
    #[arg(long, default_value = "50", value_parser = parse_count)]
    rate: u64,
    /// Bytes in each of its records
    #[arg(long, default_value = "100", value_parser = parse_size)]
    size: u64,
    /// How long it is measured
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// How long the greedy ones send before that
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    warmup: Duration,
    /// The program whose nodes are measured [default: this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Where the nodes of this run keep their files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A key and its value for the nodes, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A process that ends with this.
struct ChildGuard(Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The nodes, and what they say on standard error.
struct Nodes {
    process: ChildGuard,
    servers: String,
    said: JoinHandle<LogCounts>,
}

#[derive(Default)]
struct LogCounts {
    fencings: usize,
    pauses: usize,
}

impl Nodes {
    fn start(bench: &BenchOverload, binary: &Path, dir: &Path) -> io::Result<Nodes> {
        let mut command = Command::new(binary);
        command.args([
            "dev",
            "--nodes",
            "3",
            "--listen",
            "127.0.0.1:0",
            "-o",
            "json",
            "--data-dir",
        ]);
        command.arg(dir);
        for setting in &bench.set {
            command.args(["--set", setting]);
        }
        command.env("TROUPE_LOG", "warn,openraft=error");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = ChildGuard(command.spawn()?);
        let no_pipe = || io::Error::other("no pipe");
        let stdout = process.0.stdout.take().ok_or_else(no_pipe)?;
        let stderr = process.0.stderr.take().ok_or_else(no_pipe)?;
        let said = std::thread::spawn(move || listen(stderr));
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let ready: serde_json::Value =
            serde_json::from_str(&line).map_err(|_| io::Error::other("the nodes did not start"))?;
        // Whoever writes there finds somebody who reads.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        let servers = ready["grpc"].as_str().unwrap_or_default().to_owned();
        Ok(Nodes { process, servers, said })
    }

    fn end(self) -> LogCounts {
        drop(self.process);
        self.said.join().unwrap_or_default()
    }
}

fn listen(stderr: ChildStderr) -> LogCounts {
    let mut said = LogCounts::default();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        said.fencings += usize::from(line.contains(FENCES));
        said.pauses += usize::from(line.contains(STOOD_STILL));
    }
    said
}

/// How a topic stands at a moment.
struct Snapshot {
    at: Instant,
    records: u64,
    epochs: u64,
}

impl Snapshot {
    async fn of(servers: &str, topic: &str) -> Result<Snapshot, Failure> {
        let what = || format!("cannot see how {topic} stands");
        // What a client knows may be old.
        let client = connect(servers).await?;
        let partitions = client.topic(topic).await.with_context(what)?.partitions.clone();
        let ends: Vec<_> = partitions.iter().map(|p| (p.partition, OffsetSpec::Latest)).collect();
        let listed = client.list_offsets(topic, &ends).await.with_context(what)?;
        Ok(Snapshot {
            at: Instant::now(),
            records: listed.iter().filter_map(|end| end.offset).map(|offset| offset.0).sum(),
            epochs: partitions.iter().map(|p| u64::from(p.leader_epoch.0)).sum(),
        })
    }
}

async fn connect(servers: &str) -> Result<Client, Failure> {
    let config = ClientConfig::new(servers.split(',').map(str::to_owned));
    Client::connect(config).await.with_context(|| "cannot reach the nodes".to_owned())
}

pub async fn run(global: &Global, bench: BenchOverload) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("it starts nodes of its own: leave out --server"));
    }
    if bench.rate == 0 {
        return Err(Failure::usage("--rate 0 would never send anything"));
    }
    let made = directory(bench.dir.as_deref(), "overload")?;
    let this = std::env::current_exe().with_context(|| "cannot find this program".to_owned())?;
    let binary = bench.binary.as_deref().unwrap_or(&this);
    let nodes = Nodes::start(&bench, binary, made.path());
    let nodes =
        nodes.with_context(|| format!("cannot start three nodes of {}", binary.display()))?;
    let measured = tokio::select! {
        measured = measure(&nodes, &bench, &this) => measured?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::Interrupted, "", "interrupted"));
        }
    };
    let said = nodes.end();
    let Measured { latencies, moves, mb_per_second } = measured;
    let view = json!({
        "benchmark": "overload",
        "settings": {
            "greedy": bench.greedy,
            "greedySize": bench.greedy_size,
            "partitions": bench.partitions,
            "rate": bench.rate,
            "recordSize": bench.size,
            "seconds": bench.duration.as_secs_f64(),
            "binary": bench.binary,
            "set": bench.set,
            "producer": load::describe(&settings()),
        },
        "latencyMs": latencies.view(),
        "greedyMbPerSecond": rounded(mb_per_second),
        "fencings": said.fencings,
        "leaderMoves": moves,
        "pauses": said.pauses,
    });
    global.output().one(&view, || {
        format!(
            "overload {} greedy producers: {mb_per_second:.1} MB/s\nlatency  {}, of the small one\n\
             nodes    {} fencings, {moves} leader moves, {} times `{STOOD_STILL}`\n",
            bench.greedy,
            latencies.show(),
            said.fencings,
            said.pauses,
        )
    })
}

struct Measured {
    latencies: Latencies,
    moves: u64,
    mb_per_second: f64,
}

/// A record goes when it comes.
fn settings() -> ProducerConfig {
    ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() }
}

async fn measure(nodes: &Nodes, bench: &BenchOverload, this: &Path) -> Result<Measured, Failure> {
    let client = connect(&nodes.servers).await?;
    for (name, partitions) in [(GREEDY, bench.partitions), (SMALL, 3)] {
        let request = CreateTopicRequest {
            name: name.to_owned(),
            partitions: Some(partitions),
            ..CreateTopicRequest::default()
        };
        let created = client.admin().create_topic(request).await;
        created.with_context(|| format!("cannot create {name}"))?;
    }
    let mut greedy = Vec::new();
    for _ in 0..bench.greedy {
        let mut command = Command::new(this);
        command.args(["bench", "produce", GREEDY, "--records", WITHOUT_END, "--no-progress"]);
        command.args(["--size", &bench.greedy_size.to_string(), "--server", &nodes.servers]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn();
        greedy.push(ChildGuard(
            started.with_context(|| "cannot start a greedy producer".to_owned())?,
        ));
    }
    tokio::time::sleep(bench.warmup).await;
    let before = Snapshot::of(&nodes.servers, GREEDY).await?;
    let workload = Workload {
        records: (bench.rate as f64 * bench.duration.as_secs_f64()) as u64,
        size: bench.size,
        partitions: 3,
        flush_policy: FlushPolicy::Commit,
        seed: 1,
    };
    let rate = Some(bench.rate as f64);
    let outcome = load::run(&client, SMALL, &workload, settings(), rate, None).await?;
    let after = Snapshot::of(&nodes.servers, GREEDY).await?;
    drop(greedy);
    let bytes = (after.records - before.records) * bench.greedy_size;
    let seconds = (after.at - before.at).as_secs_f64();
    Ok(Measured {
        latencies: outcome.latencies,
        moves: after.epochs - before.epochs,
        mb_per_second: bytes as f64 / 1e6 / seconds,
    })
}
