//! `troupe transaction describe`.

use super::view::{ListingView, since};
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::show_duration;
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use troupe_proto::admin::v1::DescribeTransactionResponse;

#[derive(Debug, Args)]
pub struct Describe {
    #[arg(value_name = "ID")]
    transactional_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptionView {
    #[serde(flatten)]
    listing: ListingView,
    timeout_ms: u32,
    /// Null: nothing is open.
    start_time_ms: Option<i64>,
    partitions: Vec<PartitionView>,
}

#[derive(Debug, Serialize)]
struct PartitionView {
    topic: String,
    partition: i32,
}

impl From<DescribeTransactionResponse> for DescriptionView {
    fn from(described: DescribeTransactionResponse) -> Self {
        let partitions = described.partitions.into_iter();
        DescriptionView {
            listing: described.transaction.unwrap_or_default().into(),
            timeout_ms: described.timeout_ms,
            start_time_ms: described.start_time_ms,
            partitions: partitions
                .map(|at| PartitionView { topic: at.topic, partition: at.partition })
                .collect(),
        }
    }
}

pub async fn run(global: &Global, describe: Describe) -> Result<(), Failure> {
    let id = &describe.transactional_id;
    let client = global.connect().await?;
    let described = client.admin().describe_transaction(id).await;
    let described = described.with_context(|| format!("cannot describe transactional id {id}"))?;
    let view = DescriptionView::from(described);
    global.output().one(&view, || {
        let DescriptionView { listing, timeout_ms, start_time_ms, partitions } = &view;
        let timeout = show_duration(Duration::from_millis(u64::from(*timeout_ms)));
        let mut shown = format!(
            "transactional id  {}\nstate             {}\nproducer          {} in epoch {}\n\
             coordinator       node {}\ntime-out          {timeout}\n",
            listing.transactional_id,
            listing.state,
            listing.producer_id,
            listing.producer_epoch,
            listing.coordinator,
        );
        if let Some(start) = start_time_ms {
            shown += &format!("open since        {}\n", since(*start));
        }
        for (number, at) in partitions.iter().enumerate() {
            let heading = if number == 0 { "partitions" } else { "" };
            shown += &format!("{heading:<18}{}:{}\n", at.topic, at.partition);
        }
        shown
    })
}
