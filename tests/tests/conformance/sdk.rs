//! The Rust client against a real server: what it sends, it reads back. P2–P9, P12–P27, T21–T26.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use troupe_client::{
    Acks, Client, ClientConfig, ConsumerRecord, Partitions, Producer, ProducerConfig,
    ProducerRecord, Reader, ReaderConfig, Record, Start, TopicMetadata,
};
use troupe_proto::batch::Compression;
use troupe_proto::ids::{Offset, PartitionId};
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{PATIENCE, Sample, Server, samples};

async fn client(server: &Server) -> Client {
    Client::connect(ClientConfig::new([server.address()])).await.unwrap()
}

async fn producer(server: &Server, config: ProducerConfig) -> Producer {
    client(server).await.producer(config).await.unwrap()
}

async fn reader(server: &Server, topic: &str, config: ReaderConfig) -> Reader {
    client(server).await.reader(topic, config).await.unwrap()
}

fn until_end() -> ReaderConfig {
    ReaderConfig { until_end: true, ..ReaderConfig::default() }
}

/// Everything the reader hands out.
async fn all(mut reader: Reader) -> Vec<ConsumerRecord> {
    let mut records = Vec::new();
    while let Some(batch) = reader.next_batch().await {
        records.extend(batch.unwrap().records().map(|record| record.unwrap()));
    }
    records
}

fn sample(record: &ConsumerRecord) -> Sample {
    let vec = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| bytes.to_vec());
    Sample {
        timestamp_ms: record.timestamp_ms,
        key: vec(&record.key),
        value: vec(&record.value),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), vec(value)))
            .collect(),
    }
}

fn record_of(topic: &str, sample: &Sample) -> ProducerRecord {
    ProducerRecord {
        key: sample.key.clone().map(Bytes::from),
        value: sample.value.clone().map(Bytes::from),
        headers: sample
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().map(Bytes::from)))
            .collect(),
        timestamp_ms: Some(sample.timestamp_ms),
        ..ProducerRecord::new(topic)
    }
}

/// P9, T10: whatever the compression, what comes back is what was sent, where it was told to be.
#[tokio::test]
async fn records_travel_in_every_compression() {
    let server = Server::get().await;
    for compression in Compression::ALL {
        let topic = server.new_topic(1, &[]).await.name;
        let config = ProducerConfig { compression, ..ProducerConfig::default() };
        let producer = producer(&server, config).await;
        let sent = samples(21, 500, 600);
        let mut deliveries = Vec::new();
        for sample in &sent {
            deliveries.push(producer.send(record_of(&topic, sample)).await.unwrap());
        }
        for (n, delivery) in deliveries.into_iter().enumerate() {
            let told = delivery.await.unwrap();
            assert_eq!(told.offset, Some(Offset(n as u64)), "{compression}");
            assert_eq!(told.timestamp_ms, sent[n].timestamp_ms);
        }
        let read = all(reader(&server, &topic, until_end()).await).await;
        assert_eq!(read.iter().map(sample).collect::<Vec<_>>(), sent, "{compression}");
        assert!(read.iter().zip(0..).all(|(record, n)| record.offset == Offset(n)));
    }
}

