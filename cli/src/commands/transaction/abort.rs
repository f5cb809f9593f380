//! `troupe transaction abort`.

use super::producers::parse_partition;
use crate::confirm::confirm;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::quantity::parse_whole;
use clap::Args;
use serde_json::json;
use troupe_client::TopicPartition;
use troupe_proto::ids::Offset;

#[derive(Debug, Args)]
pub struct Abort {
    /// Whose transaction
    #[arg(value_name = "ID", required_unless_present = "hanging", conflicts_with = "hanging")]
    transactional_id: Option<String>,
    /// One that no coordinator knows of, in this partition
    #[arg(long, value_name = "TOPIC:PARTITION", value_parser = parse_partition)]
    #[arg(requires = "start_offset")]
    hanging: Option<TopicPartition>,
    /// Where that one began, as `transaction hanging` shows it
    #[arg(long, value_name = "OFFSET", value_parser = parse_whole::<u64>, requires = "hanging")]
    start_offset: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(global: &Global, abort: Abort) -> Result<(), Failure> {
    let client = global.connect().await?;
    let admin = client.admin();
    let done = match (&abort.transactional_id, &abort.hanging) {
        (Some(id), _) => {
            let what = format!("cannot abort the transaction of {id}");
            if !abort.yes {
                let question = format!(
                    "Abort what is open under transactional id {id}, and fence its producer?"
                );
                confirm(&what, &question, &format!("`troupe transaction abort {id} --yes`"))?;
            }
            admin.abort_transaction(id).await.with_context(|| what)?;
            id.clone()
        }
        (None, at) => {
            let (Some(at), Some(start)) = (at, abort.start_offset) else {
                return Err(Failure::usage(
                    "name a transactional id, or --hanging TOPIC:PARTITION",
                ));
            };
            let what = format!("cannot abort the transaction that is open at {at}");
            let topic_partition = format!("{}:{}", at.topic, at.partition);
            if !abort.yes {
                let question = format!(
                    "Abort the transaction that is open at {topic_partition} since {start}?"
                );
                let instead = format!(
                    "`troupe transaction abort --hanging {topic_partition} --start-offset {start} --yes`"
                );
                confirm(&what, &question, &instead)?;
            }
            let aborted = admin.abort_hanging_transaction(&at.topic, at.partition, Offset(start));
            aborted.await.with_context(|| what)?;
            topic_partition
        }
    };
    global.output().one(&json!({ "aborted": done }), || format!("aborted {done}\n"))
}
