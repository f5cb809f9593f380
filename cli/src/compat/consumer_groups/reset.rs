//! `--reset-offsets` (A9).

use super::named::{failed, groups, is_missing, state_name};
use crate::compat::columns::row;
use crate::compat::ended::Ended;
use crate::compat::link::print;
use crate::compat::options::Given;
use crate::streams::notice;
use crate::timestamp;
use crate::topic_selection::TopicSelection;
use std::collections::BTreeMap;
use troupe_client::{Client, ClientError};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::reset_group_offsets_request::To;
use troupe_proto::log::v1::{OffsetReset, ResetGroupOffsetsRequest, TopicPartitions};

/// The places to move to: exactly one of them.
const TARGETS: [&str; 8] = [
    "to-offset",
    "to-current",
    "to-datetime",
    "from-file",
    "by-duration",
    "to-earliest",
    "to-latest",
    "shift-by",
];

const NO_EXECUTE: &str = "WARN: No action will be performed as the --execute option is missing. Add --dry-run to say so.";

/// What was asked for.
pub struct Reset<'a> {
    given: &'a Given,
    target: Target,
    topics: Vec<TopicPartitions>,
    execute: bool,
}

enum Target {
    To(To),
    /// Where it is, or the end where nothing is committed.
    Current,
    /// Each group, topic and partition its own; no group: the one that is named.
    Listed(Vec<Line>),
}

/// A line of CSV: the group if it is named, topic, partition, offset.
type Line = (Option<String>, String, i32, i64);

/// A partition's new offset.
type Moved = BTreeMap<(String, i32), i64>;

