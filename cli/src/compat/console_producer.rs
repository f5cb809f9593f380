//! kafka-console-producer (A5): a line is a record.
//!
//! Promise: what was not written is told, and the exit code is 1; Kafka's ends with 0 unless it is told `--sync`.

mod lines;

use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect, connect_to};
use super::options::{Given, Options, flag, maybe, value};
use super::properties::Properties;
use crate::signals::Signals;
use crate::streams::notice;
use futures::FutureExt;
use lines::Reader;
use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal};
use std::time::Duration;
use tokio::sync::mpsc;
use troupe_client::{ClientError, Delivery, Producer, ProducerConfig};
use troupe_proto::batch::Compression;

static OPTIONS: Options = Options {
    about: "This tool helps to read data from standard input and publish it to Kafka.",
    options: &[
        value("bootstrap-server", "host:port", "REQUIRED: Nodes to send to."),
        value("broker-list", "host:port", "The same."),
        value("topic", "topic", "REQUIRED: The topic."),
        flag("sync", "Wait for each record before the next one is sent."),
        maybe("compression-codec", "codec", "none, gzip [default], snappy, lz4 or zstd."),
        value("batch-size", "bytes", "The largest batch."),
        value("message-send-max-retries", "count", "How often a record is tried again."),
        value("retry-backoff-ms", "ms", "Before it is."),
        value("timeout", "ms", "How long a record waits for company [default: 1000]."),
        value("request-required-acks", "acks", "all, 1 or 0 [default: all]."),
        value("request-timeout-ms", "ms", "How long an answer is waited for."),
        value("metadata-expiry-ms", "ms", "Without effect: nodes tell what changes."),
        value("max-block-ms", "ms", "How long sending waits for room."),
        value("max-memory-bytes", "bytes", "What may wait for answers."),
        value("max-partition-memory-bytes", "bytes", "The largest batch."),
        value("socket-buffer-size", "bytes", "Without effect."),
        value("line-reader", "class", "Classes cannot be loaded."),
        value(
            "property",
            "key=value",
            "parse.key, key.separator, parse.headers, null.marker, ignore.error …",
        ),
        value("reader-config", "file", "The same from a file."),
        value("producer-property", "key=value", "A setting of the producer."),
        value("producer.config", "file", "The same from a file."),
    ],
    lead: "",
};

/// Lines that are read before they are sent.
const AHEAD: usize = 1024;
/// Everything is answered before the producer is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub fn run(words: &[String]) -> Result<(), Ended> {
    let given = OPTIONS.read(words)?;
    given.require(&["topic"])?;
    let Some(server) = given.value("bootstrap-server")?.or(given.value("broker-list")?) else {
        return Err(given.usage("Error while validating the bootstrap address\n"));
    };
    if let Some(class) = given.value("line-reader")?
        && !class.ends_with("LineMessageReader")
    {
        return Err(Ended::cannot(
            &format!("--line-reader {class}"),
            "there is no Java to load it with; `troupe produce -f FORMAT` cuts input as it is told",
        ));
    }
    let reader = Properties::read(given.value("reader-config")?)?.and(&given.values("property"))?;
    let reader = Reader::new(&reader)?;
    let config = config(&given)?;
    let sync = given.has("sync");
    let topic = given.value("topic")?.unwrap_or_default().to_owned();
    link::run(async {
        let mut signals = Signals::new()?;
        let client = match given.has("bootstrap-server") {
            true => connect(&given).await?,
            false => connect_to(server).await?,
        };
        // A topic that is not there, and is not made by use, is told before the first line is read.
        client.topic_or_create(&topic).await.map_err(|error| Ended::err(named_client(&error)))?;
        let producer = client.producer(config).await?;
        let mut sending = Sending { producer, topic, sync, open: VecDeque::new(), lost: 0 };
        let mut lines = read_lines();
        let mut number = 0;
        let pumped = loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                signal = signals.next() => break Err(Ended::default().with_code(signal.exit() as u8)),
            };
            let Some(line) = line else { break Ok(()) };
            number += 1;
            let sent = match line {
                Err(error) => Err(Ended::err(error)),
                Ok(line) => match reader.record(&line, number, &sending.topic) {
                    Ok(record) => sending.send(record).await,
                    Err(told) => Err(Ended::err(format_args!(
                        "org.apache.kafka.common.KafkaException: {told}"
                    ))),
                },
            };
            if sent.is_err() {
                break sent;
            }
        };
        let finished = sending.finish().await;
        pumped.and(finished)
    })
}

