//! kafka-leader-election (A16).

use super::ended::Ended;
use super::errors::named;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};
use serde::Deserialize;
use troupe_proto::admin::v1::{ElectionResult, ElectionType, PartitionFilter, TopicPartitions};
use troupe_proto::error::{Error, ErrorCode};

static OPTIONS: Options = Options {
    about: "This tool attempts to elect a new leader for a set of topic partitions. The type of elections supported are \
            preferred replicas and unclean replicas.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("admin.config", "file", "Settings of the client."),
        value("command-config", "file", "Settings of the client."),
        value(
            "election-type",
            "type",
            "REQUIRED: preferred, or unclean: that loses what only others had.",
        ),
        value("topic", "topic", "The topic, with --partition."),
        value("partition", "number", "The partition, with --topic."),
        flag("all-topic-partitions", "All that the election is for."),
        value(
            "path-to-json-file",
            "file",
            "{\"partitions\":[{\"topic\":\"orders\",\"partition\":0}]}",
        ),
    ],
    lead: "",
};

#[derive(Deserialize)]
struct Listed {
    partitions: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    topic: String,
    partition: i32,
}

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    let missing: Vec<&str> =
        ["bootstrap-server", "election-type"].into_iter().filter(|name| !given.has(name)).collect();
    if !missing.is_empty() {
        let told = format!("Missing required option(s): {}", missing.join(", "));
        return Err(Ended::err(told));
    }
    let election = given.value("election-type")?.unwrap_or_default().to_owned();
    let kind = match election.to_ascii_lowercase().as_str() {
        "preferred" => ElectionType::Preferred,
        "unclean" => ElectionType::Unclean,
        _ => {
            let told = format!("Cannot parse argument '{election}' of option election-type");
            return Err(Ended::err(told));
        }
    };
    let scopes = ["topic", "all-topic-partitions", "path-to-json-file"];
    if scopes.iter().filter(|scope| given.has(scope)).count() != 1 {
        return Err(Ended::err(format_args!(
            "One and only one of the following options is required: {}",
            scopes.join(", ")
        )));
    }
    if given.has("topic") && !given.has("partition") {
        return Err(Ended::err("Missing required option(s): partition"));
    }
    if given.has("partition") && !given.has("topic") {
        return Err(Ended::err("Option partition is only allowed if topic is used"));
    }
    let wanted = wanted(&given)?;
    link::run(elect(&given, kind, wanted))
}

/// Empty: all.
fn wanted(given: &Given) -> Result<Vec<TopicPartitions>, Ended> {
    let one = |topic: String, partition| TopicPartitions { topic, partitions: vec![partition] };
    if let Some(topic) = given.value("topic")? {
        let partition = given.parsed("partition")?.unwrap_or_default();
        return Ok(vec![one(topic.to_owned(), partition)]);
    }
    let Some(file) = given.value("path-to-json-file")? else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|_| Ended::err(format_args!("Unable to read file {file}")))?;
    let listed: Listed = serde_json::from_str(&text).map_err(|error| {
        Ended::err(format_args!("Replica election data is not valid JSON: {error}"))
    })?;
    if listed.partitions.is_empty() {
        return Err(Ended::err("Replica election data is empty"));
    }
    Ok(listed.partitions.into_iter().map(|it| one(it.topic, it.partition)).collect())
}

async fn elect(
    given: &Given,
    kind: ElectionType,
    wanted: Vec<TopicPartitions>,
) -> Result<(), Ended> {
    let client = connect(given).await?;
    let all = wanted.is_empty();
    if !all {
        // What is not there is told in Kafka's words, and nothing is asked for it.
        let known = client.admin().list_partitions(None, PartitionFilter::Unspecified).await?;
        for named in &wanted {
            for &partition in &named.partitions {
                let is_it = |topic: &str, at| topic == named.topic && at == partition;
                if known.iter().any(|one| is_it(&one.topic, one.partition)) {
                    continue;
                }
                let told = match known.iter().any(|one| one.topic == named.topic) {
                    true => format!("No such partition as {}-{partition}", named.topic),
                    false => format!("No such topic as {}", named.topic),
                };
                let error = Error::new(ErrorCode::UnknownTopic, told);
                return failed(&[failure(kind, &named.topic, partition, &error)]);
            }
        }
    }
    let results = client.admin().elect_leaders(kind, wanted).await?;
    let mut elected = Vec::new();
    let mut unneeded = Vec::new();
    let mut failures = Vec::new();
    for ElectionResult { topic, partition, error, .. } in results {
        let name = format!("{topic}-{partition}");
        match error.map(Error::from) {
            None => elected.push(name),
            Some(error) if error.code == ErrorCode::ElectionNotNeeded => unneeded.push(name),
            Some(error) => failures.push(failure(kind, &topic, partition, &error)),
        }
    }
    let mut text = String::new();
    if !elected.is_empty() {
        let elected = elected.join(", ");
        text += &format!(
            "Successfully completed leader election ({}) for partitions {elected}\n",
            name(kind)
        );
    }
    // Of all, nobody has asked for those.
    if !unneeded.is_empty() && !all {
        text += &format!("Valid replica already elected for partitions {}\n", unneeded.join(", "));
    }
    print(&text)?;
    failed(&failures)
}

fn name(kind: ElectionType) -> &'static str {
    if kind == ElectionType::Unclean { "UNCLEAN" } else { "PREFERRED" }
}

fn failure(kind: ElectionType, topic: &str, partition: i32, error: &Error) -> String {
    format!(
        "Error completing leader election ({}) for partition: {topic}-{partition}: {}\n",
        name(kind),
        named(error)
    )
}

fn failed(failures: &[String]) -> Result<(), Ended> {
    match failures.len() {
        0 => Ok(()),
        count => Err(Ended::out(failures.concat())
            .and_err(format_args!("{count} replica(s) could not be elected"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_in_kafka_s_words() {
        for (line, told) in [
            (
                "--all-topic-partitions",
                "Missing required option(s): bootstrap-server, election-type",
            ),
            (
                "--bootstrap-server h --election-type soon --topic a --partition 0",
                "Cannot parse argument 'soon' of option election-type",
            ),
            (
                "--bootstrap-server h --election-type preferred",
                "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
            ),
            (
                "--bootstrap-server h --election-type unclean --topic a",
                "Missing required option(s): partition",
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(run(&words).unwrap_err().notices, format!("{told}\n"), "{line}");
        }
    }
}
