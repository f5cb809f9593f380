//! `troupe bench clean`: how fast a log is compacted, and what a producer beside it feels of that.
//!
//! A node of its own, in another process, holds a log in which every key was written many times, and does not clean it
//! until it is told to. Meanwhile a producer sends to another topic of the same disk at a steady rate: first alone, then
//! beside the cleaning. What the disk itself can do is measured in the same directory: as many bytes are read and written
//! as the cleaning had to. At the end the whole log is read: each key has its last value, and no offset has changed.

mod copying;
mod keyed;
mod waiting;

use super::file_system::sync_file_system;
use super::load;
use super::server::Server;
use super::temporary::{configs, directory};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::quantity::{grouped, parse_count, parse_duration, parse_size, rounded, show_size};
use crate::signals::Stop;
use crate::streams::notice;
use clap::Args;
use keyed::Keyed;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use troupe_client::{Client, ClientConfig, ProducerConfig, Record};
use troupe_proto::admin::v1::{CreateTopicRequest, UpdateTopicRequest};
use waiting::Cleaned;

const COMPACTED: &str = "clean";
const BESIDE: &str = "beside";
/// Nothing is dirtier than this: the log waits.
const NEVER: &str = "1";
/// Whatever is dirty.
const AT_ONCE: &str = "0";

#[derive(Debug, Args)]
pub struct BenchClean {
    /// Keys
    #[arg(long, default_value = "1M", value_parser = parse_count)]
    keys: u64,
    /// How often each of them is written
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// Bytes in each value; 24 at least
    #[arg(long, default_value = "100", value_parser = parse_size)]
    size: u64,
    /// segment.bytes of the topic
    #[arg(long, default_value = "64MiB", value_parser = parse_size)]
    segment: u64,
    /// Records per second of the producer beside it
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    rate: u64,
    /// How long that one is measured alone
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    alone: Duration,
    /// Where the node of this run keeps its files, for as long as it takes
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A key and its value for the node, as for `troupe serve`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

struct Outcome {
    cleaned: Cleaned,
    /// The same bytes, read and written as they are.
    raw: Duration,
    alone: Latencies,
    beside: Latencies,
    left: keyed::Left,
}

pub async fn run(global: &Global, bench: BenchClean) -> Result<(), Failure> {
    if !global.server.is_empty() {
        return Err(Failure::usage("it starts a node of its own: leave out --server"));
    }
    if bench.keys == 0 || bench.times == 0 || bench.rate == 0 {
        return Err(Failure::usage("--keys, --times and --rate have to be more than 0"));
    }
    let keyed = Keyed::new(bench.keys, bench.times, bench.size)?;
    let what = || "cannot prepare the measurement".to_owned();
    // Before there is anything that a signal could leave behind.
    let mut stop = Stop::new()?;
    let made = directory(bench.dir.as_deref(), "clean")?;
    let mut settings: Vec<String> =
        ["listener=127.0.0.1:0", "http.listener=127.0.0.1:0", "log.cleaner.backoff.ms=100"]
            .map(str::to_owned)
            .into();
    settings.extend(bench.set.iter().cloned());
    let server = Server::start_with(&made.path().join("node"), &settings, "warn");
    let server = server.with_context(what)?;
    let client = Client::connect(ClientConfig::new([server.address.clone()])).await;
    let client = client.with_context(what)?;
    let outcome = match stop.or(measure(global, &bench, &keyed, &client, made.path())).await {
        Ok(outcome) => outcome?,
        Err(signal) => return Err(Failure::interrupted(signal)),
    };
    report(global, &bench, &outcome)
}

async fn measure(
    global: &Global,
    bench: &BenchClean,
    keyed: &Keyed,
    client: &Client,
    dir: &Path,
) -> Result<Outcome, Failure> {
    let told = |what: &str| {
        if global.progress() {
            notice!("{what}");
        }
    };
    let segment = bench.segment.to_string();
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", segment.as_str()),
        ("min.cleanable.dirty.ratio", NEVER),
        ("file.delete.delay.ms", "0"),
    ];
    create(client, COMPACTED, &compacted).await?;
    create(client, BESIDE, &[]).await?;
    told("writing every key so many times");
    keyed.write(client, COMPACTED).await?;
    sync_file_system(dir).with_context(|| "cannot sync the disk".to_owned())?;
    told("a producer alone");
    let end = Instant::now() + bench.alone;
    let alone = produce(client, bench, || Instant::now() >= end).await?;
    told("the same producer, beside the cleaning");
    let waiting = tokio::spawn(waiting::until_cleaned(client.clone(), COMPACTED));
    set_ratio(client, AT_ONCE).await?;
    let beside = produce(client, bench, || waiting.is_finished()).await?;
    let cleaned = waiting.await.map_err(|panic| Failure::usage(panic.to_string()))??;
    told("the disk alone");
    sync_file_system(dir).with_context(|| "cannot sync the disk".to_owned())?;
    let raw = copying::measure(dir, cleaned.bytes_before, cleaned.bytes_after);
    let raw = raw.with_context(|| "cannot measure the disk".to_owned())?;
    told("reading what is left");
    let left = keyed.check(client, COMPACTED).await?;
    Ok(Outcome { cleaned, raw, alone, beside, left })
}

