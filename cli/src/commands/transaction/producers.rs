//! `troupe transaction producers`.

use super::view::since;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use clap::Args;
use serde::Serialize;
use troupe_client::TopicPartition;
use troupe_proto::admin::v1::ProducerState;

#[derive(Debug, Args)]
pub struct Producers {
    #[arg(value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    partition: TopicPartition,
}

/// `orders:3`.
pub fn parse_partition(text: &str) -> Result<TopicPartition, String> {
    let parsed = text.rsplit_once(':').and_then(|(topic, number)| {
        let number = number.parse::<u32>().ok().filter(|number| *number <= i32::MAX as u32)?;
        (!topic.is_empty()).then(|| TopicPartition::new(topic, number))
    });
    parsed.ok_or_else(|| "name a topic and a partition: orders:0".to_owned())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProducerView {
    producer_id: u64,
    producer_epoch: u32,
    last_sequence: Option<u32>,
    last_timestamp_ms: i64,
    coordinator_epoch: Option<u32>,
    transaction_start_offset: Option<i64>,
}

impl From<ProducerState> for ProducerView {
    fn from(state: ProducerState) -> Self {
        ProducerView {
            producer_id: state.producer_id,
            producer_epoch: state.producer_epoch,
            last_sequence: state.last_sequence,
            last_timestamp_ms: state.last_timestamp_ms,
            coordinator_epoch: state.coordinator_epoch,
            transaction_start_offset: state.transaction_start_offset,
        }
    }
}

pub async fn run(global: &Global, producers: Producers) -> Result<(), Failure> {
    let at = &producers.partition;
    let client = global.connect().await?;
    let described = client.admin().describe_producers(&at.topic, at.partition).await;
    let described = described.with_context(|| format!("cannot show the producers of {at}"))?;
    let views: Vec<_> = described.into_iter().map(ProducerView::from).collect();
    global.output().many("producers", &views, || {
        let mut table = Table::new(&[
            number("PRODUCER-ID"),
            number("EPOCH"),
            number("LAST-SEQUENCE"),
            number("OPEN-SINCE-OFFSET"),
            text("LAST-WRITE"),
            number("COORDINATOR-EPOCH").wide(),
        ]);
        for view in &views {
            table.row(vec![
                view.producer_id.to_string(),
                view.producer_epoch.to_string(),
                view.last_sequence.map_or_else(String::new, |it| it.to_string()),
                view.transaction_start_offset.map_or_else(String::new, |it| it.to_string()),
                since(view.last_timestamp_ms),
                view.coordinator_epoch.map_or_else(String::new, |it| it.to_string()),
            ]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_a_topic_and_a_number() {
        assert_eq!(parse_partition("a:b:3"), Ok(TopicPartition::new("a:b", 3)));
        for wrong in ["orders", "orders:", ":3", "orders:x", "orders:4294967295"] {
            assert!(parse_partition(wrong).is_err(), "{wrong}");
        }
    }
}
