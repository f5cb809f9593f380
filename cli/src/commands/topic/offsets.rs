//! `troupe topic offsets`: `topic:partition:offset`, as kafka-get-offsets prints them (A20).
//!
//! Promises: a partition whose leader does not answer keeps no other back, and is told.

use super::partition_pattern::{PartitionPattern, TopicPattern};
use crate::exit::Exit;
use crate::failure::{Context, Failure, Kind};
use crate::global::Global;
use crate::offset_range::{Moment, Position};
use crate::output::{Format, Table, number, text};
use crate::streams::notice;
use crate::timestamp;
use clap::Args;
use futures::future::join_all;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use troupe_client::{Client, OffsetSpec};
use troupe_proto::ids::PartitionId;

/// How long a partition without a leader is waited for: the others are worth showing.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub struct Offsets {
    /// Topics, with or without partitions; several may be separated by commas [default: all]
    #[arg(value_name = "TOPIC[:PARTITIONS]", value_delimiter = ',')]
    topics: Vec<PartitionPattern>,
    /// latest (-1), earliest (-2), max-timestamp (-3), @TIME (a timestamp or a date), -48h, or milliseconds since 1970
    #[arg(long, visible_alias = "time", value_name = "AT", default_value = "latest")]
    #[arg(value_parser = parse_at)]
    at: At,
    /// Not the topics that Troupe keeps for itself
    #[arg(long, visible_alias = "exclude-internal-topics")]
    exclude_internal: bool,
}

/// Which offset, before it is known what time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Earliest,
    Latest,
    MaxTimestamp,
    Time(Moment),
}

fn parse_at(text: &str) -> Result<At, String> {
    if let Some(time) = text.strip_prefix('@') {
        let moment = Moment::parse(time);
        return moment.map(At::Time).ok_or_else(|| format!("`{time}` is no time"));
    }
    if let Ok(Position::At(moment)) = text.parse() {
        return Ok(At::Time(moment));
    }
    match text {
        "end" => return Ok(At::Latest),
        "start" => return Ok(At::Earliest),
        _ => {}
    }
    match text {
        "latest" | "-1" => Ok(At::Latest),
        // All that is kept is kept on the brokers' own disks.
        "earliest" | "-2" | "earliest-local" | "-4" => Ok(At::Earliest),
        "max-timestamp" | "-3" => Ok(At::MaxTimestamp),
        "latest-tiered" | "-5" | "earliest-pending-upload" | "-6" => {
            Err("there is no tiered storage here".to_owned())
        }
        _ => {
            match text.parse::<i64>() {
                Ok(ms) if ms >= 0 => Ok(At::Time(Moment::Timestamp(ms))),
                _ => Err("use latest, earliest, max-timestamp, @TIME or milliseconds since 1970"
                    .to_owned()),
            }
        }
    }
}