async fn create(client: &Client, name: &str, settings: &[(&str, &str)]) -> Result<(), Failure> {
    let request = CreateTopicRequest {
        name: name.to_owned(),
        partitions: Some(1),
        configs: configs(settings),
        ..CreateTopicRequest::default()
    };
    let created = client.admin().create_topic(request).await;
    created.map(drop).with_context(|| format!("cannot create topic {name}"))
}

async fn set_ratio(client: &Client, ratio: &str) -> Result<(), Failure> {
    let request = UpdateTopicRequest {
        name: COMPACTED.to_owned(),
        set_configs: configs(&[("min.cleanable.dirty.ratio", ratio)]),
        ..UpdateTopicRequest::default()
    };
    let updated = client.admin().update_topic(request).await;
    updated.map(drop).with_context(|| "cannot let the log be cleaned".to_owned())
}

/// Sends at the rate until it is over; each record goes when it comes. Sleeps, so not on one of the runtime's threads.
async fn produce(
    client: &Client,
    bench: &BenchClean,
    is_over: impl Fn() -> bool,
) -> Result<Latencies, Failure> {
    let what = || format!("cannot produce to {BESIDE}");
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).await.with_context(what)?;
    let handle = producer.topic(BESIDE).await.with_context(what)?;
    let (collector, started) = (super::collector::Collector::start(), Instant::now());
    let value = vec![b'v'; usize::try_from(bench.size).unwrap_or(0)];
    let mut number = 0.0;
    while !is_over() {
        let due = started + Duration::from_secs_f64(number / bench.rate as f64);
        load::sleep_until(due);
        let record = Record { value: Some(&value), ..Record::default() };
        // From when it was due: a record that a full buffer holds back has waited too.
        let sent = due.min(Instant::now());
        collector.watch(sent, crate::producer::send(&handle, record).await.with_context(what)?);
        number += 1.0;
    }
    producer.flush().await.with_context(what)?;
    collector.finish().await
}

fn report(global: &Global, bench: &BenchClean, outcome: &Outcome) -> Result<(), Failure> {
    let Outcome { cleaned, raw, alone, beside, left } = outcome;
    let bytes = cleaned.bytes_before + cleaned.bytes_after;
    let mb_per_second = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64().max(1e-9);
    let (rate, raw_rate) = (mb_per_second(cleaned.took), mb_per_second(*raw));
    let p99 = beside.ms(0.99) / alone.ms(0.99);
    let view = json!({
        "benchmark": "clean",
        "settings": {
            "keys": bench.keys,
            "times": bench.times,
            "recordSize": bench.size,
            "segmentBytes": bench.segment,
            "rate": bench.rate,
            "set": bench.set,
        },
        "passes": cleaned.passes,
        "seconds": rounded(cleaned.took.as_secs_f64()),
        "bytesBefore": cleaned.bytes_before,
        "bytesAfter": cleaned.bytes_after,
        "mbPerSecond": rounded(rate),
        "rawMbPerSecond": rounded(raw_rate),
        "ratio": rounded(rate / raw_rate),
        "produceAloneMs": alone.view(),
        "produceBesideMs": beside.view(),
        "p99Ratio": rounded(p99),
        "recordsLeft": left.records,
    });
    global.output().one(&view, || {
        format!(
            "cleaned  {} -> {} in {:.2} s, {} passes: {rate:.1} MB/s read and written\n\
             disk     {raw_rate:.1} MB/s, the same bytes as they are: {:.2} of it\n\
             produce  {}, alone\n         {}, beside the cleaning: p99 {p99:.2} times\n\
             left     {} records: the last value of each of {} keys, every offset as it was\n",
            show_size(cleaned.bytes_before),
            show_size(cleaned.bytes_after),
            cleaned.took.as_secs_f64(),
            cleaned.passes,
            rate / raw_rate,
            alone.show(),
            beside.show(),
            grouped(left.records),
            grouped(bench.keys),
        )
    })
}
