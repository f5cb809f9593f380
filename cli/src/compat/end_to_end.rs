//! kafka-e2e-latency (A24): one record at a time, from the call of send until it has been read.

use super::ended::Ended;
use super::errors::named_client;
use super::link::{self, connect_to, print};
use super::properties::Properties;
use crate::latency::Latencies;
use bytes::Bytes;
use std::time::{Duration, Instant};
use troupe_client::{
    Acks, Client, ClientError, ProducerConfig, ProducerRecord, Reader, ReaderConfig, Start,
};
use troupe_proto::admin::v1::CreateTopicRequest;
use troupe_proto::error::ErrorCode;

const USAGE: &str = "USAGE: java org.apache.kafka.tools.EndToEndLatency broker_list topic num_messages producer_acks \
                     message_size_bytes [optional] properties_file";
/// How long a record is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

pub fn run(words: &[String]) -> Result<(), Ended> {
    let ([servers, topic, count, acks, size] | [servers, topic, count, acks, size, _]) = words
    else {
        return Err(Ended::err(USAGE));
    };
    let wrong = |text: &String| {
        Ended::err(format_args!("java.lang.NumberFormatException: For input string: \"{text}\""))
    };
    let count: u64 = count.parse().map_err(|_| wrong(count))?;
    let size: usize = size.parse().map_err(|_| wrong(size))?;
    let acks = match acks.parse() {
        Ok(acks @ (Acks::All | Acks::Leader)) => acks,
        _ => {
            return Err(Ended::err(
                "Latency testing requires synchronous acknowledgement. Please use 1 or all",
            ));
        }
    };
    let mut config = ProducerConfig { acks, linger: Duration::ZERO, ..ProducerConfig::default() };
    Properties::read(words.get(5).map(String::as_str))?.producer(&mut config)?;
    config.acks = acks;
    link::run(async {
        let client = connect_to(servers).await?;
        let reader =
            open(&client, topic).await.map_err(|error| Ended::err(named_client(&error)))?;
        measure(&client, topic, config, reader, count, size).await
    })
}

/// At the end of the topic, which is made if it is not there.
async fn open(client: &Client, topic: &str) -> Result<Reader, ClientError> {
    match client.topic(topic).await {
        Err(error) if error.reason() == ErrorCode::UnknownTopic => {
            // Who does not hear it hears that the figures cannot be written.
            let _ = print(&format!(
                "Topic \"{topic}\" does not exist. Will create topic with 1 partition(s) and replication factor = 1\n"
            ));
            let request = CreateTopicRequest {
                name: topic.to_owned(),
                partitions: Some(1),
                replication_factor: Some(1),
                ..CreateTopicRequest::default()
            };
            client.admin().create_topic(request).await?;
        }
        found => drop(found?),
    }
    client.reader(topic, ReaderConfig { start: Start::Latest, ..ReaderConfig::default() }).await
}

async fn measure(
    client: &Client,
    topic: &str,
    config: ProducerConfig,
    mut reader: Reader,
    count: u64,
    size: usize,
) -> Result<(), Ended> {
    let producer = client.producer(config).await?;
    let mut latencies = Latencies::default();
    for number in 0..count {
        let value: Bytes = (0..size).map(|_| b'A' + rand::random::<u8>() % 26).collect();
        let began = Instant::now();
        let record = ProducerRecord::new(topic).value(value.clone());
        producer.send(record).await?.await.map_err(|error| Ended::err(named_client(&error)))?;
        let read = tokio::time::timeout(TIMEOUT, reader.next_batch()).await;
        let Ok(Some(batch)) = read else {
            return Err(Ended::err(format_args!(
                "poll() timed out before finding a result (timeout:[{}])",
                TIMEOUT.as_millis()
            )));
        };
        let batch = batch?;
        let latency = began.elapsed();
        let mut records = batch.iter();
        let is_it = matches!(records.next(), Some(Ok(record)) if record.value == Some(&value[..]));
        if !is_it || records.next().is_some() {
            return Err(Ended::err(
                "Sent and received messages differ: somebody else writes to the topic",
            ));
        }
        latencies.record(latency);
        if number % 1_000 == 0 {
            print(&format!("{number}\t{}\n", latency.as_secs_f64() * 1_000.0))?;
        }
    }
    let at = |quantile| latencies.ms(quantile).round() as u64;
    print(&format!(
        "Avg latency: {:.4} ms\nPercentiles: 50th = {}, 99th = {}, 99.9th = {}\n",
        latencies.mean_ms(),
        at(0.5),
        at(0.99),
        at(0.999)
    ))?;
    Ok(producer.close(CLOSE_TIMEOUT).await?)
}
