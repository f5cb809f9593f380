//! The reader over real streams.

use crate::fake::Cluster;
use futures::StreamExt;
use std::collections::BTreeMap;
use troupe_client::{
    Client, ClientError, ConsumerRecord, Partitions, ProducerConfig, ProducerRecord, ReaderConfig,
    Start,
};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};

/// `count` records in each partition, in batches of at most `batch` records.
pub async fn fill(
    client: &Client,
    partitions: u32,
    count: u32,
    batch: u32,
    compression: Compression,
) {
    let config = ProducerConfig { compression, ..ProducerConfig::default() };
    let producer = client.producer(config).await.unwrap();
    for n in 0..count {
        for partition in 0..partitions {
            let record = ProducerRecord::new("t")
                .key(partition.to_string())
                .value(n.to_string())
                .header("h", "x")
                .partition(partition);
            drop(producer.send(record).await.unwrap());
        }
        if (n + 1) % batch == 0 {
            producer.flush().await.unwrap();
        }
    }
    producer.flush().await.unwrap();
}

pub fn to_the_end() -> ReaderConfig {
    ReaderConfig { until_end: true, ..ReaderConfig::default() }
}

async fn read(client: &Client, config: ReaderConfig) -> Vec<ConsumerRecord> {
    let reader = client.reader("t", config).await.unwrap();
    reader.records().map(|record| record.unwrap()).collect().await
}

pub fn numbers(records: &[ConsumerRecord], partition: u32) -> Vec<u32> {
    let of_partition = records.iter().filter(|record| record.partition.0 == partition);
    of_partition
        .map(|record| {
            let number = str::from_utf8(record.value.as_ref().unwrap()).unwrap().parse().unwrap();
            assert_eq!(record.offset, Offset(u64::from(number)));
            assert_eq!(record.key.as_deref(), Some(partition.to_string().as_bytes()));
            assert_eq!(record.headers, [("h".to_owned(), Some("x".into()))]);
            number
        })
        .collect()
}

