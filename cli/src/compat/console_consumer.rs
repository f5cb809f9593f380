//! kafka-console-consumer (A6): records of a topic, or of all that match a pattern, as a member of a group.
//!
//! Promise: what is committed was printed.

mod printing;

use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect};
use super::options::{Given, Options, flag, value};
use super::properties::Properties;
use crate::signals::Signals;
use crate::streams::{notice, write_results};
use printing::Formatter;
use std::time::Duration;
use troupe_client::{
    AutoOffsetReset, Client, Consumer, ConsumerConfig, FetchedBatch, TopicPartition,
};
use troupe_proto::ids::Offset;

static OPTIONS: Options = Options {
    about: "This tool helps to read data from Kafka topics and outputs it to standard output.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to read from."),
        value("topic", "topic", "The topic."),
        value("include", "pattern", "Topics, as a regular expression."),
        value("partition", "number", "Only this partition, without a group."),
        value("offset", "offset", "Where to begin in it: a number, earliest, or latest [default]."),
        flag("from-beginning", "Begin with the first record, unless the group has committed."),
        value("group", "group", "The group [default: one of its own]."),
        value("max-messages", "count", "End after so many records."),
        value("timeout-ms", "ms", "End if none comes for so long."),
        value("isolation-level", "level", "read_uncommitted [default] or read_committed."),
        flag("skip-message-on-error", "Go on behind a record that cannot be printed."),
        flag("enable-systest-events", "There are none."),
        value(
            "formatter",
            "class",
            "DefaultMessageFormatter, OffsetsMessageFormatter, TransactionLogMessageFormatter …",
        ),
        value("formatter-config", "file", "Its properties from a file."),
        value("property", "key=value", "print.key, print.partition, key.separator …"),
        value("key-deserializer", "class", "What keys are."),
        value("value-deserializer", "class", "What values are."),
        value("consumer-property", "key=value", "A setting of the consumer."),
        value("consumer.config", "file", "The same from a file."),
    ],
    lead: "",
};

/// For the last commit and for leaving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where to begin in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    Earliest,
    Latest,
    At(u64),
}

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    if given.has("topic") == given.has("include") {
        return Err(given.usage("Exactly one of --include/--topic is required."));
    }
    given.require(&["bootstrap-server"])?;
    let partition = partition(&given)?;
    let properties = Properties::read(given.value("consumer.config")?)?;
    let properties = properties.and(&given.values("consumer-property"))?;
    let config = config(&given, &properties, partition.is_some())?;
    let formatter = Formatter::new(&given)?;
    // As there: before anything is read, and nothing was.
    let most = match given.parsed::<u64>("max-messages") {
        Ok(most) => most.unwrap_or(u64::MAX),
        Err(ended) => return Err(ended.and_err("Processed a total of 0 messages")),
    };
    let patience = given.parsed::<i64>("timeout-ms")?.and_then(|ms| u64::try_from(ms).ok());
    link::run(async {
        let signals = Signals::new()?;
        let client = connect(&given).await?;
        let consumer = open(&client, &given, config, partition).await?;
        let mut reading = Reading {
            formatter,
            printed: 0,
            most,
            patience: patience.map(Duration::from_millis),
            skips: given.has("skip-message-on-error"),
        };
        reading.run(consumer, signals).await
    })
}

fn partition(given: &Given) -> Result<Option<(u32, Begin)>, Ended> {
    let partition = given.parsed::<u32>("partition")?;
    if partition.is_some() && given.has("include") {
        return Err(given.usage("The topic is required when partition is specified."));
    }
    if partition.is_some() && given.has("group") {
        return Err(given.usage("Options group and partition cannot be specified together."));
    }
    let offset = given.value("offset")?;
    if offset.is_some() && partition.is_none() {
        return Err(given.usage("The partition is required when offset is specified."));
    }
    if offset.is_some() && given.has("from-beginning") {
        return Err(given.usage("Options from-beginning and offset cannot be specified together."));
    }
    let begin = match offset.map(str::to_ascii_lowercase).as_deref() {
        None if given.has("from-beginning") => Begin::Earliest,
        None | Some("latest") => Begin::Latest,
        Some("earliest") => Begin::Earliest,
        Some(number) => match number.parse() {
            Ok(number) => Begin::At(number),
            Err(_) => {
                return Err(given.usage(&format!(
                    "The provided offset value '{number}' is incorrect. Valid values are 'earliest', 'latest', or a \
                     non-negative long."
                )));
            }
        },
    };
    Ok(partition.map(|partition| (partition, begin)))
}

fn config(
    given: &Given,
    properties: &Properties,
    is_assigned: bool,
) -> Result<ConsumerConfig, Ended> {
    let mut config = ConsumerConfig {
        client_id: "console-consumer".to_owned(),
        enable_auto_commit: false,
        ..ConsumerConfig::default()
    };
    let named: Vec<&str> =
        given.value("group")?.into_iter().chain(properties.get("group.id")).collect();
    if let [one, other] = named.as_slice()
        && one != other
    {
        return Err(given.usage(&format!(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', or via \
             '--consumer.config') do not match. Detected group ids: '{other}', '{one}'"
        )));
    }
    match named.first() {
        Some(group) => {
            (*group).clone_into(&mut config.group_id);
            config.enable_auto_commit = true;
        }
        // Nobody else's; and nothing is committed.
        None if is_assigned => {}
        None => config.group_id = format!("console-consumer-{}", rand::random::<u16>()),
    }
    properties.consumer(&mut config)?;
    if is_assigned {
        config.enable_auto_commit = false;
    }
    if given.has("from-beginning") {
        if let Some(reset) = properties.get("auto.offset.reset")
            && reset != "earliest"
        {
            return Err(Ended::err(format_args!(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', please remove one option"
            )));
        }
        config.auto_offset_reset = AutoOffsetReset::Earliest;
    }
    if let Some(level) = given.value("isolation-level")? {
        config.isolation_level = level.parse().map_err(Ended::err)?;
    }
    Ok(config)
}

