//! `troupe bench e2e`: from the call of send to the receipt by a reader, in one process, so that one clock
//! measures both ends. The moment of sending stands in the value.

use super::load;
use super::payload::Payload;
use super::temporary::with_topic;
use super::workload::FlushPolicy;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::producer::{Settings, send};
use crate::quantity::{grouped, parse_count, parse_duration, parse_size, show_duration};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use troupe_client::{
    Client, ClientError, OffsetSpec, ProducerConfig, Reader, ReaderConfig, Record, Start,
};

/// In front of each value: a number that is this run's, and nanoseconds since its start.
const STAMP_BYTES: usize = 16;
/// How long after the last send records are waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub struct BenchE2e {
    /// A topic that is there [default: one is made and deleted again]
    topic: Option<String>,
    /// Records per second
    #[arg(long, default_value = "1000", value_parser = parse_count)]
    rate: u64,
    /// How long it is measured
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// How long records are sent before that
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
    /// Bytes in each value
    #[arg(long, default_value = "100", value_parser = parse_size)]
    size: u64,
    /// Partitions of the topic that is made
    #[arg(short, long, default_value_t = 1)]
    partitions: u32,
    /// flush.policy of the topic that is made
    #[arg(long, value_enum, default_value_t = FlushPolicy::Commit)]
    flush_policy: FlushPolicy,
    /// As for `troupe produce`, but the linger is 0 unless it is given
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(global: &Global, bench: BenchE2e) -> Result<(), Failure> {
    if bench.rate == 0 {
        return Err(Failure::usage("--rate 0 would never send anything"));
    }
    let client = global.connect().await?;
    match &bench.topic {
        Some(topic) => measure(global, &client, topic, &bench).await,
        None => {
            with_topic(&client, bench.partitions, bench.flush_policy, async |topic: &str| {
                measure(global, &client, topic, &bench).await
            })
            .await
        }
    }
}

async fn measure(
    global: &Global,
    client: &Client,
    topic: &str,
    bench: &BenchE2e,
) -> Result<(), Failure> {
    let what = || format!("cannot measure through {topic}");
    let mut config = bench.settings.config();
    config.linger = bench.settings.linger.unwrap_or(Duration::ZERO);
    let sender = Sender {
        run: rand::random(),
        base: Instant::now(),
        warmup: (bench.rate as f64 * bench.warmup.as_secs_f64()) as u64,
        count: (bench.rate as f64 * (bench.warmup + bench.duration).as_secs_f64()) as u64,
        rate: bench.rate as f64,
        payload: Payload::new(usize::try_from(bench.size).unwrap_or(0).max(STAMP_BYTES), 1),
    };
    let reader = open_at_end(client, topic).await.with_context(what)?;
    let receiver = sender.receive(reader);
    let late = sender.send(client, topic, config.clone()).await.with_context(what)?;
    let received = match tokio::time::timeout(TIMEOUT, receiver).await {
        Ok(Ok(received)) => received.with_context(what)?,
        Ok(Err(panic)) => return Err(Failure::new(Exit::Failed, what(), panic)),
        Err(_) => {
            let waited = show_duration(TIMEOUT);
            let cause = format!("not every record arrived within {waited} after the last was sent");
            return Err(Failure::new(Exit::Failed, what(), cause));
        }
    };
    let made = bench.topic.is_none();
    let view = json!({
        "benchmark": "e2e",
        "settings": {
            "topic": bench.topic,
            "partitions": made.then_some(bench.partitions),
            "flushPolicy": made.then_some(bench.flush_policy.name()),
            "recordSize": bench.size,
            "rate": bench.rate,
            "seconds": bench.duration.as_secs_f64(),
            "producer": load::describe(&config),
        },
        "latencyMs": received.view(),
        "behindScheduleMs": late.view(),
    });
    global.output().one(&view, || {
        format!(
            "e2e      {} records at {} records/s\nlatency  {}\nlateness {}, of sending\n\
             settings partitions={} flush.policy={} size={} {}\n",
            grouped(sender.count - sender.warmup),
            bench.rate,
            received.show(),
            late.show(),
            bench.partitions,
            bench.flush_policy.name(),
            bench.size,
            load::show(&config)
        )
    })
}

async fn open_at_end(client: &Client, topic: &str) -> Result<Reader, ClientError> {
    let metadata = client.topic(topic).await?;
    let queries: Vec<_> =
        metadata.partitions.iter().map(|p| (p.partition, OffsetSpec::Latest)).collect();
    let listed = client.list_offsets(topic, &queries).await?;
    let starts: BTreeMap<_, _> =
        listed.iter().map(|l| (l.partition, l.offset.unwrap_or_default())).collect();
    client
        .reader(topic, ReaderConfig { start: Start::Each(starts), ..ReaderConfig::default() })
        .await
}

struct Sender {
    run: u64,
    base: Instant,
    /// How many are sent before it counts.
    warmup: u64,
    /// How many are sent in all.
    count: u64,
    rate: f64,
    payload: Payload,
}

impl Sender {
    /// Sends on this thread, to a schedule; gives how far behind it each record was.
    async fn send(
        &self,
        client: &Client,
        topic: &str,
        config: ProducerConfig,
    ) -> Result<Latencies, ClientError> {
        let producer = client.producer(config).await?;
        let handle = producer.topic(topic).await?;
        let mut late = Latencies::default();
        let mut value = Vec::new();
        let started = Instant::now();
        for number in 0..self.count {
            let due = started + Duration::from_secs_f64(number as f64 / self.rate);
            load::sleep_until(due);
            if number >= self.warmup {
                late.record(Instant::now().saturating_duration_since(due));
            }
            value.clear();
            value.extend_from_slice(self.payload.value(number));
            value[..8].copy_from_slice(&self.run.to_le_bytes());
            let nanos = u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
            value[8..STAMP_BYTES].copy_from_slice(&nanos.to_le_bytes());
            // The receiver sees whether it arrived; a delivery that fails shows as a missing record.
            drop(send(&handle, Record::value(&value)).await?);
        }
        producer.flush().await?;
        Ok(late)
    }

    /// Until every record of this run has arrived.
    fn receive(&self, mut reader: Reader) -> JoinHandle<Result<Latencies, ClientError>> {
        let (run, base, warmup, count) = (self.run, self.base, self.warmup, self.count);
        tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let mut seen = 0;
            while seen < count {
                let Some(batch) = reader.next_batch().await else { break };
                let batch = batch?;
                let now = base.elapsed();
                for record in batch.iter() {
                    let Some(sent) = stamp(record?.value, run) else { continue };
                    seen += 1;
                    if seen > warmup {
                        latencies.record(now.saturating_sub(sent));
                    }
                }
            }
            Ok(latencies)
        })
    }
}

/// When a record of this run was sent.
fn stamp(value: Option<&[u8]>, run: u64) -> Option<Duration> {
    let (stamp, _) = value?.split_first_chunk::<STAMP_BYTES>()?;
    let (own, nanos) = stamp.split_at(8);
    if own != run.to_le_bytes() {
        return None;
    }
    Some(Duration::from_nanos(u64::from_le_bytes(nanos.try_into().ok()?)))
}
