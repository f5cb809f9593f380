//! A producer that sends to a topic of its own at a steady rate, and how long each record takes.

use super::flags::BenchClean;
use crate::commands::bench::collector::Collector;
use crate::commands::bench::load;
use crate::failure::{Context, Failure};
use crate::latency::Latencies;
use std::time::{Duration, Instant};
use troupe_client::{Client, ProducerConfig, Record};

/// What one window of it is.
pub struct Window {
    pub latencies: Latencies,
    pub took: Duration,
}

/// Sends at the rate until it is over, with acks=all; each record goes when it comes. Sleeps, so not on one of the
/// runtime's threads.
pub async fn produce(
    client: &Client,
    bench: &BenchClean,
    topic: &str,
    mut is_over: impl FnMut() -> bool,
) -> Result<Window, Failure> {
    let what = || format!("cannot produce to {topic}");
    let config = ProducerConfig { linger: Duration::ZERO, ..ProducerConfig::default() };
    let producer = client.producer(config).await.with_context(what)?;
    let handle = producer.topic(topic).await.with_context(what)?;
    let (collector, started) = (Collector::start(), Instant::now());
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
    let took = started.elapsed();
    producer.flush().await.with_context(what)?;
    Ok(Window { latencies: collector.finish().await?, took })
}