/// T23, T24, T11: keys decide, and per key the order of sending is the order of reading.
#[tokio::test]
async fn order_per_key_holds_over_partitions() {
    let server = Server::get().await;
    let topic = server.new_topic(6, &[]).await.name;
    let producer = producer(&server, ProducerConfig::default()).await;
    let topic_producer = producer.topic(&topic).await.unwrap();
    for n in 0..5_000u32 {
        let (key, value) = (format!("key{}", n % 37), n.to_string());
        let record = Record::keyed(key.as_bytes(), value.as_bytes());
        // The delivery may be dropped.
        drop(topic_producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut partitions: BTreeMap<Bytes, BTreeSet<PartitionId>> = BTreeMap::new();
    let mut values: BTreeMap<Bytes, Vec<u32>> = BTreeMap::new();
    for record in all(reader(&server, &topic, until_end()).await).await {
        let key = record.key.unwrap();
        partitions.entry(key.clone()).or_default().insert(record.partition);
        let value = std::str::from_utf8(&record.value.unwrap()).unwrap().parse().unwrap();
        values.entry(key).or_default().push(value);
    }
    assert_eq!(values.len(), 37);
    assert!(values.values().all(|values| values.is_sorted()));
    assert_eq!(values.values().map(Vec::len).sum::<usize>(), 5_000);
    assert!(partitions.values().all(|partitions| partitions.len() == 1));
    // "key1" is partition 28543940 mod 6.
    assert_eq!(partitions[&Bytes::from("key1")], BTreeSet::from([PartitionId(28_543_940 % 6)]));
}

/// P22: callbacks run in the order of sending, by partition.
#[tokio::test]
async fn callbacks_come_in_order() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let producer = producer(&server, ProducerConfig::default()).await;
    let called: Arc<Mutex<Vec<(u32, Offset)>>> = Arc::default();
    for n in 0..1_000u32 {
        let called = Arc::clone(&called);
        let record = ProducerRecord::new(topic.as_str()).value("x").partition(n % 2);
        let callback = move |answer: Result<troupe_client::RecordMetadata, _>| {
            let offset = answer.unwrap().offset.unwrap();
            called.lock().unwrap().push((n, offset));
        };
        producer.send_with(record, callback).await.unwrap();
    }
    producer.flush().await.unwrap();
    let called = called.lock().unwrap();
    assert_eq!(called.len(), 1_000, "flush waits for every answer");
    for partition in 0..2 {
        let of_one: Vec<_> = called.iter().filter(|(n, _)| n % 2 == partition).collect();
        assert!(of_one.is_sorted());
    }
}

/// P12, P13: without a promise there is no offset; from the leader there is.
#[tokio::test]
async fn acks_say_what_an_answer_is_worth() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    for (n, (acks, has_offset)) in
        [(Acks::None, false), (Acks::Leader, true), (Acks::All, true)].into_iter().enumerate()
    {
        let producer = producer(&server, ProducerConfig { acks, ..Default::default() }).await;
        let record = ProducerRecord::new(topic.as_str()).value(vec![n as u8]);
        let told = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(told.offset.is_some(), has_offset, "{acks}");
        producer.close(PATIENCE).await.unwrap();
    }
    // Without a promise means sent, not appended: ask until it is there.
    troupe_tests::eventually("three records are there", async || {
        (server.read_all(&topic, 0).await.len() == 3).then_some(())
    })
    .await;
}

/// T22: a partitioner of one's own.
#[tokio::test]
async fn a_partitioner_decides() {
    #[derive(Debug)]
    struct ByLength;
    impl troupe_client::Partitioner for ByLength {
        fn partition(
            &self,
            topic: &TopicMetadata,
            record: &Record<'_>,
        ) -> Result<PartitionId, String> {
            match record.value {
                Some(value) => Ok(PartitionId((value.len() % topic.partitions.len()) as u32)),
                None => Err("no value to go by".to_owned()),
            }
        }
    }
    let server = Server::get().await;
    let topic = server.new_topic(4, &[]).await.name;
    let mut config = ProducerConfig::default();
    config.partitioner.custom = Some(Arc::new(ByLength));
    let producer = producer(&server, config).await;
    for len in 0..8 {
        let record = ProducerRecord::new(topic.as_str()).value(vec![b'x'; len]);
        let told = producer.send(record).await.unwrap().await.unwrap();
        assert_eq!(told.partition, PartitionId(len as u32 % 4));
    }
    let refused = match producer.send(ProducerRecord::new(topic.as_str())).await {
        Err(error) => error,
        Ok(delivery) => delivery.await.unwrap_err(),
    };
    assert!(refused.to_string().contains("no value to go by"), "{refused}");
}

/// T25: without keys, all partitions get their share.
#[tokio::test]
async fn records_without_keys_are_spread() {
    let server = Server::get().await;
    let topic = server.new_topic(4, &[]).await.name;
    let config = ProducerConfig { batch_size: 2_000, ..ProducerConfig::default() };
    let producer = producer(&server, config).await;
    for _ in 0..4_000 {
        let record = ProducerRecord::new(topic.as_str()).value(vec![b'x'; 50]);
        drop(producer.send(record).await.unwrap());
    }
    producer.close(PATIENCE).await.unwrap();
    let mut counts: BTreeMap<PartitionId, usize> = BTreeMap::new();
    for record in all(reader(&server, &topic, until_end()).await).await {
        *counts.entry(record.partition).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), 4_000);
    assert!(counts.len() == 4 && counts.values().all(|&count| count > 100), "{counts:?}");
}

/// P2, P3, T21: what cannot be sent fails for its own reason.
#[tokio::test]
async fn what_cannot_be_sent_says_why() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("max.message.bytes", "100000")]).await.name;
    let config = ProducerConfig { max_block: Duration::from_millis(300), ..Default::default() };
    let producer = producer(&server, config).await;
    let send = async |record: ProducerRecord| match producer.send(record).await {
        Err(error) => error,
        Ok(delivery) => delivery.await.unwrap_err(),
    };
    let unknown = send(ProducerRecord::new("no-such-topic").value("x")).await;
    assert_eq!(unknown.reason(), UnknownTopic, "{unknown}");
    let nowhere = send(ProducerRecord::new(topic.as_str()).value("x").partition(7)).await;
    assert_eq!(nowhere.reason(), UnknownPartition, "{nowhere}");
    let huge = send(ProducerRecord::new(topic.as_str()).value(vec![0; 2 << 20])).await;
    assert_eq!(huge.reason(), RecordTooLarge, "{huge}");
    // Within the client's limit, beyond the topic's.
    let large = send(ProducerRecord::new(topic.as_str()).value(vec![0; 200_000])).await;
    assert_eq!(large.reason(), RecordTooLarge, "{large}");
    for error in [unknown, nowhere, huge, large] {
        assert!(error.surely_not_done(), "{error}");
    }
    // The producer is none the worse for it.
    let record = ProducerRecord::new(topic.as_str()).value("fine");
    assert_eq!(producer.send(record).await.unwrap().await.unwrap().offset, Some(Offset(0)));
    producer.close(PATIENCE).await.unwrap();
    assert!(producer.send(ProducerRecord::new(topic.as_str())).await.is_err(), "closed is closed");
}

