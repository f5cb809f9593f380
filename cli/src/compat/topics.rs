//! kafka-topics (A1, A2): list, create, describe, alter, delete.

mod describe;
mod selection;

use super::ended::Ended;
use super::errors::message;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};
use selection::{failed, found, meant, refused};
use troupe_proto::admin::v1::{
    CreatePartitionsRequest, CreateTopicRequest, DeleteTopicRequest, ReplicaAssignment,
};
use troupe_proto::error::ErrorCode;

static OPTIONS: Options = Options {
    about: "Create, delete, describe, or change a topic.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("command-config", "file", "Settings of the client."),
        flag("list", "List all topics."),
        flag("create", "Create a topic."),
        flag("delete", "Delete topics."),
        flag("alter", "Have more partitions. (kafka-configs changes settings.)"),
        flag("describe", "List details of topics."),
        value("topic", "topic", "The topic; but to create one, a regular expression."),
        value("topic-id", "id", "The topic's id, to describe it."),
        value("config", "key=value", "A setting of the topic that is created; may be repeated."),
        value("partitions", "count", "How many partitions."),
        value("replication-factor", "count", "How many replicas of each."),
        value("replica-assignment", "1:2,2:3", "Which nodes hold which partition."),
        flag("under-replicated-partitions", "Only partitions that have replicas out of sync."),
        flag("unavailable-partitions", "Only partitions without a leader."),
        flag("under-min-isr-partitions", "Only partitions with too few replicas in sync."),
        flag("at-min-isr-partitions", "Only partitions with just enough replicas in sync."),
        flag("topics-with-overrides", "Only topics with settings of their own."),
        flag("if-exists", "Be content if there is no such topic."),
        flag("if-not-exists", "Be content if there is such a topic."),
        flag("exclude-internal", "Not the cluster's own topics."),
        value("partition-size-limit-per-response", "count", "Without effect: lists come whole."),
    ],
    lead: "",
};

const ACTIONS: [&str; 5] = ["list", "describe", "create", "alter", "delete"];
const ONE_ACTION: &str =
    "Command must include exactly one action: --list, --describe, --create, --alter or --delete";

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    let action = given.action(&ACTIONS, ONE_ACTION)?;
    check(&given, action)?;
    link::run(async {
        match action {
            "list" => list(&given).await,
            "describe" => describe::run(&given).await,
            "create" => create(&given).await,
            "alter" => alter(&given).await,
            _ => delete(&given).await,
        }
    })
}

fn check(given: &Given, action: &str) -> Result<(), Ended> {
    if !given.has("bootstrap-server") {
        return Err(Ended::err("--bootstrap-server must be specified"));
    }
    if action != "list" && action != "describe" {
        given.require(&["topic"])?;
    }
    if action == "alter" && given.has("config") {
        return Err(given.usage(
            "Option combination \"[[bootstrap-server], [config]]\" can't be used with option \"[alter]\" (To alter topic \
             configurations, the kafka-configs tool can be used.)",
        ));
    }
    if action == "alter" {
        given.require(&["partitions"])?;
    }
    let only =
        |option: &str, actions: &[&str]| match given.has(option) && !actions.contains(&action) {
            true => Err(given
                .usage(&format!("Option \"[{option}]\" can't be used with option \"[{action}]\""))),
            false => Ok(()),
        };
    only("config", &["create"])?;
    only("partitions", &["create", "alter"])?;
    only("replication-factor", &["create"])?;
    only("replica-assignment", &["create", "alter"])?;
    only("if-not-exists", &["create"])?;
    only("if-exists", &["alter", "delete", "describe"])?;
    only("exclude-internal", &["list", "describe"])?;
    for filter in describe::FILTERS.iter().chain(&["topics-with-overrides"]) {
        only(filter, &["describe"])?;
    }
    if action == "create" {
        given.exclude("replica-assignment", &["partitions", "replication-factor"])?;
    }
    Ok(())
}

async fn list(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let topics = meant(&client, given).await?;
    print(&topics.into_iter().map(|topic| topic.name + "\n").collect::<String>())
}

