//! kafka-get-offsets (A20): `topic:partition:offset`.

use super::ended::Ended;
use super::errors::message;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};
use crate::commands::topic::partition_pattern::PartitionPattern;
use crate::streams::notice;
use std::time::Duration;
use troupe_client::OffsetSpec;
use troupe_proto::ids::PartitionId;

static OPTIONS: Options = Options {
    about: "An interactive shell for getting topic-partition offsets.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED. Nodes to ask."),
        value("broker-list", "host:port", "The same."),
        value("command-config", "file", "Settings of the client."),
        value("topic", "pattern", "Topics, as a regular expression [default: all]."),
        value("partitions", "0,1", "Partitions of them [default: all]."),
        value("topic-partitions", "topic:0,topic:2-4", "The same as patterns."),
        value(
            "time",
            "time",
            "-1 or latest, -2 or earliest, -3 or max-timestamp, or milliseconds since 1970.",
        ),
        flag("exclude-internal-topics", "Not the cluster's own topics."),
    ],
    lead: "Error occurred: ",
};

/// How long a partition without a leader is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

fn failed(told: &str) -> Ended {
    Ended::err(format_args!("Error occurred: {told}"))
}

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    let Some(server) = given.value("bootstrap-server")?.or(given.value("broker-list")?) else {
        return Err(given.usage("Missing required argument \"[bootstrap-server]\""));
    };
    if given.has("topic-partitions") && (given.has("topic") || given.has("partitions")) {
        return Err(failed("--topic-partitions cannot be used with --topic or --partitions"));
    }
    let spec = spec(given.value("time")?.unwrap_or("-1"))?;
    let patterns = patterns(&given)?;
    link::run(ask(&given, server, spec, &patterns))
}

fn spec(text: &str) -> Result<OffsetSpec, Ended> {
    match text {
        "-1" | "latest" => Ok(OffsetSpec::Latest),
        // All that is kept is kept on the brokers' own disks.
        "-2" | "earliest" | "-4" | "earliest-local" => Ok(OffsetSpec::Earliest),
        "-3" | "max-timestamp" => Ok(OffsetSpec::MaxTimestamp),
        "-5" | "latest-tiered" => Err(Ended::cannot("latest-tiered", "there is no tiered storage")),
        _ => match text.parse::<i64>() {
            Ok(ms) if ms >= 0 => Ok(OffsetSpec::Timestamp(ms)),
            _ => Err(failed(&format!(
                "Malformed time argument {text}. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or \
                 earliest-local / -5 or latest-tiered, or a specified long format timestamp"
            ))),
        },
    }
}

/// Which partitions; empty: all.
fn patterns(given: &Given) -> Result<Vec<PartitionPattern>, Ended> {
    let parse = |text: &str| {
        let read = text.parse::<PartitionPattern>();
        read.map_err(|error| failed(&format!("Invalid rule specification: {text}: {error}")))
    };
    if let Some(listed) = given.listed("topic-partitions")? {
        return listed.iter().map(|one| parse(one)).collect();
    }
    let topic = given.value("topic")?.unwrap_or_default();
    match given.listed("partitions")? {
        Some(numbers) => numbers.iter().map(|number| parse(&format!("{topic}:{number}"))).collect(),
        None if topic.is_empty() => Ok(Vec::new()),
        None => Ok(vec![parse(topic)?]),
    }
}

async fn ask(
    given: &Given,
    server: &str,
    spec: OffsetSpec,
    patterns: &[PartitionPattern],
) -> Result<(), Ended> {
    let client = match given.has("bootstrap-server") {
        true => connect(given).await?,
        false => link::connect_to(server).await?,
    };
    let topics = client.admin().list_topics(!given.has("exclude-internal-topics")).await?;
    let mut text = String::new();
    let mut matched = false;
    for topic in topics {
        let ours: Vec<&PartitionPattern> =
            patterns.iter().filter(|pattern| pattern.matches_topic(&topic.name)).collect();
        let wanted =
            |number: &u32| patterns.is_empty() || ours.iter().any(|pattern| pattern.has(*number));
        let queries: Vec<(PartitionId, OffsetSpec)> = (0..topic.partitions.len() as u32)
            .filter(wanted)
            .map(|number| (PartitionId(number), spec))
            .collect();
        if queries.is_empty() {
            continue;
        }
        matched = true;
        let answers = client.list_offsets_each(&topic.name, &queries, PATIENCE).await?;
        for ((partition, _), answer) in queries.iter().zip(answers) {
            match answer {
                Ok(listed) => {
                    if let Some(offset) = listed.offset {
                        text += &format!("{}:{}:{}\n", topic.name, partition.0, offset.0);
                    }
                }
                Err(error) => notice!(
                    "Skip getting offsets for topic-partition {}-{} due to error: {}",
                    topic.name,
                    partition.0,
                    message(&error)
                ),
            }
        }
    }
    match matched {
        true => print(&text),
        false => Err(failed("Could not match any topic-partitions with the specified filters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_kafka_s_names_and_numbers() {
        assert_eq!(spec("-3").unwrap(), OffsetSpec::MaxTimestamp);
        assert_eq!(spec("earliest").unwrap(), OffsetSpec::Earliest);
        assert_eq!(spec("0").unwrap(), OffsetSpec::Timestamp(0));
        assert!(spec("soon").unwrap_err().notices.starts_with("Error occurred: Malformed time"));
        assert!(spec("-5").unwrap_err().notices.contains("no tiered storage"));
    }
}
