//! The other loop that is timed: everything in a topic, with every checksum verified.

use super::throughput::Throughput;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use std::time::Instant;
use troupe_client::{Client, IsolationLevel, ReaderConfig};

/// Reads everything that is there when the clock starts; opening the streams is part of the time.
pub async fn run(
    client: &Client,
    topic: &str,
    expected: Option<u64>,
) -> Result<Throughput, Failure> {
    run_as(client, topic, expected, IsolationLevel::ReadUncommitted).await
}

/// The same with an isolation level.
pub async fn run_as(
    client: &Client,
    topic: &str,
    expected: Option<u64>,
    isolation_level: IsolationLevel,
) -> Result<Throughput, Failure> {
    let what = || format!("cannot consume {topic}");
    let started = Instant::now();
    let config = ReaderConfig { until_end: true, isolation_level, ..ReaderConfig::default() };
    let mut reader = client.reader(topic, config).await.with_context(what)?;
    let (mut records, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().await {
        for record in batch.with_context(what)?.iter() {
            let record = record.with_context(what)?;
            records += 1;
            bytes += std::hint::black_box(record.value).map_or(0, <[u8]>::len) as u64;
        }
    }
    let elapsed = started.elapsed();
    if let Some(expected) = expected.filter(|expected| *expected != records) {
        let cause = format!("{records} records were read where {expected} were expected");
        return Err(Failure::new(Exit::Failed, what(), cause));
    }
    Ok(Throughput { records, bytes, elapsed })
}
