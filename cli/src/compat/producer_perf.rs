//! kafka-producer-perf-test (A23): records to a schedule, and how long each took to be acknowledged.

use super::arguments::{Program, Words, optional, required, several, switch};
use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect_to, print};
use super::properties::Properties;
use crate::latency::Latencies;
use crate::pace::Pace;
use crate::signals::Signals;
use crate::streams::notice;
use bytes::Bytes;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use troupe_client::{ClientError, Producer, ProducerConfig, ProducerRecord};

static PROGRAM: Program = Program {
    name: "producer-performance",
    about: "This tool is used to verify the producer performance.",
    args: &[
        required(&["--topic"], "The topic."),
        required(&["--num-records"], "How many records."),
        required(&["--throughput"], "Records a second at most; -1: as many as go."),
        optional(&["--record-size"], "Bytes in each."),
        optional(&["--payload-file"], "A file of payloads, of which each is drawn."),
        optional(&["--payload-delimiter"], "What stands between payloads in it [default: \\n]."),
        switch(&["--payload-monotonic"], "The payload is the record's number."),
        several(&["--producer-props"], "Settings of the producer."),
        optional(&["--producer.config"], "The same from a file."),
        switch(&["--print-metrics"], "What the producer has counted."),
        optional(&["--transactional-id"], "Send in transactions."),
        optional(&["--transaction-duration-ms"], "How long each is [default: 3000]."),
    ],
    one_of: &[],
    commands: &[],
};

/// Between two lines.
const REPORT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub fn run(words: &[String]) -> Result<(), Ended> {
    if words.is_empty() {
        // As there: help, and no failure.
        return run(&["--help".to_owned()]);
    }
    let words = PROGRAM.read(words)?;
    let records: u64 = words.number("--num-records", "Long")?;
    let throughput: f64 = words.number("--throughput", "Double")?;
    let payloads = Payloads::new(&words)?;
    if !words.has("--producer-props") && !words.has("--producer.config") {
        return Err(words.error("Either --producer-props or --producer.config must be specified."));
    }
    let properties = Properties::read(words.value("--producer.config"))?;
    let properties = properties.and(&words.values("--producer-props"))?;
    let mut config = ProducerConfig {
        client_id: "perf-producer-client".to_owned(),
        ..ProducerConfig::default()
    };
    properties.producer(&mut config)?;
    let duration = words.parsed::<u64>("--transaction-duration-ms", "Long")?;
    if let Some(id) = words.value("--transactional-id") {
        config.transactional_id = Some(id.to_owned());
    } else if duration.is_some() && config.transactional_id.is_none() {
        let id = format!("performance-producer-{:016x}", rand::random::<u64>());
        config.transactional_id = Some(id);
    }
    let transaction =
        config.transactional_id.is_some().then(|| Duration::from_millis(duration.unwrap_or(3_000)));
    let Some(server) = properties.get("bootstrap.servers") else {
        return Err(Ended::err(
            "org.apache.kafka.common.config.ConfigException: No resolvable bootstrap urls given in bootstrap.servers",
        ));
    };
    let topic = words.value("--topic").unwrap_or_default();
    link::run(async {
        let mut signals = Signals::new()?;
        let client = connect_to(server).await?;
        let failed = |error: &dyn Display| Ended::err(error);
        client.topic_or_create(topic).await.map_err(|error| failed(&named_client(&error)))?;
        let producer = client.producer(config).await.map_err(|error| failed(&error))?;
        let test = Test {
            producer: &producer,
            topic,
            records,
            pace: (throughput >= 1.0).then(|| Pace::new(throughput as u64)),
            payloads,
            transaction,
        };
        tokio::select! {
            outcome = test.run() => outcome?,
            signal = signals.next() => return Err(Ended::default().with_code(signal.exit() as u8)),
        }
        if words.has("--print-metrics") {
            let metrics = producer.metrics();
            print(&format!(
                "\nMetric Name                  Value\nproducer-metrics:records-sent : {}\nproducer-metrics:records-failed : \
                 {}\nproducer-metrics:batches-sent : {}\nproducer-metrics:bytes-sent : {}\nproducer-metrics:retries : {}\n",
                metrics.records_sent,
                metrics.records_failed,
                metrics.batches_sent,
                metrics.bytes_sent,
                metrics.retries
            ))?;
        }
        Ok(producer.close(CLOSE_TIMEOUT).await?)
    })
}