#[tokio::test]
async fn every_record_comes_once_and_in_order() {
    for compression in [Compression::None, Compression::Lz4] {
        let (_cluster, client) = Cluster::with_topic(3).await;
        fill(&client, 3, 100, 10, compression).await;
        let records = read(&client, to_the_end()).await;
        for partition in 0..3 {
            assert_eq!(numbers(&records, partition), (0..100).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_batch_comes_whole_but_what_was_not_asked_for_is_left_out() {
    let (_cluster, client) = Cluster::with_topic(2).await;
    fill(&client, 2, 100, 10, Compression::None).await;
    let start = Start::Each(BTreeMap::from([(PartitionId(1), Offset(57))]));
    let config = ReaderConfig { start, ..to_the_end() };
    let records = read(&client, config).await;
    assert_eq!(numbers(&records, 0), (0..100).collect::<Vec<_>>());
    assert_eq!(numbers(&records, 1), (57..100).collect::<Vec<_>>());
    let only = ReaderConfig {
        partitions: Partitions::Only(vec![PartitionId(0)]),
        start: Start::Offset(Offset(99)),
        ..to_the_end()
    };
    assert_eq!(numbers(&read(&client, only).await, 0), [99]);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_a_stream_breaks() {
    let (cluster, client) = Cluster::with_topic(1).await;
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.state().break_after = Some(3);
    let config = ReaderConfig { max_partition_bytes: 1, ..to_the_end() };
    assert_eq!(numbers(&read(&client, config).await, 0), (0..100).collect::<Vec<_>>());
    assert_eq!(cluster.state().break_after, None, "it did break");
}

#[tokio::test]
async fn a_slow_reader_is_pushed_no_more_than_its_credit() {
    let (cluster, client) = Cluster::with_topic(1).await;
    fill(&client, 1, 1000, 10, Compression::None).await;
    let config = ReaderConfig { credit_bytes: 2000, max_partition_bytes: 500, ..to_the_end() };
    let mut reader = client.reader("t", config).await.unwrap();
    let mut records = 0;
    while let Some(batch) = reader.next_batch().await {
        records += batch.unwrap().iter().count();
        let state = cluster.state();
        // A batch goes whole as long as there is any credit.
        assert!(state.pushed <= state.granted + 1000, "{} of {}", state.pushed, state.granted);
        assert!(state.granted < state.pushed + 2 * 2000);
    }
    assert_eq!(records, 1000);
}

#[tokio::test]
async fn an_offset_that_is_gone_is_an_error_and_seek_goes_on() {
    let (cluster, client) = Cluster::with_topic(1).await;
    fill(&client, 1, 20, 5, Compression::None).await;
    cluster.state().topics.get_mut("t").unwrap().1[0].start = 10;
    let config = ReaderConfig { start: Start::Offset(Offset(3)), ..to_the_end() };
    let mut reader = client.reader("t", config).await.unwrap();
    let error = reader.next_batch().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), ErrorCode::OffsetOutOfRange);
    assert!(reader.next_batch().await.is_none());
    reader.seek(PartitionId(0), Offset(12));
    let records: Vec<_> = reader.records().map(|record| record.unwrap()).collect().await;
    assert_eq!(numbers(&records, 0), (12..20).collect::<Vec<_>>());
}

/// What a node pushed past the end, before it heard that no more is wanted, is not taken for what comes.
#[tokio::test]
async fn seek_goes_back_from_the_end_without_skipping_a_record() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    fill(&client, 1, 20, 5, Compression::None).await;
    let config = ReaderConfig { max_partition_bytes: 1, ..to_the_end() };
    let mut reader = client.reader("t", config).await.unwrap();
    fill(&client, 1, 20, 5, Compression::None).await;
    while let Some(batch) = reader.next_batch().await {
        assert!(batch.unwrap().header.end_offset() <= Offset(20));
    }
    reader.seek(PartitionId(0), Offset(0));
    let records: Vec<_> = reader.records().map(|record| record.unwrap()).collect().await;
    assert_eq!(numbers(&records, 0), (0..20).collect::<Vec<_>>());
}

/// Records of a partition that is added are newer than the reader, so it begins with the first.
#[tokio::test]
async fn partitions_that_are_added_are_read_too() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ReaderConfig { start: Start::Latest, ..ReaderConfig::default() };
    let mut reader = client.reader("t", config).await.unwrap();
    fill(&client, 1, 3, 3, Compression::None).await;
    assert_eq!(reader.next_batch().await.unwrap().unwrap().partition, PartitionId(0));
    cluster.state().topics.get_mut("t").unwrap().1.push(Default::default());
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let record = ProducerRecord::new("t").value("new").partition(1);
    producer.send(record).await.unwrap().await.unwrap();
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), reader.next_batch());
    let batch = next.await.expect("the new partition is read").unwrap().unwrap();
    assert_eq!((batch.partition, batch.header.base_offset), (PartitionId(1), Offset(0)));
}

#[tokio::test]
async fn a_reader_at_the_end_waits_for_what_comes() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    fill(&client, 1, 3, 3, Compression::None).await;
    let config = ReaderConfig { start: Start::Latest, ..ReaderConfig::default() };
    let mut reader = client.reader("t", config).await.unwrap();
    {
        let waiting = reader.next_batch();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
    }
    fill(&client, 1, 1, 1, Compression::None).await;
    let batch = reader.next_batch().await.unwrap().unwrap();
    let offsets: Vec<_> = batch.iter().map(|record| record.unwrap().offset).collect();
    assert_eq!(offsets, [Offset(3)]);
    assert_eq!(reader.positions()[0].next, Offset(4));
}

#[tokio::test]
async fn a_topic_or_partition_that_does_not_exist_is_refused() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let error = client.reader("u", to_the_end()).await.map(drop).unwrap_err();
    assert_eq!(error.reason(), ErrorCode::UnknownTopic);
    let partitions = Partitions::Only(vec![PartitionId(4)]);
    let config = ReaderConfig { partitions, ..to_the_end() };
    let error = client.reader("t", config).await.map(drop).unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { .. }));
}

/// The leader has checked it, and its file was made shorter before it was sent.
#[tokio::test]
async fn what_goes_bad_on_the_way_is_asked_for_again_and_what_stays_bad_is_told() {
    let (cluster, client) = Cluster::of(3, 1).await;
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.state().garbled = 1;
    let records = read(&client, to_the_end()).await;
    assert_eq!(cluster.state().garbled, 0);
    assert_eq!(numbers(&records, 0), (0..100).collect::<Vec<_>>());
    cluster.state().garbled = 2;
    let mut reader = client.reader("t", to_the_end()).await.unwrap();
    let told = reader.next_batch().await.unwrap().unwrap_err();
    assert!(matches!(told, ClientError::Corrupt { offset: Offset::ZERO, .. }), "{told:?}");
}
