//! kafka-consumer-perf-test (A24): how fast a member of a group reads.

use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect, print};
use super::options::{Given, Options, flag, value};
use super::properties::Properties;
use crate::signals::Signals;
use crate::timestamp;
use std::time::{Duration, Instant};
use troupe_client::{AutoOffsetReset, Consumer, ConsumerConfig};

static OPTIONS: Options = Options {
    about: "This tool is used to verify the consumer performance.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to read from."),
        value("topic", "topic", "REQUIRED: The topic."),
        value("messages", "count", "REQUIRED: How many records."),
        value("group", "group", "The group [default: one of its own]."),
        value(
            "fetch-size",
            "bytes",
            "About how much of a partition comes at a time [default: 1048576].",
        ),
        flag("from-latest", "Begin at the end."),
        value("socket-buffer-size", "bytes", "Without effect."),
        value("consumer.config", "file", "Settings of the consumer."),
        value("timeout", "ms", "How long nothing may come [default: 10000]."),
        value("reporting-interval", "ms", "With --show-detailed-stats [default: 5000]."),
        flag("show-detailed-stats", "A line at each interval in place of one at the end."),
        flag("hide-header", "No line of headings."),
        flag("print-metrics", "What the consumer has counted."),
        value("date-format", "format", "Times are as by default."),
    ],
    lead: "",
};

const HEADER: &str = "data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, \
                      fetch.MB.sec, fetch.nMsg.sec";
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["topic", "messages", "bootstrap-server"])?;
    let wanted: u64 = given.parsed("messages")?.unwrap_or_default();
    let ms = |option, default| {
        Ok::<_, Ended>(Duration::from_millis(given.parsed::<u64>(option)?.unwrap_or(default)))
    };
    let (timeout, interval) = (ms("timeout", 10_000)?, ms("reporting-interval", 5_000)?);
    let group = match given.value("group")? {
        Some(group) => group.to_owned(),
        None => format!("perf-consumer-{}", rand::random::<u16>()),
    };
    let mut config = ConsumerConfig {
        client_id: "perf-consumer-client".to_owned(),
        auto_offset_reset: match given.has("from-latest") {
            true => AutoOffsetReset::Latest,
            false => AutoOffsetReset::Earliest,
        },
        max_partition_fetch_bytes: given.parsed("fetch-size")?.unwrap_or(1 << 20),
        ..ConsumerConfig::new(group)
    };
    Properties::read(given.value("consumer.config")?)?.consumer(&mut config)?;
    if given.has("date-format") {
        return Err(Ended::cannot(
            "--date-format",
            "times are printed as by default; leave it out",
        ));
    }
    let detailed = given.has("show-detailed-stats");
    link::run(read(&given, config, Test { wanted, timeout, interval, detailed }))
}

struct Test {
    wanted: u64,
    timeout: Duration,
    interval: Duration,
    detailed: bool,
}

async fn read(given: &Given, config: ConsumerConfig, test: Test) -> Result<(), Ended> {
    let mut signals = Signals::new()?;
    let client = connect(given).await?;
    let topic = given.value("topic")?.unwrap_or_default();
    client.topic(topic).await.map_err(|error| Ended::err(named_client(&error)))?;
    let mut consumer = client.consumer(config)?;
    consumer.subscribe([topic])?;
    if !given.has("hide-header") {
        let lead = if test.detailed { "time, threadId" } else { "start.time, end.time" };
        print(&format!("{lead}, {HEADER}\n"))?;
    }
    let mut count = Count::new();
    tokio::select! {
        outcome = test.run(&mut consumer, &mut count) => outcome?,
        signal = signals.next() => return Err(Ended::default().with_code(signal.exit() as u8)),
    }
    if !test.detailed {
        let now = timestamp::now_ms();
        let times = format!("{}, {}", shown(count.began_ms), shown(now));
        print(&format!("{times}, {}\n", count.since(count.began, 0, 0)))?;
    }
    if given.has("print-metrics") {
        let metrics = consumer.metrics();
        print(&format!("\nMetric Name                  Value\n{metrics:?}\n"))?;
    }
    Ok(consumer.close(CLOSE_TIMEOUT).await?)
}

/// What was read.
struct Count {
    began: Instant,
    began_ms: i64,
    /// When there were partitions first.
    joined: Option<Duration>,
    records: u64,
    bytes: u64,
}

impl Count {
    fn new() -> Count {
        Count {
            began: Instant::now(),
            began_ms: timestamp::now_ms(),
            joined: None,
            records: 0,
            bytes: 0,
        }
    }

    /// The figures of what came after those `records` and `bytes`, since then.
    fn since(&self, then: Instant, records: u64, bytes: u64) -> String {
        let megabytes = self.bytes as f64 / f64::from(1 << 20);
        let new_megabytes = (self.bytes - bytes) as f64 / f64::from(1 << 20);
        let new_records = (self.records - records) as f64;
        let elapsed = then.elapsed();
        let joining = self.joined.unwrap_or_else(|| self.began.elapsed());
        let joining = if then == self.began { joining } else { Duration::ZERO };
        let fetching = elapsed.saturating_sub(joining);
        let rate = |amount: f64, time: Duration| match time.as_millis() {
            0 => 0.0,
            ms => amount * 1_000.0 / ms as f64,
        };
        format!(
            "{megabytes:.4}, {:.4}, {}, {:.4}, {}, {}, {:.4}, {:.4}",
            rate(new_megabytes, elapsed),
            self.records,
            rate(new_records, elapsed),
            joining.as_millis(),
            fetching.as_millis(),
            rate(new_megabytes, fetching),
            rate(new_records, fetching)
        )
    }
}

/// `2026-11-30 20:07:04:959`, in UTC.
fn shown(timestamp_ms: i64) -> String {
    let text = timestamp::show(timestamp_ms);
    text.trim_end_matches('Z').replace('T', " ").replace('.', ":")
}

impl Test {
    async fn run(&self, consumer: &mut Consumer, count: &mut Count) -> Result<(), Ended> {
        let mut last = (count.began, 0, 0);
        while count.records < self.wanted {
            let next = tokio::time::timeout(self.timeout, consumer.next_batch()).await;
            let Ok(batch) = next else {
                let ms = self.timeout.as_millis();
                return print(&format!(
                    "WARNING: Exiting before consuming the expected number of messages: timeout ({ms} ms) exceeded. You can \
                     use the --timeout option to increase the timeout.\n"
                ));
            };
            let batch = batch.map_err(|error| Ended::err(named_client(&error)))?;
            count.joined.get_or_insert_with(|| count.began.elapsed());
            for record in batch.iter() {
                let record = record?;
                let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
                count.records += 1;
                count.bytes += size(record.key) + size(record.value);
            }
            if self.detailed && last.0.elapsed() >= self.interval {
                let now = shown(timestamp::now_ms());
                print(&format!("{now}, 0, {}\n", count.since(last.0, last.1, last.2)))?;
                last = (Instant::now(), count.records, count.bytes);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_figures_as_headings() {
        let count =
            Count { joined: Some(Duration::ZERO), records: 3, bytes: 1 << 20, ..Count::new() };
        let figures = count.since(count.began, 0, 0);
        assert_eq!(figures.split(", ").count(), HEADER.split(", ").count());
        assert!(figures.starts_with("1.0000, "), "{figures}");
        assert_eq!(shown(0), "1970-01-01 00:00:00:000");
    }
}
