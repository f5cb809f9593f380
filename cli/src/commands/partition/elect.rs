//! `troupe partition elect`: every partition succeeds or fails for itself.

use crate::confirm::confirm;
use crate::exit::Exit;
use crate::failure::{Context, Failure};
use crate::global::Global;
use crate::node_view::ids;
use crate::output::{Table, number, text};
use crate::topic_partitions::parse_partitions;
use clap::Args;
use serde::Serialize;
use troupe_client::Client;
use troupe_proto::admin::v1::{
    ElectionResult, ElectionType, PartitionFilter, PartitionState, TopicPartitions,
};
use troupe_proto::error::{Error, ErrorCode};

/// Partitions that are named in a question.
const NAMED: usize = 10;

#[derive(Debug, Args)]
pub struct Elect {
    /// The first replica of each partition, where it is in sync and does not lead
    #[arg(long, required_unless_present = "unclean", conflicts_with = "unclean")]
    preferred: bool,
    /// Any replica that is alive, for partitions that nobody leads: acknowledged records may be lost
    #[arg(long)]
    unclean: bool,
    /// A topic, or some of its partitions [default: all that the election is for]
    #[arg(value_name = "TOPIC[:PARTITION,..]", value_parser = parse_partitions)]
    partitions: Vec<TopicPartitions>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultView {
    topic: String,
    partition: i32,
    leader_id: Option<i32>,
    leader_epoch: u32,
    /// `elected`, `not needed`, or `failed`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl From<ElectionResult> for ResultView {
    fn from(result: ElectionResult) -> Self {
        let error = result.error.map(Error::from);
        ResultView {
            topic: result.topic,
            partition: result.partition,
            leader_id: result.leader_id,
            leader_epoch: result.leader_epoch,
            outcome: match error.as_ref().map(|error| error.code) {
                None => "elected",
                Some(ErrorCode::ElectionNotNeeded) => "not needed",
                Some(_) => "failed",
            },
            reason: error.as_ref().map(|error| error.code.reason()),
            message: error.map_or_else(String::new, |error| error.message),
        }
    }
}

pub async fn run(global: &Global, elect: Elect) -> Result<(), Failure> {
    let client = global.connect().await?;
    let what = || "cannot elect leaders".to_owned();
    let election = if elect.unclean { ElectionType::Unclean } else { ElectionType::Preferred };
    if elect.unclean && !elect.yes {
        ask(&client, &elect.partitions).await?;
    }
    let results =
        client.admin().elect_leaders(election, elect.partitions).await.with_context(what)?;
    let results: Vec<ResultView> = results.into_iter().map(ResultView::from).collect();
    global.output().many("results", &results, || table(&results))?;
    match results.iter().filter(|result| result.outcome == "failed").count() {
        0 => Ok(()),
        failed => {
            let cause = format!("{failed} of {} partitions have no new leader", results.len());
            let hint = "`troupe partition list` shows who is in sync";
            Err(Failure::new(Exit::Failed, what(), cause).with_hint(hint))
        }
    }
}

/// Shows what it is about: partitions without a leader, and who could lead them.
async fn ask(client: &Client, wanted: &[TopicPartitions]) -> Result<(), Failure> {
    let what = "cannot elect unclean leaders";
    let offline = client.admin().list_partitions(None, PartitionFilter::Offline).await;
    let mut offline = offline.with_context(|| what.to_owned())?;
    offline.retain(|partition| {
        wanted.is_empty()
            || wanted.iter().any(|named| {
                let numbers = &named.partitions;
                named.topic == partition.topic
                    && (numbers.is_empty() || numbers.contains(&partition.partition))
            })
    });
    if offline.is_empty() {
        // Nothing can be lost; the answer says for each partition why nothing was done.
        return Ok(());
    }
    let one = |state: &PartitionState| {
        format!("{}:{} (replicas {})", state.topic, state.partition, ids(&state.replicas))
    };
    let mut names: Vec<String> = offline.iter().take(NAMED).map(one).collect();
    if offline.len() > NAMED {
        names.push(format!("{} more", offline.len() - NAMED));
    }
    let question =
        format!("Let any replica lead {}, and lose what only the others had?", names.join(", "));
    confirm(what, &question, "`troupe partition elect --unclean --yes ..`")
}

fn number_if(told: bool, number: impl ToString) -> String {
    if told { number.to_string() } else { String::new() }
}

fn table(results: &[ResultView]) -> Table {
    let mut table = Table::new(&[
        text("TOPIC"),
        number("PARTITION"),
        text("LEADER"),
        number("EPOCH"),
        text("OUTCOME"),
        text("MESSAGE"),
    ]);
    for result in results {
        table.row(vec![
            result.topic.clone(),
            // A topic that is not there has no partitions.
            number_if(result.partition >= 0, result.partition),
            result.leader_id.map_or_else(String::new, |id| id.to_string()),
            number_if(result.leader_id.is_some(), result.leader_epoch),
            result.outcome.to_owned(),
            result.message.clone(),
        ]);
    }
    table
}