/// The topic of ten records at the times 1000, 1010, …, one batch each.
async fn ten(server: &Server) -> String {
    let topic = server.new_topic(1, &[]).await.name;
    for n in 0..10 {
        let record = Sample::of(vec![n], 1_000 + i64::from(n) * 10);
        let batch = troupe_tests::batch_of(&[record]);
        server.produce(&topic, 0, batch, troupe_proto::v1::Acks::All).await;
    }
    topic
}

fn offsets(records: &[ConsumerRecord]) -> Vec<u64> {
    records.iter().map(|record| record.offset.0).collect()
}

#[tokio::test]
async fn a_reader_begins_where_it_is_told() {
    let server = Server::get().await;
    let topic = ten(&server).await;
    for (start, expected) in [
        (Start::Earliest, 0..10),
        (Start::Offset(Offset(7)), 7..10),
        (Start::Timestamp(1_035), 4..10),
        (Start::Timestamp(5_000), 10..10),
        (Start::Latest, 10..10),
        (Start::Each(BTreeMap::from([(PartitionId(0), Offset(3))])), 3..10),
    ] {
        let config = ReaderConfig { start: start.clone(), ..until_end() };
        let read = all(reader(&server, &topic, config).await).await;
        assert_eq!(offsets(&read), expected.collect::<Vec<_>>(), "{start:?}");
    }
}

#[tokio::test]
async fn a_reader_follows_and_can_be_moved() {
    let server = Server::get().await;
    let topic = ten(&server).await;
    let config = ReaderConfig { start: Start::Latest, ..ReaderConfig::default() };
    let mut reader = reader(&server, &topic, config).await;
    let batch = troupe_tests::batch_of(&[Sample::of("eleventh", 1)]);
    server.produce(&topic, 0, batch, troupe_proto::v1::Acks::All).await;
    let next = reader.next_batch().await.unwrap().unwrap();
    assert_eq!(next.header.base_offset, Offset(10));
    reader.seek(PartitionId(0), Offset(2));
    let mut seen = Vec::new();
    while seen.last() != Some(&10) {
        let batch = reader.next_batch().await.unwrap().unwrap();
        seen.extend(batch.records().map(|record| record.unwrap().offset.0));
    }
    assert_eq!(seen, (2..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_offset_that_is_not_there_is_told_and_can_be_mended() {
    let server = Server::get().await;
    let topic = ten(&server).await;
    let config = ReaderConfig { start: Start::Offset(Offset(99)), ..ReaderConfig::default() };
    let mut reader = reader(&server, &topic, config).await;
    let error = reader.next_batch().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), OffsetOutOfRange, "{error}");
    reader.seek(PartitionId(0), Offset(9));
    assert_eq!(reader.next_batch().await.unwrap().unwrap().header.base_offset, Offset(9));
}

#[tokio::test]
async fn a_reader_of_some_partitions_reads_those() {
    let server = Server::get().await;
    let topic = server.new_topic(5, &[]).await.name;
    let producer = producer(&server, ProducerConfig::default()).await;
    for n in 0..100 {
        let record = ProducerRecord::new(topic.as_str()).value("x").partition(n % 5);
        drop(producer.send(record).await.unwrap());
    }
    producer.close(PATIENCE).await.unwrap();
    let only = vec![PartitionId(1), PartitionId(4)];
    let config = ReaderConfig { partitions: Partitions::Only(only.clone()), ..until_end() };
    let read = all(reader(&server, &topic, config).await).await;
    let partitions: BTreeSet<_> = read.iter().map(|record| record.partition).collect();
    assert_eq!((read.len(), partitions), (40, only.into_iter().collect()));
    let config = ReaderConfig { partitions: Partitions::Only(vec![PartitionId(5)]), ..until_end() };
    let refused = client(&server).await.reader(&topic, config).await;
    assert_eq!(refused.err().unwrap().reason(), UnknownPartition);
    let refused = client(&server).await.reader("no-such-topic", until_end()).await;
    assert_eq!(refused.err().unwrap().reason(), UnknownTopic);
}