async fn create(given: &Given) -> Result<(), Ended> {
    let name = given.value("topic")?.unwrap_or_default();
    let number = |option| {
        let text = given.value(option)?;
        let wrong =
            |text: &str| failed(&format!("Cannot parse argument '{text}' of option {option}"));
        text.map(|text| text.trim().parse::<i32>().map_err(|_| wrong(text))).transpose()
    };
    let partitions = number("partitions")?;
    let replication_factor = number("replication-factor")?;
    if partitions.is_some_and(|count| count < 1) {
        return Err(failed("The partitions must be greater than 0"));
    }
    if replication_factor.is_some_and(|count| !(1..=i32::from(i16::MAX)).contains(&count)) {
        return Err(failed("The replication factor must be between 1 and 32767 inclusive"));
    }
    let assignments = match given.value("replica-assignment")? {
        Some(text) => assignments(text).map_err(|told| failed(&told))?,
        None => Vec::new(),
    };
    let mut configs = Vec::new();
    for pair in given.values("config") {
        match pair.split_once('=') {
            Some((key, value)) => configs.push((key.trim().to_owned(), value.trim().to_owned())),
            None => {
                let told = "Invalid topic config: all configs to be added must be in the format \"key=val\".";
                return Err(failed(told));
            }
        }
    }
    if name.contains(['.', '_']) {
        print(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. \
             To avoid issues it is best to use either, but not both.\n",
        )?;
    }
    let client = connect(given).await?;
    let request = CreateTopicRequest {
        name: name.to_owned(),
        partitions,
        replication_factor,
        assignments,
        configs: configs.into_iter().collect(),
        internal: false,
        validate_only: false,
    };
    match client.admin().create_topic(request).await {
        Ok(_) => print(&format!("Created topic {name}.\n")),
        Err(error) if error.reason() == ErrorCode::TopicExists => {
            match given.has("if-not-exists") {
                true => Ok(()),
                false => Err(failed(&format!("Topic '{name}' already exists."))),
            }
        }
        Err(error) if error.reason() == ErrorCode::InvalidReplicationFactor => {
            // As the cluster tells it, behind Kafka's words.
            let asked = replication_factor.unwrap_or_default();
            Err(failed(&format!(
                "Unable to replicate the partition {asked} time(s): {}",
                message(&error)
            )))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// `1:2,2:3`: two partitions with two replicas each.
fn assignments(text: &str) -> Result<Vec<ReplicaAssignment>, String> {
    let mut found: Vec<ReplicaAssignment> = Vec::new();
    for part in text.split(',') {
        let mut replicas = Vec::new();
        for node in part.split(':') {
            let node = node.trim();
            let node: i32 = node.parse().map_err(|_| format!("For input string: \"{node}\""))?;
            if replicas.contains(&node) {
                return Err(format!(
                    "Partition replica lists may not contain duplicate entries: {node}"
                ));
            }
            replicas.push(node);
        }
        if found.first().is_some_and(|first| first.replicas.len() != replicas.len()) {
            return Err(format!(
                "Partition {} has different replication factor: {}",
                found.len(),
                part
            ));
        }
        found.push(ReplicaAssignment { replicas });
    }
    Ok(found)
}

async fn alter(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    let total: i32 = given.parsed("partitions")?.unwrap_or_default();
    let assigned = given.value("replica-assignment")?.map(assignments).transpose();
    let assigned = assigned.map_err(|told| failed(&told))?.unwrap_or_default();
    for topic in found(&client, given).await? {
        let has = topic.partitions.len();
        if usize::try_from(total) == Ok(has) {
            return Err(failed(&format!("Topic already has {has} partition(s).")));
        }
        if usize::try_from(total).is_ok_and(|total| total < has) {
            return Err(failed(&format!(
                "The topic {} currently has {has} partition(s); {total} would not be an increase.",
                topic.name
            )));
        }
        let request = CreatePartitionsRequest {
            name: topic.name,
            total,
            // The list is of all partitions; those that are there stay where they are.
            assignments: assigned.iter().skip(has).cloned().collect(),
            internal: false,
            validate_only: false,
        };
        client.admin().create_partitions(request).await.map_err(|error| refused(&error))?;
    }
    Ok(())
}

async fn delete(given: &Given) -> Result<(), Ended> {
    let client = connect(given).await?;
    for topic in found(&client, given).await? {
        let request =
            DeleteTopicRequest { name: topic.name, internal: false, validate_only: false };
        client.admin().delete_topic(request).await.map_err(|error| refused(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_by_hand_is_read_and_told_what_is_wrong() {
        let read = assignments("1:2,2:3").unwrap();
        assert_eq!(read[1].replicas, [2, 3]);
        let told = assignments("1:1").unwrap_err();
        assert_eq!(told, "Partition replica lists may not contain duplicate entries: 1");
        assert!(assignments("1:2,3").unwrap_err().contains("different replication factor"));
        assert!(assignments("a").unwrap_err().contains("For input string: \"a\""));
    }

    #[test]
    fn options_that_do_not_go_together_are_told_in_kafka_s_words() {
        for (line, told) in [
            ("--list --create", ONE_ACTION),
            ("--list", "--bootstrap-server must be specified"),
            ("--bootstrap-server h --create", "Missing required argument \"[topic]\""),
            (
                "--bootstrap-server h --create --topic t --replica-assignment 1 --partitions 1",
                "Option \"[replica-assignment]\" can't be used with option \"[partitions]\"",
            ),
            (
                "--bootstrap-server h --list --partitions 1",
                "Option \"[partitions]\" can't be used with option \"[list]\"",
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let ended = run(&words).unwrap_err();
            assert!(ended.notices.starts_with(told), "{line}: {}", ended.notices);
        }
    }
}