impl At {
    fn spec(self, now_ms: i64) -> OffsetSpec {
        match self {
            At::Earliest => OffsetSpec::Earliest,
            At::Latest => OffsetSpec::Latest,
            At::MaxTimestamp => OffsetSpec::MaxTimestamp,
            At::Time(moment) => OffsetSpec::Timestamp(moment.timestamp_ms(now_ms)),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OffsetView {
    topic: String,
    partition: u32,
    /// None: no record is like that, or there was no answer.
    offset: Option<u64>,
    /// Of the record; none for earliest and latest.
    timestamp: Option<i64>,
    leader_epoch: Option<u32>,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub async fn run(global: &Global, offsets: Offsets) -> Result<(), Failure> {
    let client = global.connect().await?;
    let partitions = find(&client, &offsets).await?;
    let spec = offsets.at.spec(timestamp::now_ms());
    let asked = partitions
        .into_iter()
        .map(async |(topic, partitions)| ask(&client, &topic, partitions, spec).await);
    let mut views = Vec::new();
    for answers in join_all(asked).await {
        views.extend(answers?);
    }
    let output = global.output();
    match output.format {
        Format::Table => {
            let lines = views.iter().filter_map(|view| {
                Some(format!("{}:{}:{}\n", view.topic, view.partition, view.offset?))
            });
            output.print(&lines.collect::<String>())?;
        }
        _ => output.many("offsets", &views, || table(&views))?,
    }
    conclude(&views)
}

fn conclude(views: &[OffsetView]) -> Result<(), Failure> {
    let mut failed = 0;
    for view in views {
        if let Some(why) = &view.error {
            notice!("{}:{}: {why}", view.topic, view.partition);
            failed += 1;
        }
    }
    match failed {
        0 => Ok(()),
        failed => {
            let cause = format!("{failed} of {} partitions did not answer", views.len());
            Err(Failure::new(Exit::Failed, "", cause).with_hint(
                "`troupe partition list --offline` shows the partitions without a leader",
            ))
        }
    }
}

/// The partitions that are meant, of each topic.
async fn find(
    client: &Client,
    offsets: &Offsets,
) -> Result<BTreeMap<String, BTreeSet<u32>>, Failure> {
    let what = || "cannot list the topics".to_owned();
    let topics = client.admin().list_topics(!offsets.exclude_internal).await.with_context(what)?;
    let mut found: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for topic in &topics {
        let patterns: Vec<&PartitionPattern> =
            offsets.topics.iter().filter(|pattern| pattern.matches_topic(&topic.name)).collect();
        let count = topic.partitions.len() as u32;
        let wanted = (0..count).filter(|partition| {
            offsets.topics.is_empty() || patterns.iter().any(|pattern| pattern.has(*partition))
        });
        let wanted: BTreeSet<u32> = wanted.collect();
        if let Some(missing) =
            patterns.iter().filter_map(|pattern| named(pattern)).find(|one| *one >= count)
        {
            let cause = format!("it has {count} partitions, and no partition {missing}");
            return Err(Failure::new(Exit::NotFound, cannot(&topic.name), cause)
                .with_hint("`troupe topic describe NAME` shows the partitions"));
        }
        if !wanted.is_empty() {
            found.insert(topic.name.clone(), wanted);
        }
    }
    for pattern in &offsets.topics {
        let is_there = topics.iter().any(|topic| pattern.matches_topic(&topic.name));
        if let TopicPattern::Name(name) = &pattern.topic
            && !is_there
        {
            return Err(Failure::new(Exit::NotFound, cannot(name), "there is no such topic")
                .of_missing(Kind::Topic, name)
                .with_hint("`troupe topic list` shows what there is"));
        }
    }
    if found.is_empty() && !offsets.topics.is_empty() {
        let cause = "no partition matches";
        return Err(Failure::new(Exit::NotFound, "cannot show offsets", cause)
            .with_hint("`troupe topic list` shows what there is"));
    }
    Ok(found)
}

/// A partition that is asked for by its number, of a topic that is named.
fn named(pattern: &PartitionPattern) -> Option<u32> {
    match pattern.topic {
        TopicPattern::Name(_) => pattern.single(),
        TopicPattern::Any | TopicPattern::Matching(_) => None,
    }
}

fn cannot(topic: &str) -> String {
    format!("cannot show offsets of {topic}")
}

async fn ask(
    client: &Client,
    topic: &str,
    partitions: BTreeSet<u32>,
    spec: OffsetSpec,
) -> Result<Vec<OffsetView>, Failure> {
    let queries: Vec<_> = partitions.iter().map(|number| (PartitionId(*number), spec)).collect();
    let answers = client.list_offsets_each(topic, &queries, PATIENCE).await;
    let answers = answers.with_context(|| cannot(topic))?;
    let view = |(partition, answer): (u32, Result<troupe_client::ListedOffset, _>)| {
        let topic = topic.to_owned();
        match answer {
            Ok(listed) => OffsetView {
                topic,
                partition,
                offset: listed.offset.map(|offset| offset.0),
                timestamp: listed.timestamp_ms,
                leader_epoch: Some(listed.leader_epoch.0),
                error: None,
            },
            Err(error) => {
                let error: troupe_client::ClientError = error;
                OffsetView {
                    topic,
                    partition,
                    offset: None,
                    timestamp: None,
                    leader_epoch: None,
                    error: Some(error.to_string()),
                }
            }
        }
    };
    Ok(partitions.into_iter().zip(answers).map(view).collect())
}

fn table(views: &[OffsetView]) -> Table {
    let mut table = Table::new(&[
        text("TOPIC"),
        number("PARTITION"),
        number("OFFSET"),
        text("TIMESTAMP"),
        number("LEADER EPOCH"),
    ]);
    for view in views {
        table.row(vec![
            view.topic.clone(),
            view.partition.to_string(),
            view.offset.map_or_else(String::new, |offset| offset.to_string()),
            view.timestamp.map_or_else(String::new, timestamp::show),
            view.leader_epoch.map_or_else(String::new, |epoch| epoch.to_string()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A20, and the words of our own.
    #[test]
    fn positions_have_kafka_s_names_and_numbers() {
        for (text, at) in [
            ("latest", At::Latest),
            ("-1", At::Latest),
            ("earliest", At::Earliest),
            ("-2", At::Earliest),
            ("-3", At::MaxTimestamp),
            ("max-timestamp", At::MaxTimestamp),
            ("1700000000000", At::Time(Moment::Timestamp(1_700_000_000_000))),
            ("@2024-02-29", At::Time(Moment::Timestamp(1_709_164_800_000))),
            ("@-1h", At::Time(Moment::BeforeNow { ms: 3_600_000 })),
            ("-1h", At::Time(Moment::BeforeNow { ms: 3_600_000 })),
            ("end", At::Latest),
        ] {
            assert_eq!(parse_at(text), Ok(at), "{text}");
        }
        for text in ["", "now", "-5", "-7", "@", "@noon", "1.5"] {
            assert!(parse_at(text).is_err(), "{text}");
        }
    }
}
