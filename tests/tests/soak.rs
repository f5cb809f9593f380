//! What is gone leaves nothing behind: topics, groups, members, producers, connections, streams and cursors come and
//! go, and the node ends where it began. The short form counts; the long one also weighs.
//!
//! `cargo test --release -p troupe-tests --test soak -- --include-ignored --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord,
};
use troupe_proto::log::v1::{FetchPosition, FetchStreamRequest, WatchMetadataRequest};
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    PullRequest, StartPosition, SubscribeRequest, SubscriptionOptions, TailRequest,
};
use troupe_tests::{PATIENCE, Process, Sample, Serve, Server, eventually_or_why, http_get};
use troupe_tests::{batch_of, partition_of};

const MIB: f64 = (1 << 20) as f64;
/// Where in the data directory the metadata log is.
const METADATA: &str = "metadata";
const WARM_SNAPSHOTS: u32 = 3;

/// Everything that a round makes is deleted at once; one partition remembers the groups.
fn settings() -> Serve {
    let settings = ["offsets.topic.num.partitions=1", "broker.session.timeout.ms=5000"];
    Serve { settings: settings.map(str::to_owned).to_vec(), ..Serve::default() }
}

/// One of each thing that comes and goes, and all of it gone.
async fn round(address: &str, number: usize) {
    // A connection of its own.
    let server = Server::at(address).await;
    let topic = format!("churn-{number}");
    let configs = [("file.delete.delay.ms", "0"), ("segment.bytes", "65536")];
    server.create_topic(&topic, 3, &configs).await;
    let client = Client::connect(ClientConfig::new([address])).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    for value in 0..10 {
        let record = ProducerRecord {
            value: Some(format!("{value}").into()),
            ..ProducerRecord::new(&*topic)
        };
        producer.send(record).await.unwrap().await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();

    let group = format!("group-{number}");
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new(&*group)
    };
    let mut consumer = client.consumer(config).unwrap();
    consumer.subscribe([&topic]).unwrap();
    let mut read = 0;
    while read < 10 {
        read += consumer.poll(PATIENCE).await.unwrap().len();
    }
    consumer.commit_sync().await.unwrap();
    consumer.close(PATIENCE).await.unwrap();

    thin(&server, &topic, number).await;
    for group in [group, format!("thin-{number}"), format!("pull-{number}")] {
        // A member whose stream was dropped may not have been missed yet.
        eventually_or_why("the group is deleted", async || {
            match client.admin().delete_group(&group).await {
                Err(error) if error.to_string().contains("GROUP_NOT_FOUND") => Ok(()),
                deleted => deleted.map_err(|error| error.to_string()),
            }
        })
        .await;
    }
    server.delete_topic(&topic).await;
}

/// Streams of the thin level and of the full one, dropped where they stand.
async fn thin(server: &Server, topic: &str, number: usize) {
    let options = |group: String| SubscriptionOptions {
        group,
        topics: vec![topic.to_owned()],
        start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
        reconnect_grace: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..Default::default()
    };
    let start =
        SubscribeRequest { start: Some(options(format!("thin-{number}"))), ..Default::default() };
    let (requests, sent) = tokio::sync::mpsc::channel(1);
    requests.send(start).await.unwrap();
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let mut deliveries = server.bus().subscribe(sent).await.unwrap().into_inner();
    deliveries.message().await.unwrap().unwrap();
    let pull = PullRequest {
        options: Some(options(format!("pull-{number}"))),
        max_records: 1,
        ..Default::default()
    };
    server.bus().pull(pull).await.unwrap();
    let tail = TailRequest { topic: topic.to_owned(), ..Default::default() };
    let tail = server.bus().tail(tail).await.unwrap().into_inner();
    let watch = WatchMetadataRequest { topics: vec![topic.to_owned()] };
    let mut watch = server.metadata().watch_metadata(watch).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let position = FetchPosition { partition: Some(partition_of(topic, 0)), ..Default::default() };
    let request = FetchStreamRequest {
        positions: vec![position],
        credit_bytes: 1 << 20,
        ..Default::default()
    };
    let fetch = tokio_stream::once(request);
    let fetch = server.log().fetch_stream(fetch).await.unwrap().into_inner();
    server.produce(topic, 0, batch_of(&[Sample::of("x", 1)]), Default::default()).await;
    drop((deliveries, requests, tail, watch, fetch));
}