/// What is sent.
enum Payloads {
    /// Letters, drawn once: all records have the same size.
    Sized(Bytes),
    Drawn(Vec<Bytes>),
    Numbers,
}

impl Payloads {
    fn new(words: &Words) -> Result<Payloads, Ended> {
        let kinds = ["--record-size", "--payload-file", "--payload-monotonic"];
        let given: Vec<&str> = kinds.into_iter().filter(|kind| words.has(kind)).collect();
        match given.as_slice() {
            ["--record-size"] => {
                let size: usize = words.number("--record-size", "Integer")?;
                if size == 0 {
                    return Err(words.error("--record-size should be greater than zero."));
                }
                let letters = (0..size).map(|_| b'A' + rand::random::<u8>() % 26);
                Ok(Payloads::Sized(letters.collect()))
            }
            ["--payload-file"] => {
                let path = words.value("--payload-file").unwrap_or_default();
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Ended::err(format_args!(
                        "File does not exist or empty file provided: {path}: {error}"
                    ))
                })?;
                let delimiter =
                    words.value("--payload-delimiter").unwrap_or("\n").replace("\\n", "\n");
                let cut = text.split(delimiter.as_str()).filter(|one| !one.is_empty());
                let drawn: Vec<Bytes> =
                    cut.map(|one| Bytes::copy_from_slice(one.as_bytes())).collect();
                match drawn.is_empty() {
                    true => Err(Ended::err("File does not exist or empty file provided.")),
                    false => Ok(Payloads::Drawn(drawn)),
                }
            }
            [_] => Ok(Payloads::Numbers),
            [] => Err(words.error(
                "one of the arguments --record-size --payload-file --payload-monotonic is required",
            )),
            [first, second, ..] => {
                Err(words.error(&format!("argument {second}: not allowed with argument {first}")))
            }
        }
    }

    fn next(&self, number: u64) -> Bytes {
        match self {
            Payloads::Sized(bytes) => bytes.clone(),
            Payloads::Drawn(drawn) => drawn[rand::random::<u32>() as usize % drawn.len()].clone(),
            Payloads::Numbers => number.to_string().into(),
        }
    }
}

struct Test<'a> {
    producer: &'a Producer,
    topic: &'a str,
    records: u64,
    pace: Option<Pace>,
    payloads: Payloads,
    /// How long each is.
    transaction: Option<Duration>,
}

impl Test<'_> {
    async fn run(mut self) -> Result<(), Ended> {
        let stats = Arc::new(Mutex::new(Stats::new()));
        let failed = |error: &dyn Display| Ended::err(error);
        if self.transaction.is_some() {
            self.producer.init_transactions().await.map_err(|error| failed(&error))?;
        }
        let mut open: Option<Instant> = None;
        for number in 0..self.records {
            if let Some(duration) = self.transaction {
                if open.is_some_and(|since| since.elapsed() >= duration) {
                    self.producer.commit_transaction().await.map_err(|error| failed(&error))?;
                    open = None;
                }
                if open.is_none() {
                    self.producer.begin_transaction().await.map_err(|error| failed(&error))?;
                    open = Some(Instant::now());
                }
            }
            let value = self.payloads.next(number);
            let (size, sent) = (value.len() as u64, Instant::now());
            let counted = stats.clone();
            let record = ProducerRecord::new(self.topic).value(value);
            let sent = self.producer.send_with(record, move |outcome| {
                let mut stats = counted.lock().unwrap_or_else(PoisonError::into_inner);
                stats.answered(outcome.map(drop), size, sent.elapsed());
            });
            sent.await.map_err(|error| failed(&named_client(&error)))?;
            if let Some(pause) = self.pace.as_mut().and_then(Pace::next) {
                tokio::time::sleep(pause).await;
            }
            let window = stats.lock().unwrap_or_else(PoisonError::into_inner).window_if_due();
            if let Some(line) = window {
                print(&line)?;
            }
        }
        if open.is_some() {
            self.producer.commit_transaction().await.map_err(|error| failed(&error))?;
        }
        self.producer.flush().await?;
        let stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        print(&stats.total())?;
        match stats.lost {
            0 => Ok(()),
            lost => Err(Ended::err(format_args!("{lost} records were not written"))),
        }
    }
}

