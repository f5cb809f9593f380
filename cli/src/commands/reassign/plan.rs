//! `troupe reassign plan`: Kafka's --generate, by fewest moves unless its own algorithm is asked for.
//!
//! On standard output stand the two assignments, as Kafka's tool prints them; as JSON the proposed one alone, which
//! `troupe reassign execute` takes. What it takes, and what each node has then, is told on standard error.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::global::Global;
use crate::output::{Format, Output};
use crate::placement::{Proposal, propose, shares};
use crate::streams::notice;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use troupe_proto::admin::v1::{PlanGoal, PlanReassignmentRequest};

#[derive(Debug, Args)]
pub struct Plan {
    /// Topics whose replicas may move, separated by commas
    #[arg(long, value_name = "TOPIC,..", value_delimiter = ',', group = "what")]
    topics: Vec<String>,
    /// The same from a file as Kafka's tool reads it: {"topics":[{"topic":"orders"}],"version":1}
    #[arg(long, value_name = "FILE", group = "what")]
    topics_to_move_json_file: Option<String>,
    /// All topics, the cluster's own too
    #[arg(long, group = "what", required_unless_present_any = ["topics", "topics_to_move_json_file"])]
    all_topics: bool,
    /// Nodes that may have replicas of these topics, separated by commas [default: all that are alive]
    #[arg(long, value_name = "ID,..", value_delimiter = ',', alias = "broker-list")]
    to_nodes: Vec<i32>,
    /// A node that may have none; can be given several times
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    exclude_node: Vec<i32>,
    /// How many replicas each partition shall have [default: as many as it has]
    #[arg(long, value_name = "N")]
    replication_factor: Option<i32>,
    /// Replicas of a partition need not be in different racks
    #[arg(long)]
    disable_rack_aware: bool,
    /// How they are placed
    #[arg(long, value_enum, default_value = "fewest-moves")]
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// As even, with as little to copy as that takes
    FewestMoves,
    /// As Kafka's tool does: as if there were no data yet
    Kafka,
}

/// Kafka's list of topics.
#[derive(Debug, Deserialize)]
struct TopicsToMove {
    topics: Vec<TopicToMove>,
    #[serde(default = "first_version")]
    version: i32,
}

#[derive(Debug, Deserialize)]
struct TopicToMove {
    topic: String,
}

fn first_version() -> i32 {
    1
}

pub async fn run(global: &Global, plan: Plan) -> Result<(), Failure> {
    let what = "cannot plan a reassignment";
    let topics = match &plan.topics_to_move_json_file {
        Some(file) => read_topics(what, file)?,
        None => plan.topics,
    };
    let goal = match plan.algorithm {
        Algorithm::FewestMoves => PlanGoal::Even,
        Algorithm::Kafka => PlanGoal::Classic,
    };
    let request = PlanReassignmentRequest {
        goal: goal.into(),
        topics,
        to_node_ids: plan.to_nodes,
        exclude_node_ids: plan.exclude_node,
        replication_factor: plan.replication_factor,
        disable_rack_aware: plan.disable_rack_aware,
        sizes: Vec::new(),
    };
    let client = global.connect().await?;
    let proposal = propose(&client, what, request).await?;
    let output = global.output();
    let proposed = proposal.proposed();
    match output.format {
        Format::Json | Format::Jsonl => output.print(&(proposed.to_json() + "\n"))?,
        Format::Table | Format::Wide => output.print(&text(&proposal))?,
    }
    tell(global, &output, &proposal);
    Ok(())
}

/// A10.
fn text(proposal: &Proposal) -> String {
    format!(
        "Current partition replica assignment\n{}\n\nProposed partition reassignment configuration\n{}\n",
        proposal.current().to_json(),
        proposal.proposed().to_json()
    )
}

fn tell(global: &Global, output: &Output, proposal: &Proposal) {
    let shares = shares(proposal);
    if global.progress() {
        notice!("{}", shares.render(&Output { format: Format::Table, ..*output }).trim_end());
    }
}

fn read_topics(what: &str, file: &str) -> Result<Vec<String>, Failure> {
    let refuse = |exit, cause: String| {
        let hint = "it is {\"topics\":[{\"topic\":\"orders\"}],\"version\":1}";
        Failure::new(exit, what, format!("{file}: {cause}")).with_hint(hint)
    };
    let read = std::fs::read_to_string(file);
    let read = read.map_err(|error| refuse(Exit::Failed, error.to_string()))?;
    parse_topics(&read).map_err(|cause| refuse(Exit::Usage, cause))
}

fn parse_topics(text: &str) -> Result<Vec<String>, String> {
    let TopicsToMove { topics, version } =
        serde_json::from_str(text).map_err(|error| error.to_string())?;
    if version != 1 {
        return Err(format!("it is of version {version}; only version 1 is known"));
    }
    if topics.is_empty() {
        return Err("it names no topics".to_owned());
    }
    Ok(topics.into_iter().map(|one| one.topic).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_list_of_topics_is_read_and_what_is_none_is_refused() {
        let course = r#"{"topics":[{"topic":"first"}],"version":1}"#;
        assert_eq!(parse_topics(course), Ok(vec!["first".to_owned()]));
        assert!(parse_topics(r#"{"topics":[],"version":1}"#).unwrap_err().contains("no topics"));
        assert!(parse_topics(r#"{"topics":[],"version":2}"#).unwrap_err().contains("version 2"));
        assert!(parse_topics("first").is_err());
    }
}
