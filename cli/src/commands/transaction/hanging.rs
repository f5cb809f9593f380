//! `troupe transaction hanging`.

use super::producers::parse_partition;
use super::view::since;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::output::{Table, number, text};
use crate::quantity::parse_duration;
use crate::streams::notice;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::admin::v1::{HangingTransaction, UnaskedPartition};
use troupe_proto::error::Error;

#[derive(Debug, Args)]
pub struct Hanging {
    /// Only in this topic, or this partition of it
    #[arg(value_name = "TOPIC[:PARTITION]")]
    topic: Option<String>,
    /// Only those that have been open for longer [default: 15 min]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    open_for: Option<Duration>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HangingView {
    topic: String,
    partition: i32,
    producer_id: u64,
    producer_epoch: u32,
    start_offset: i64,
    last_timestamp_ms: i64,
}

impl From<HangingTransaction> for HangingView {
    fn from(hanging: HangingTransaction) -> Self {
        HangingView {
            topic: hanging.topic,
            partition: hanging.partition,
            producer_id: hanging.producer_id,
            producer_epoch: hanging.producer_epoch,
            start_offset: hanging.start_offset,
            last_timestamp_ms: hanging.last_timestamp_ms,
        }
    }
}

#[derive(Debug, Serialize)]
struct UnaskedView {
    topic: String,
    partition: i32,
    reason: Option<&'static str>,
    message: String,
}

impl From<UnaskedPartition> for UnaskedView {
    fn from(unasked: UnaskedPartition) -> Self {
        let error = unasked.error.map(Error::from);
        UnaskedView {
            topic: unasked.topic,
            partition: unasked.partition,
            reason: error.as_ref().map(|error| error.code.reason()),
            message: error.map(|error| error.message).unwrap_or_default(),
        }
    }
}

pub async fn run(global: &Global, hanging: Hanging) -> Result<(), Failure> {
    let (topic, partition) = match &hanging.topic {
        None => (String::new(), None),
        Some(text) => match text.contains(':') {
            true => {
                let at = parse_partition(text).map_err(Failure::usage)?;
                (at.topic.to_string(), Some(at.partition))
            }
            false => (text.clone(), None),
        },
    };
    let client = global.connect().await?;
    let open_for = hanging.open_for.unwrap_or_default();
    let found = client.admin().find_hanging_transactions(&topic, partition, open_for).await;
    let found = found.with_context(|| "cannot look for hanging transactions".to_owned())?;
    let views: Vec<_> = found.transactions.into_iter().map(HangingView::from).collect();
    let unasked: Vec<_> = found.unasked.into_iter().map(UnaskedView::from).collect();
    if !global.format().is_json() {
        for UnaskedView { topic, partition, message, .. } in &unasked {
            notice!("note: {topic}:{partition} could not be asked: {message}");
        }
    }
    let beside = Some(("unasked", &unasked));
    global.output().many_with("transactions", &views, beside, || {
        let mut table = Table::new(&[
            text("TOPIC"),
            number("PARTITION"),
            number("PRODUCER-ID"),
            number("EPOCH"),
            number("START-OFFSET"),
            text("LAST-WRITE"),
        ]);
        for view in &views {
            table.row(vec![
                view.topic.clone(),
                view.partition.to_string(),
                view.producer_id.to_string(),
                view.producer_epoch.to_string(),
                view.start_offset.to_string(),
                since(view.last_timestamp_ms),
            ]);
        }
        table
    })
}