impl<'a> Reset<'a> {
    /// # Errors
    /// What does not go together.
    pub fn new(given: &'a Given) -> Result<Reset<'a>, Ended> {
        let execute = given.has("execute");
        if execute && given.has("dry-run") {
            return Err(
                given.usage("Option [reset-offsets] only accepts one of [dry-run], [execute]")
            );
        }
        if !execute && !given.has("dry-run") {
            notice!("{NO_EXECUTE}");
        }
        let named: Vec<&str> = TARGETS.into_iter().filter(|target| given.has(target)).collect();
        if let [first, second, ..] = named.as_slice() {
            return Err(given
                .usage(&format!("Option \"[{first}]\" can't be used with option \"[{second}]\"")));
        }
        if named != ["from-file"] && !given.has("topic") && !given.has("all-topics") {
            return Err(
                given.usage("One of the reset scopes should be defined: --all-topics, --topic.")
            );
        }
        given.exclude("all-topics", &["topic"])?;
        let target = match named.first() {
            None => {
                let scenarios: Vec<String> =
                    TARGETS.iter().map(|target| format!("[{target}]")).collect();
                return Err(Ended::err(format_args!(
                    "Option '[reset-offsets]' requires one of the following scenarios: [{}]",
                    scenarios.join(", ")
                )));
            }
            Some(&name) => target(given, name)?,
        };
        let mut topics = Vec::new();
        for text in given.values("topic") {
            topics.push(text.parse::<TopicSelection>().map_err(Ended::err)?);
        }
        Ok(Reset { given, target, topics: TopicSelection::to_wire(&topics), execute })
    }

    pub async fn run(&self, client: &Client) -> Result<(), Ended> {
        let mut all: Vec<(String, Moved)> = Vec::new();
        for group in groups(client, self.given).await? {
            match client.admin().describe_group(&group).await {
                Ok(found) if !found.members.is_empty() => {
                    let state = state_name(found.state());
                    print(&format!(
                        "\nError: Assignments can only be reset if the group '{group}' is inactive, but the current state \
                         is {state}.\n"
                    ))?;
                    all.push((group, Moved::new()));
                    continue;
                }
                Ok(_) => {}
                // It is made by what is committed for it.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(failed(&error)),
            }
            let moved = self.of(client, &group).await?;
            all.push((group, moved));
        }
        print(&self.text(&all))
    }

    fn text(&self, all: &[(String, Moved)]) -> String {
        if self.given.has("export") {
            let several = all.len() > 1;
            let mut text = String::new();
            for (group, moved) in all {
                for ((topic, partition), offset) in moved {
                    let lead = if several { format!("{group},") } else { String::new() };
                    text += &format!("{lead}{topic},{partition},{offset}\n");
                }
            }
            return text + "\n";
        }
        let widths = [30, 30, 10, 15];
        let mut text =
            format!("\n{}", row(&widths, &["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"]));
        for (group, moved) in all {
            for ((topic, partition), offset) in moved {
                let (partition, offset) = (partition.to_string(), offset.to_string());
                text += &row(&widths, &[group, topic, &partition, &offset]);
            }
        }
        text
    }

    async fn of(&self, client: &Client, group: &str) -> Result<Moved, Ended> {
        match &self.target {
            Target::To(to) => {
                let resets = self.ask(client, group, self.topics.clone(), *to).await?;
                moved(resets)
            }
            Target::Current => {
                let resets = self.ask(client, group, self.topics.clone(), To::ShiftBy(0)).await?;
                let (bare, known): (Vec<_>, Vec<_>) = resets.into_iter().partition(is_bare);
                let mut all = moved(known)?;
                let named = bare.into_iter().filter_map(|reset| reset.partition);
                let named: Vec<TopicPartitions> =
                    named.map(|at| one(&at.topic, at.partition)).collect();
                if !named.is_empty() {
                    all.extend(moved(self.ask(client, group, named, To::Latest(true)).await?)?);
                }
                Ok(all)
            }
            Target::Listed(listed) => {
                let mut all = Moved::new();
                let ours =
                    listed.iter().filter(|(of, ..)| of.as_ref().is_none_or(|of| of == group));
                for (_, topic, partition, offset) in ours {
                    let named = vec![one(topic, *partition)];
                    all.extend(moved(self.ask(client, group, named, To::Offset(*offset)).await?)?);
                }
                Ok(all)
            }
        }
    }

    async fn ask(
        &self,
        client: &Client,
        group: &str,
        partitions: Vec<TopicPartitions>,
        to: To,
    ) -> Result<Vec<OffsetReset>, Ended> {
        let request = ResetGroupOffsetsRequest {
            group_id: group.to_owned(),
            partitions,
            to: Some(to),
            validate_only: !self.execute,
        };
        match client.admin().reset_group_offsets(request).await {
            Err(error) if error.reason() == ErrorCode::UnknownTopic => Err(unknown_topic()),
            answered => answered.map_err(|error: ClientError| failed(&error)),
        }
    }
}

fn unknown_topic() -> Ended {
    Ended::out(
        "\nError: Executing consumer group command failed due to This server does not host this topic-partition.",
    )
}

fn one(topic: &str, partition: i32) -> TopicPartitions {
    let (topic, partitions) = (topic.to_owned(), vec![partition]);
    TopicPartitions { topic, partitions, ..TopicPartitions::default() }
}

fn is_bare(reset: &OffsetReset) -> bool {
    let code = reset.error.clone().map(|error| Error::from(error).code);
    code == Some(ErrorCode::NoCommittedOffset)
}

fn moved(resets: Vec<OffsetReset>) -> Result<Moved, Ended> {
    let mut all = Moved::new();
    for reset in resets {
        let at = reset.partition.unwrap_or_default();
        match reset.error.map(Error::from) {
            None => {
                all.insert((at.topic, at.partition), reset.new_offset);
            }
            Some(error) if error.code == ErrorCode::UnknownTopic => return Err(unknown_topic()),
            Some(error) => {
                return Err(Ended::out(format_args!(
                    "\nError: Executing consumer group command failed due to {}",
                    error.message
                )));
            }
        }
    }
    Ok(all)
}

fn target(given: &Given, name: &str) -> Result<Target, Ended> {
    let text = given.value(name)?.unwrap_or_default();
    Ok(match name {
        "to-earliest" => Target::To(To::Earliest(true)),
        "to-latest" => Target::To(To::Latest(true)),
        "to-current" => Target::Current,
        "to-offset" => Target::To(To::Offset(given.parsed(name)?.unwrap_or_default())),
        "shift-by" => Target::To(To::ShiftBy(given.parsed(name)?.unwrap_or_default())),
        "to-datetime" => {
            let time = timestamp::parse(text).ok_or_else(|| {
                Ended::out(format_args!(
                    "\nError: Executing consumer group command failed due to Unparseable date: \"{text}\""
                ))
                .with_code(0)
            })?;
            Target::To(To::TimestampMs(time))
        }
        "by-duration" => {
            let ms = duration_ms(text).ok_or_else(|| {
                Ended::out(format_args!(
                    "\nError: Executing consumer group command failed due to Text cannot be parsed to a Duration"
                ))
                .with_code(0)
            })?;
            Target::To(To::TimestampMs(timestamp::now_ms() - ms))
        }
        _ => {
            let read = std::fs::read_to_string(text);
            let read = read.map_err(|_| Ended::err(format_args!("Unable to read file {text}")))?;
            Target::Listed(listed(&read).map_err(Ended::err)?)
        }
    })
}

/// ISO 8601: `P1DT2H3M4.5S`.
fn duration_ms(text: &str) -> Option<i64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    let rest = text.strip_prefix('P')?;
    let (days, time) = rest.split_once('T').unwrap_or((rest, ""));
    let mut total = 0.0;
    let mut take = |text: &str, units: &[(char, f64)]| -> Option<()> {
        let mut units = units.iter();
        let mut left = text;
        while !left.is_empty() {
            let at = left.find(|c: char| c.is_ascii_alphabetic())?;
            let unit = left[at..].chars().next()?;
            let (_, seconds) = units.find(|(name, _)| *name == unit)?;
            total += left[..at].parse::<f64>().ok()? * seconds;
            left = &left[at + 1..];
        }
        Some(())
    };
    take(days, &[('D', 86_400.0)])?;
    take(time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)])?;
    (!rest.is_empty()).then_some((sign * total * 1_000.0) as i64)
}

/// `topic,partition,offset`, or with the group in front.
fn listed(text: &str) -> Result<Vec<Line>, String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let (group, rest) = match cells.as_slice() {
            [group, rest @ ..] if rest.len() == 3 => (Some((*group).to_owned()), rest),
            rest => (None, rest),
        };
        let read = match rest {
            [topic, partition, offset] => partition
                .parse()
                .ok()
                .zip(offset.parse().ok())
                .map(|(partition, offset)| (group, (*topic).to_owned(), partition, offset)),
            _ => None,
        };
        found.push(read.ok_or_else(|| format!("Invalid csv line: {line}"))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_iso_8601() {
        assert_eq!(duration_ms("PT1H"), Some(3_600_000));
        assert_eq!(duration_ms("P1DT2H3M4.5S"), Some(86_400_000 + 7_200_000 + 180_000 + 4_500));
        assert_eq!(duration_ms("-PT1S"), Some(-1_000));
        for wrong in ["", "P", "1H", "PT1M1H", "PT1X", "PTH"] {
            assert_eq!(duration_ms(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_export_can_be_read_again() {
        let read = listed("first,0,3\ng,second,1,4\n\n").unwrap();
        assert_eq!(read[0], (None, "first".to_owned(), 0, 3));
        assert_eq!(read[1], (Some("g".to_owned()), "second".to_owned(), 1, 4));
        assert_eq!(listed("first,0").unwrap_err(), "Invalid csv line: first,0");
    }
}
