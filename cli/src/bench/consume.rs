//! `troupe bench consume` (A24): every record is walked and its checksum verified, as by any consumer.

use super::scratch::with_topic;
use super::{Throughput, Workload, load};
use crate::failure::{During, Exit, Failure};
use crate::global::Global;
use crate::produce::Settings;
use clap::Args;
use serde_json::json;
use std::time::Instant;
use troupe_client::{Client, OffsetSpec, ReaderConfig};

#[derive(Debug, Args)]
pub struct BenchConsume {
    /// Read what is in this topic [default: one is made, filled, read and deleted again]
    topic: Option<String>,
    #[command(flatten)]
    workload: Workload,
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(global: &Global, bench: BenchConsume) -> Result<(), Failure> {
    let client = global.connect().await?;
    if let Some(topic) = &bench.topic {
        let expected = count(&client, topic).await?;
        let throughput = measure(&client, topic, expected).await?;
        return report(global, &bench, &throughput);
    }
    let workload = &bench.workload;
    let (partitions, policy) = (workload.partitions, workload.flush_policy);
    let throughput = with_topic(&client, partitions, policy, async |topic: &str| {
        let bar = load::spinner(global);
        let config = bench.settings.config();
        load::run(&client, topic, workload, config, None, bar.as_ref()).await?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        measure(&client, topic, workload.records).await
    });
    report(global, &bench, &throughput.await?)
}

fn report(global: &Global, bench: &BenchConsume, throughput: &Throughput) -> Result<(), Failure> {
    let made = bench.topic.is_none();
    let workload = &bench.workload;
    let view = json!({
        "benchmark": "consume",
        "settings": {
            "topic": bench.topic,
            "partitions": made.then_some(workload.partitions),
            "recordSize": made.then_some(workload.size),
            "producer": made.then(|| load::describe(&bench.settings.config())),
        },
        "result": throughput.view(),
    });
    global.output().one(&view, || {
        let topic = match &bench.topic {
            Some(topic) => format!("topic={topic}"),
            None => format!(
                "partitions={} size={} filled with {}",
                workload.partitions,
                workload.size,
                load::show(&bench.settings.config())
            ),
        };
        format!("consume  {}\nsettings {topic}\n", throughput.show())
    })
}

/// Records in the topic, if none was taken out of the middle.
async fn count(client: &Client, topic: &str) -> Result<u64, Failure> {
    let what = || format!("cannot consume {topic}");
    let metadata = client.topic(topic).await.during(what)?;
    let mut count = 0;
    for (spec, sign) in [(OffsetSpec::Latest, 1), (OffsetSpec::Earliest, -1)] {
        let queries: Vec<_> = metadata.partitions.iter().map(|p| (p.partition, spec)).collect();
        for listed in client.list_offsets(topic, &queries).await.during(what)? {
            count += sign * listed.offset.map_or(0, |offset| offset.to_wire());
        }
    }
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Reads everything that is there when the clock starts; opening the streams is part of the time.
pub async fn measure(client: &Client, topic: &str, expected: u64) -> Result<Throughput, Failure> {
    let what = || format!("cannot consume {topic}");
    let started = Instant::now();
    let config = ReaderConfig { until_end: true, ..ReaderConfig::default() };
    let mut reader = client.reader(topic, config).await.during(what)?;
    let (mut records, mut bytes) = (0, 0);
    while let Some(batch) = reader.next_batch().await {
        for record in batch.during(what)?.iter() {
            let record = record.during(what)?;
            records += 1;
            bytes += std::hint::black_box(record.value).map_or(0, <[u8]>::len) as u64;
        }
    }
    let elapsed = started.elapsed();
    if records != expected {
        let cause = format!("{records} records were read where {expected} were expected");
        return Err(Failure::new(Exit::Failed, what(), cause));
    }
    Ok(Throughput { records, bytes, elapsed })
}
