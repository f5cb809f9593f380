//! The loop that is timed: values from a pool into a topic, flat out or at a rate.

use super::collector::Collector;
use super::payload::Payload;
use super::throughput::Throughput;
use super::workload::Workload;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::latency::Latencies;
use crate::producer::send;
use crate::quantity::{grouped, show_rate, show_size};
use crate::timestamp;
use indicatif::ProgressBar;
use std::time::{Duration, Instant};
use troupe_client::{Acks, Client, ProducerConfig, Record};

/// Latencies are sampled, so that taking them does not become what is measured.
const SAMPLES: u64 = 100_000;
/// Records between two looks at the clock.
const CLOCK_INTERVAL: u64 = 256;
/// A shorter pause is not worth a system call; the records of it go out together.
const SHORTEST_SLEEP: Duration = Duration::from_micros(200);
/// Everything is answered before the producer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a run of the loop came to.
pub struct Outcome {
    pub throughput: Throughput,
    pub latencies: Latencies,
    pub batches: u64,
    pub retries: u64,
}

/// Sends the workload's records and waits until every one is answered.
///
/// To be run on a thread that is not one of the runtime's: at a rate, it sleeps.
pub async fn run(
    client: &Client,
    topic: &str,
    workload: &Workload,
    config: ProducerConfig,
    rate: Option<f64>,
    bar: Option<&ProgressBar>,
) -> Result<Outcome, Failure> {
    let what = || format!("cannot produce to {topic}");
    let size = usize::try_from(workload.size).map_err(Failure::usage)?;
    let payload = Payload::new(size, workload.seed);
    let acks_none = config.acks == Acks::None;
    let producer = client.producer(config).await.with_context(what)?;
    let handle = producer.topic(topic).await.with_context(what)?;
    let collector = Collector::start();
    let sample_every = (workload.records / SAMPLES).max(1);

    let started = Instant::now();
    let mut now_ms = timestamp::now_ms();
    for number in 0..workload.records {
        let due = rate.map(|rate| started + Duration::from_secs_f64(number as f64 / rate));
        if let Some(due) = due {
            sleep_until(due);
        }
        if number.is_multiple_of(CLOCK_INTERVAL) || rate.is_some() {
            now_ms = timestamp::now_ms();
        }
        if number.is_multiple_of(CLOCK_INTERVAL << 8) {
            if producer.metrics().records_failed > 0 {
                break;
            }
            if let Some(bar) = bar {
                let rate = number as f64 / started.elapsed().as_secs_f64();
                bar.set_message(format!("{} sent, {} records/s", grouped(number), show_rate(rate)));
                bar.tick();
            }
        }
        let value = Some(payload.value(number));
        let record = Record { value, timestamp_ms: Some(now_ms), ..Record::default() };
        if number.is_multiple_of(sample_every) {
            // At a rate, from when it was due: a record that a full buffer holds back has waited too.
            let now = Instant::now();
            let sent = due.map_or(now, |due| due.min(now));
            collector.watch(sent, send(&handle, record).await.with_context(what)?);
        } else {
            drop(send(&handle, record).await.with_context(what)?);
        }
    }
    producer.flush().await.with_context(what)?;
    if acks_none {
        // Nothing is answered, so what counts is that everything left this machine.
        producer.close(CLOSE_TIMEOUT).await.with_context(what)?;
    }
    let elapsed = started.elapsed();
    let latencies = collector.finish().await?;
    let metrics = producer.metrics();
    if metrics.records_failed > 0 {
        let cause = format!("{} records were not delivered", grouped(metrics.records_failed));
        return Err(Failure::new(Exit::Failed, what(), cause));
    }
    producer.close(CLOSE_TIMEOUT).await.with_context(what)?;
    let (records, bytes) = (workload.records, workload.records * workload.size);
    Ok(Outcome {
        throughput: Throughput { records, bytes, elapsed },
        latencies,
        batches: metrics.batches_sent,
        retries: metrics.retries,
    })
}

/// Sleeps until a moment, if it is worth it.
pub fn sleep_until(due: Instant) {
    let early = due.saturating_duration_since(Instant::now());
    if early >= SHORTEST_SLEEP {
        std::thread::sleep(early);
    }
}

/// A spinner, for a person.
pub fn spinner(global: &Global) -> Option<ProgressBar> {
    global.progress().then(ProgressBar::new_spinner)
}

/// The producer's settings as they are told with a figure.
pub fn describe(config: &ProducerConfig) -> serde_json::Value {
    serde_json::json!({
        "acks": config.acks.to_string(),
        "compression": config.compression.name(),
        "batchSize": config.batch_size,
        "lingerMs": config.linger.as_secs_f64() * 1e3,
        "bufferMemory": config.buffer_memory,
        "maxInFlight": config.max_in_flight,
        "idempotent": config.enable_idempotence.unwrap_or(
            config.acks == Acks::All && config.max_in_flight <= 5
        ),
    })
}

/// The same for a person.
pub fn show(config: &ProducerConfig) -> String {
    format!(
        "acks={} compression={} batch={} linger={}ms buffer={} in-flight={}",
        config.acks,
        config.compression.name(),
        show_size(config.batch_size as u64),
        config.linger.as_secs_f64() * 1e3,
        show_size(config.buffer_memory as u64),
        config.max_in_flight
    )
}
