//! `troupe bench produce` (A23).

use super::load;
use super::temporary::with_topic;
use super::workload::Workload;
use crate::failure::Failure;
use crate::global::Global;
use crate::producer::Settings;
use crate::quantity::parse_count;
use clap::Args;
use serde_json::json;
use troupe_client::Client;

#[derive(Debug, Args)]
pub struct BenchProduce {
    /// A topic that is there [default: one is made and deleted again]
    topic: Option<String>,
    #[command(flatten)]
    workload: Workload,
    /// Records per second [default: as many as go]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    rate: Option<u64>,
    #[command(flatten)]
    settings: Settings,
}

pub async fn run(global: &Global, bench: BenchProduce) -> Result<(), Failure> {
    let client = global.connect().await?;
    match &bench.topic {
        Some(topic) => measure(global, &client, topic, &bench).await,
        None => {
            let (partitions, policy) = (bench.workload.partitions, bench.workload.flush_policy);
            with_topic(&client, partitions, policy, async |topic: &str| {
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
    bench: &BenchProduce,
) -> Result<(), Failure> {
    let config = bench.settings.config();
    let rate = bench.rate.filter(|rate| *rate > 0).map(|rate| rate as f64);
    let bar = load::spinner(global);
    let outcome =
        load::run(client, topic, &bench.workload, config.clone(), rate, bar.as_ref()).await?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let made = bench.topic.is_none();
    let workload = &bench.workload;
    let view = json!({
        "benchmark": "produce",
        "settings": {
            "topic": if made { None } else { Some(topic) },
            "partitions": made.then_some(workload.partitions),
            "flushPolicy": made.then_some(workload.flush_policy.name()),
            "recordSize": workload.size,
            "rate": rate,
            "producer": load::describe(&config),
        },
        "result": outcome.throughput.view(),
        "latencyMs": outcome.latencies.view(),
        "batches": outcome.batches,
        "retries": outcome.retries,
    });
    global.output().one(&view, || {
        let topic = if made {
            let (partitions, policy) = (workload.partitions, workload.flush_policy.name());
            format!("partitions={partitions} flush.policy={policy}")
        } else {
            format!("topic={topic}")
        };
        format!(
            "produce  {}\nlatency  {}\n         {} batches, {} retries\nsettings {topic} size={} {}\n",
            outcome.throughput.show(),
            outcome.latencies.show(),
            outcome.batches,
            outcome.retries,
            workload.size,
            load::show(&config)
        )
    })
}