async fn open(
    client: &Client,
    given: &Given,
    config: ConsumerConfig,
    partition: Option<(u32, Begin)>,
) -> Result<Consumer, Ended> {
    let told = |error: &troupe_client::ClientError| Ended::err(named_client(error));
    let mut consumer = client.consumer(config).map_err(|error| told(&error))?;
    let Some(topic) = given.value("topic")? else {
        let pattern = given.value("include")?.unwrap_or_default();
        consumer.subscribe_pattern(pattern).map_err(|error| told(&error))?;
        return Ok(consumer);
    };
    // A topic that is not there, and is not made by use, would be waited for: who has misspelt it had better know.
    client.topic_or_create(topic).await.map_err(|error| told(&error))?;
    match partition {
        None => consumer.subscribe([topic]).map_err(|error| told(&error))?,
        Some((number, begin)) => {
            let at = TopicPartition::new(topic, number);
            consumer.assign([at.clone()]).map_err(|error| told(&error))?;
            let sought = match begin {
                Begin::Earliest => consumer.seek_to_beginning(&[at]),
                Begin::Latest => consumer.seek_to_end(&[at]),
                Begin::At(offset) => consumer.seek(&at, Offset(offset)),
            };
            sought.map_err(|error| told(&error))?;
        }
    }
    Ok(consumer)
}

struct Reading {
    formatter: Formatter,
    printed: u64,
    most: u64,
    /// How long nothing may come.
    patience: Option<Duration>,
    skips: bool,
}

impl Reading {
    async fn run(&mut self, mut consumer: Consumer, mut signals: Signals) -> Result<(), Ended> {
        let outcome = loop {
            if self.printed >= self.most {
                break Ok(());
            }
            let next = async {
                match self.patience {
                    Some(patience) => {
                        tokio::time::timeout(patience, consumer.next_batch()).await.ok()
                    }
                    None => Some(consumer.next_batch().await),
                }
            };
            let next = tokio::select! {
                next = next => next,
                signal = signals.next() => {
                    break Err(Ended::default().with_code(signal.exit() as u8));
                }
            };
            match next {
                None => {
                    notice!(
                        "ERROR Error processing message, terminating consumer process: \
                         org.apache.kafka.common.errors.TimeoutException"
                    );
                    break Ok(());
                }
                Some(Err(error)) => break Err(Ended::err(named_client(&error))),
                Some(Ok(batch)) => {
                    if let Err(ended) = self.print(&mut consumer, &batch) {
                        break Err(ended);
                    }
                }
            }
        };
        // What was printed is committed, where there is a group for it; nothing else is.
        let closed = consumer.close(CLOSE_TIMEOUT).await;
        notice!("Processed a total of {} messages", self.printed);
        outcome?;
        Ok(closed?)
    }

    /// Where it ends within a batch, the rest is for the next one.
    fn print(&mut self, consumer: &mut Consumer, batch: &FetchedBatch) -> Result<(), Ended> {
        let mut text = Vec::new();
        let is_append_time = batch.header.attributes.is_log_append_time();
        let mut failure = None;
        for record in batch.records() {
            let record = record?;
            if self.printed >= self.most {
                // It may have been given up meanwhile: then it is the next member's anyway.
                let _ = consumer.seek(&batch.topic_partition(), record.offset);
                break;
            }
            match self.formatter.print(&record, is_append_time, &mut text) {
                Ok(()) => {}
                Err(told) if self.skips => notice!("ERROR {told}, skipping this message"),
                Err(told) => {
                    let _ = consumer.seek(&batch.topic_partition(), record.offset);
                    failure = Some(Ended::err(told));
                    break;
                }
            }
            self.printed += 1;
        }
        let written = write_results(&text);
        if written.is_err() {
            let _ = consumer.seek(&batch.topic_partition(), batch.position());
        }
        written.map_err(|error| Ended::from(crate::failure::Failure::writing(&error)))?;
        failure.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_told_in_kafka_s_words() {
        for (line, told) in [
            ("--bootstrap-server h", "Exactly one of --include/--topic is required."),
            ("--topic t --include b", "Exactly one of --include/--topic is required."),
            ("--topic t", "Missing required argument \"[bootstrap-server]\""),
            (
                "--bootstrap-server h --topic t --offset 3",
                "The partition is required when offset is specified.",
            ),
            (
                "--bootstrap-server h --topic t --partition 0 --offset x",
                "The provided offset value 'x' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long.",
            ),
            (
                "--bootstrap-server h --topic t --partition 0 --offset 1 --from-beginning",
                "Options from-beginning and offset cannot be specified together.",
            ),
            (
                "--bootstrap-server h --topic t --partition 0 --group g",
                "Options group and partition cannot be specified together.",
            ),
            (
                "--bootstrap-server h --topic t --from-beginning --consumer-property auto.offset.reset=latest",
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset=latest', please remove one option",
            ),
            (
                "--bootstrap-server h --topic t --group a --consumer-property group.id=b",
                "The group ids provided in different places",
            ),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let ended = run(&words).unwrap_err();
            assert!(ended.notices.starts_with(told), "{line}: {}", ended.notices);
        }
    }
}