/// Whoever types sees that it waits.
fn read_lines() -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let is_typed = std::io::stdin().is_terminal();
        let mut input = std::io::stdin().lock();
        loop {
            if is_typed {
                crate::streams::write_notice(format_args!(">"));
            }
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line);
            let line = match read {
                Ok(0) => return,
                Ok(_) => {
                    let bare = line.strip_suffix(b"\n").unwrap_or(&line);
                    Ok(bare.strip_suffix(b"\r").unwrap_or(bare).to_vec())
                }
                Err(error) => Err(error),
            };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

struct Sending {
    producer: Producer,
    topic: String,
    sync: bool,
    open: VecDeque<Delivery>,
    lost: u64,
}

impl Sending {
    async fn send(&mut self, record: troupe_client::ProducerRecord) -> Result<(), Ended> {
        let sent = self.producer.send(record).await;
        match sent {
            Ok(delivery) if self.sync => delivery.await.map(drop).map_err(|error| {
                Ended::err(format_args!(
                    "java.util.concurrent.ExecutionException: {}",
                    named_client(&error)
                ))
            }),
            Ok(delivery) => {
                self.open.push_back(delivery);
                while let Some(outcome) = self.open.front_mut().and_then(FutureExt::now_or_never) {
                    self.open.pop_front();
                    self.note(outcome.map(drop));
                }
                Ok(())
            }
            Err(error) => {
                self.note(Err(error));
                Ok(())
            }
        }
    }

    fn note(&mut self, outcome: Result<(), ClientError>) {
        if let Err(error) = outcome {
            self.lost += 1;
            notice!(
                "ERROR Error when sending message to topic {} with error: {}",
                self.topic,
                named_client(&error)
            );
        }
    }

    async fn finish(mut self) -> Result<(), Ended> {
        // What waits for company goes now.
        let flushed = self.producer.flush().await;
        while let Some(delivery) = self.open.pop_front() {
            let outcome = delivery.await.map(drop);
            self.note(outcome);
        }
        self.producer.close(CLOSE_TIMEOUT).await?;
        match self.lost {
            0 => Ok(flushed?),
            lost => Err(Ended::err(format_args!("{lost} records were not written"))),
        }
    }
}

fn config(given: &Given) -> Result<ProducerConfig, Ended> {
    let mut config = ProducerConfig {
        client_id: "console-producer".to_owned(),
        linger: Duration::from_millis(1_000),
        ..ProducerConfig::default()
    };
    let properties = Properties::read(given.value("producer.config")?)?;
    properties.and(&given.values("producer-property"))?.producer(&mut config)?;
    if given.has("compression-codec") {
        let codec = given.value("compression-codec")?.unwrap_or("gzip");
        config.compression = codec.parse::<Compression>().map_err(Ended::err)?;
    }
    if let Some(acks) = given.value("request-required-acks")? {
        config.acks = acks.parse().map_err(Ended::err)?;
    }
    let ms = |option| Ok::<_, Ended>(given.parsed::<u64>(option)?.map(Duration::from_millis));
    let size = |option| given.parsed::<usize>(option);
    if let Some(linger) = ms("timeout")? {
        config.linger = linger;
    }
    if let Some(bytes) = size("batch-size")?.or(size("max-partition-memory-bytes")?) {
        config.batch_size = bytes;
        config.max_request_size = config.max_request_size.max(bytes);
    }
    if let Some(bytes) = size("max-memory-bytes")? {
        config.buffer_memory = bytes;
    }
    if let Some(retries) = given.parsed("message-send-max-retries")? {
        config.retries = retries;
    }
    if let Some(backoff) = ms("retry-backoff-ms")? {
        config.retry_backoff = backoff;
        config.retry_backoff_max = config.retry_backoff_max.max(backoff);
    }
    if let Some(timeout) = ms("request-timeout-ms")? {
        config.request_timeout = timeout;
    }
    if let Some(block) = ms("max-block-ms")? {
        config.max_block = block;
    }
    config.delivery_timeout = config.delivery_timeout.max(config.linger + config.request_timeout);
    Ok(config)
}