/// What was acknowledged, in all and since the last line.
struct Stats {
    began: Instant,
    all: Window,
    window_began: Instant,
    window: Window,
    lost: u64,
}

#[derive(Default)]
struct Window {
    records: u64,
    bytes: u64,
    latencies: Latencies,
}

impl Window {
    fn add(&mut self, size: u64, latency: Duration) {
        self.records += 1;
        self.bytes += size;
        self.latencies.record(latency);
    }

    /// Records and megabytes a second.
    fn rates(&self, elapsed: Duration) -> (f64, f64) {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        (self.records as f64 / seconds, self.bytes as f64 / seconds / f64::from(1 << 20))
    }
}

impl Stats {
    fn new() -> Stats {
        let now = Instant::now();
        Stats {
            began: now,
            all: Window::default(),
            window_began: now,
            window: Window::default(),
            lost: 0,
        }
    }

    fn answered(&mut self, outcome: Result<(), ClientError>, size: u64, latency: Duration) {
        match outcome {
            Ok(()) => {
                self.all.add(size, latency);
                self.window.add(size, latency);
            }
            Err(error) => {
                self.lost += 1;
                notice!("{}", named_client(&error));
            }
        }
    }

    fn window_if_due(&mut self) -> Option<String> {
        let elapsed = self.window_began.elapsed();
        if elapsed < REPORT {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        self.window_began = Instant::now();
        let (records, megabytes) = window.rates(elapsed);
        Some(format!(
            "{} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.\n",
            window.records,
            window.latencies.mean_ms(),
            window.latencies.max_ms()
        ))
    }

    fn total(&self) -> String {
        let (records, megabytes) = self.all.rates(self.began.elapsed());
        let latencies = &self.all.latencies;
        let at = |quantile| latencies.ms(quantile).round() as u64;
        format!(
            "{} records sent, {records:.1} records/sec ({megabytes:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, \
             {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.\n",
            self.all.records,
            latencies.mean_ms(),
            latencies.max_ms(),
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_kafka_s_figures() {
        let mut stats = Stats::new();
        for ms in [2, 4] {
            stats.answered(Ok(()), 1 << 20, Duration::from_millis(ms));
        }
        let total = stats.total();
        assert!(total.starts_with("2 records sent, "), "{total}");
        assert!(total.contains(" ms avg latency, 4.0"), "{total}");
        assert!(total.ends_with("2 ms 50th, 4 ms 95th, 4 ms 99th, 4 ms 99.9th.\n"), "{total}");
        assert_eq!(stats.window_if_due(), None, "not yet");
    }

    #[test]
    fn what_is_missing_is_told_in_argparse_s_words() {
        let told = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            run(&words).unwrap_err().notices
        };
        let all = "--topic t --num-records 1 --throughput -1";
        assert!(told("--topic t").contains("error: argument --num-records is required"));
        let none = told(all);
        assert!(none.contains("one of the arguments --record-size --payload-file"), "{none}");
        let both = told(&format!("{all} --record-size 1 --payload-monotonic"));
        assert!(both.contains("not allowed with argument --record-size"), "{both}");
        let bare = told(&format!("{all} --record-size 1"));
        assert!(bare.contains("Either --producer-props or --producer.config"), "{bare}");
    }
}
