//! kafka-delete-records (A20): up to which offset stands in a file of JSON.

use super::ended::Ended;
use super::errors::named;
use super::link::{self, connect, print};
use super::options::{Given, Options, value};
use serde::Deserialize;
use troupe_proto::admin::v1::{DeleteRecordsRequest, RecordsDeletion};
use troupe_proto::error::Error;

static OPTIONS: Options = Options {
    about: "This tool helps to delete records of the given partitions down to the specified offset.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to ask."),
        value("command-config", "file", "Settings of the client."),
        value(
            "offset-json-file",
            "file",
            "REQUIRED: {\"partitions\":[{\"topic\":\"orders\",\"partition\":0,\"offset\":42}],\"version\":1}; -1 is the end.",
        ),
    ],
    lead: "",
};

#[derive(Deserialize)]
struct Offsets {
    partitions: Vec<UpTo>,
    #[serde(default = "first_version")]
    version: i32,
}

fn first_version() -> i32 {
    1
}

#[derive(Deserialize)]
struct UpTo {
    topic: String,
    partition: i32,
    offset: i64,
}

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["bootstrap-server", "offset-json-file"])?;
    let file = given.value("offset-json-file")?.unwrap_or_default();
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|_| Ended::err(format_args!("Unable to read file {file}")))?;
    let wanted = parse(&text)?;
    link::run(delete(&given, wanted))
}

fn parse(text: &str) -> Result<Vec<UpTo>, Ended> {
    let read: Offsets = serde_json::from_str(text).map_err(|error| {
        Ended::err(format_args!("The input string is not a valid JSON\n{error}"))
    })?;
    if read.version != 1 {
        let told = format!("Not supported version field value {}", read.version);
        return Err(Ended::err(told));
    }
    for (at, one) in read.partitions.iter().enumerate() {
        let same = |other: &UpTo| other.topic == one.topic && other.partition == one.partition;
        if read.partitions[..at].iter().any(same) {
            return Err(Ended::err(format_args!(
                "Offset json file contains duplicate topic partitions: {}-{}",
                one.topic, one.partition
            )));
        }
    }
    Ok(read.partitions)
}

async fn delete(given: &Given, wanted: Vec<UpTo>) -> Result<(), Ended> {
    let client = connect(given).await?;
    print("Executing records delete operation\n")?;
    let one = |it: UpTo| RecordsDeletion {
        topic: it.topic,
        partition: it.partition,
        topic_id: Default::default(),
        before_offset: it.offset,
    };
    let partitions = wanted.into_iter().map(one).collect();
    let request = DeleteRecordsRequest { partitions, timeout_ms: 0, validate_only: false };
    let results = client.admin().delete_records(request).await?;
    let mut text = "Records delete operation completed:\n".to_owned();
    for result in results {
        let name = format!("partition: {}-{}", result.topic, result.partition);
        text += &match result.error {
            None => format!("{name}\tlow_watermark: {}\n", result.low_watermark),
            Some(error) => format!("{name}\terror: {}\n", named(&Error::from(error))),
        };
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_kafka_s() {
        let text = r#"{"partitions":[{"topic":"first","partition":0,"offset":2}],"version":1}"#;
        let read = parse(text).ok().unwrap();
        assert_eq!((read[0].topic.as_str(), read[0].offset), ("first", 2));
        let told = |text| parse(text).err().unwrap().notices;
        assert!(told("nonsense").starts_with("The input string is not a valid JSON\n"));
        let one = r#"{"topic":"a","partition":0,"offset":2}"#;
        let twice = format!(r#"{{"partitions":[{one},{one}]}}"#);
        assert!(parse(&twice).err().unwrap().notices.contains("duplicate topic partitions: a-0"));
    }
}