/// What the node counts of itself, by name: series, entries of tables, descriptors, threads; and the directories that
/// it keeps.
async fn counts(node: &Process, directory: &Path) -> BTreeMap<String, u64> {
    let metrics = http_get(node.http(), "/metrics").await.1;
    let mut counts = BTreeMap::new();
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    counts.insert("series".to_owned(), series as u64);
    for line in metrics.lines() {
        let (name, value) = line.rsplit_once(' ').unwrap_or_default();
        let counted = name.starts_with("troupe_entries{")
            || ["process_open_fds", "process_threads"].contains(&name);
        if counted {
            counts.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    let directories = std::fs::read_dir(directory).unwrap().count();
    counts.insert("directories".to_owned(), directories as u64);
    counts
}

/// Until the node counts no more of anything than it did; what goes by itself, as idle threads do, has gone by then.
async fn counts_as_little_as(
    before: &BTreeMap<String, u64>,
    node: &Process,
    directory: &Path,
) -> BTreeMap<String, u64> {
    eventually_or_why("the node counts as little as before", async || {
        let now = counts(node, directory).await;
        let more: Vec<_> = now
            .iter()
            .filter(|(name, count)| before.get(*name).is_none_or(|before| *count > before))
            .map(|(name, count)| format!("{name}: {count}, was {:?}", before.get(name)))
            .collect();
        if more.is_empty() { Ok(now) } else { Err(more.join("; ")) }
    })
    .await
}

/// 45 rounds more, and the same counts; a single entry that stays behind in each would be 45.
#[tokio::test]
async fn what_is_gone_leaves_nothing_behind() {
    let (directory, node) = Process::start_new(&settings());
    for number in 0..5 {
        round(node.server(), number).await;
    }
    let before = counts(&node, directory.path()).await;
    assert!(before.keys().filter(|name| name.starts_with("troupe_entries")).count() >= 6);
    for number in 5..50 {
        round(node.server(), number).await;
    }
    counts_as_little_as(&before, &node, directory.path()).await;
    let metrics = http_get(node.http(), "/metrics").await.1;
    assert!(!metrics.contains("churn-"), "{metrics}");
}

fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size_of(&entry.path()),
        Ok(_) => entry.metadata().map_or(0, |found| found.len()),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// What a node weighs, in bytes.
#[derive(Clone, Copy, Default)]
struct Weight {
    /// Resident, in all; of that its own, and pages of files that are mapped.
    memory: u64,
    anonymous: u64,
    mapped: u64,
    /// The log of the metadata.
    metadata: u64,
    /// The log of the groups, of which nothing is removed before a segment of it is full.
    groups: u64,
    /// All that is on disk.
    disk: u64,
}

impl Weight {
    fn of(node: &Process, directory: &Path) -> Weight {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            kib.unwrap_or_default() << 10
        };
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        let of_groups = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("__consumer_offsets"));
        Weight {
            memory: node.memory(),
            anonymous: field("RssAnon:"),
            mapped: field("RssFile:"),
            metadata: size_of(&directory.join(METADATA)),
            groups: of_groups.map(|entry| size_of(&entry.path())).sum(),
            disk: size_of(directory),
        }
    }

    fn grown(self, before: Weight) -> String {
        let parts = [
            ("resident", self.memory, before.memory),
            ("anonymous", self.anonymous, before.anonymous),
            ("mapped", self.mapped, before.mapped),
            ("metadata log", self.metadata, before.metadata),
            ("log of groups", self.groups, before.groups),
            ("on disk", self.disk, before.disk),
        ];
        let line = |(name, now, before): (&str, u64, u64)| {
            format!(
                "{name} {:+.2} MiB ({:.2})",
                (now as f64 - before as f64) / MIB,
                now as f64 / MIB
            )
        };
        parts.map(line).join(", ")
    }
}

/// Counts the snapshots of the metadata log, as they are looked at.
struct Snapshots {
    path: std::path::PathBuf,
    newest: Option<std::time::SystemTime>,
    count: u32,
}

impl Snapshots {
    fn of(directory: &Path) -> Snapshots {
        let path = directory.join(METADATA).join("metadata.snapshot");
        Snapshots { path, newest: None, count: 0 }
    }

    fn look(&mut self) -> u32 {
        let newest = std::fs::metadata(&self.path).and_then(|found| found.modified()).ok();
        if newest != self.newest {
            self.newest = newest;
            self.count += 1;
        }
        self.count
    }
}

/// Twenty minutes of it; what is left is printed. It is warm after a fifth of that, and when the metadata log has been
/// replaced by a snapshot a few times: only then has it, and what is kept of it in memory, come to its full size.
#[tokio::test]
#[ignore = "twenty minutes, with figures; a short form of it is run always"]
async fn a_soak_ends_where_it_began() {
    let (directory, node) = Process::start_new(&settings());
    let began = Instant::now();
    let minutes = std::env::var("TROUPE_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
    let limit = Duration::from_secs(60 * minutes.unwrap_or(20));
    let mut snapshots = Snapshots::of(directory.path());
    let mut number = 0;
    let mut first = None;
    while began.elapsed() < limit {
        round(node.server(), number).await;
        number += 1;
        let warm = snapshots.look() >= WARM_SNAPSHOTS && began.elapsed() > limit / 5;
        if first.is_none() && warm {
            let counted = counts(&node, directory.path()).await;
            first = Some((number, counted, Weight::of(&node, directory.path())));
        }
        if number % 50 == 0 {
            let weight = Weight::of(&node, directory.path());
            println!("{number} rounds, {} snapshots: {}", snapshots.count, weight.grown(weight));
        }
    }
    let (rounds, before, weight) = first.expect("the node comes to be warm");
    let counted = counts_as_little_as(&before, &node, directory.path()).await;
    let now = Weight::of(&node, directory.path());
    println!(
        "{} rounds after {rounds}, {} snapshots: {}; {before:?} before and {counted:?} after",
        number - rounds,
        snapshots.look(),
        now.grown(weight),
    );
    let more = |now: u64, before: u64| (now as f64 - before as f64) / MIB;
    assert!(more(now.metadata, weight.metadata) < 1.0, "the metadata log grows");
    if !cfg!(debug_assertions) {
        assert!(more(now.memory, weight.memory) < 1.0, "memory grows");
    }
}
