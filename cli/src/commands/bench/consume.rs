//! `troupe bench consume` (A24): every record is walked and its checksum verified, as by any consumer.

use super::median::median;
use super::temporary::{random_name, with_topic};
use super::throughput::Throughput;
use super::workload::Workload;
use super::{load, reading};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::producer::Settings;
use crate::quantity::rounded;
use clap::Args;
use futures::future::BoxFuture;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use troupe_client::{
    AutoOffsetReset, Client, ConsumerConfig, Rebalance, RebalanceListener, TopicPartition,
};

/// For the last commit and for leaving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct BenchConsume {
    /// Read what is in this topic [default: one is made, filled, read and deleted again]
    topic: Option<String>,
    #[command(flatten)]
    workload: Workload,
    #[command(flatten)]
    settings: Settings,
    /// Also as the only member of a group, through the SDK's consumer: in turns, and compared
    #[arg(long)]
    group: bool,
    /// How often both, with --group
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub async fn run(global: &Global, bench: BenchConsume) -> Result<(), Failure> {
    let client = global.connect().await?;
    if let Some(topic) = &bench.topic {
        if bench.group {
            return against_group(global, &bench, &client, topic, None).await;
        }
        let throughput = reading::run(&client, topic, None).await?;
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
        if bench.group {
            let records = Some(workload.records);
            return against_group(global, &bench, &client, topic, records).await.map(|()| None);
        }
        reading::run(&client, topic, Some(workload.records)).await.map(Some)
    });
    match throughput.await? {
        Some(throughput) => report(global, &bench, &throughput),
        None => Ok(()),
    }
}

/// The bare reader and a group of one, in turns. `expected`: as many records as there should be, if that is known.
async fn against_group(
    global: &Global,
    bench: &BenchConsume,
    client: &Client,
    topic: &str,
    expected: Option<u64>,
) -> Result<(), Failure> {
    // Once without a clock: connections, the page cache and `__consumer_offsets` are made by the first.
    let records = reading::run(client, topic, expected).await?.records;
    measure_group(client, topic, records).await?;
    let (mut bare, mut grouped) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        bare.push(reading::run(client, topic, Some(records)).await?);
        grouped.push(measure_group(client, topic, records).await?);
    }
    let rate = |rounds: &[Throughput]| median(rounds.iter().map(Throughput::records_per_second));
    let ratio = rate(&grouped) / rate(&bare);
    let views = |rounds: &[Throughput]| rounds.iter().map(Throughput::view).collect::<Vec<_>>();
    let view = json!({
        "benchmark": "consume-group",
        "settings": { "topic": bench.topic, "rounds": bench.rounds, "records": records },
        "result": {
            "reader": views(&bare),
            "group": views(&grouped),
            "readerRecordsPerSecond": rate(&bare).round(),
            "groupRecordsPerSecond": rate(&grouped).round(),
            "ratio": rounded(ratio),
        },
    });
    global.output().one(&view, || {
        let mut text = String::new();
        for (reader, group) in bare.iter().zip(&grouped) {
            text += &format!("reader   {}\ngroup    {}\n", reader.show(), group.show());
        }
        text + &format!("ratio    {:.1} % of the bare reader (medians)\n", ratio * 100.0)
    })
}

/// The same records as the only member of a new group, which commits every 5 s as by default. The clock runs
/// from when it has its partitions: joining a group is what `bench group` measures.
async fn measure_group(client: &Client, topic: &str, expected: u64) -> Result<Throughput, Failure> {
    let what = || format!("cannot consume {topic} as a member of a group");
    let group = random_name();
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::new(&group)
    };
    let mut consumer = client.consumer(config).with_context(what)?;
    let assigned = Arc::new(OnceLock::new());
    consumer.set_rebalance_listener(Assigned(assigned.clone()));
    consumer.subscribe([topic]).with_context(what)?;
    let (mut records, mut bytes) = (0, 0);
    while records < expected {
        let batch = consumer.next_batch().await.with_context(what)?;
        for record in batch.iter() {
            let record = record.with_context(what)?;
            records += 1;
            bytes += std::hint::black_box(record.value).map_or(0, <[u8]>::len) as u64;
        }
    }
    let began = assigned.get().copied().unwrap_or_else(Instant::now);
    let elapsed = began.elapsed();
    consumer.close(CLOSE_TIMEOUT).await.with_context(what)?;
    client.admin().delete_group(&group).await.with_context(what)?;
    Ok(Throughput { records, bytes, elapsed })
}

/// Notes when the first partitions are there.
struct Assigned(Arc<OnceLock<Instant>>);

impl RebalanceListener for Assigned {
    fn on_partitions_assigned<'a>(
        &'a mut self,
        _consumer: Rebalance<'a>,
        _partitions: &'a [TopicPartition],
    ) -> BoxFuture<'a, ()> {
        self.0.get_or_init(Instant::now);
        Box::pin(std::future::ready(()))
    }
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
