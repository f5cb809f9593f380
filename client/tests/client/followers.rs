//! Reading from a follower in the client's own rack (KIP-392).

use crate::fake::{Cluster, Follower, NEAR};
use crate::reader::{fill, numbers, to_the_end};
use std::time::Duration;
use troupe_client::{Client, ClientConfig, ConsumerRecord, Reader, ReaderConfig};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;

const FOLLOWER: Follower = Follower { node: 2, in_sync: true, refuses: None };

fn near(config: ReaderConfig) -> ReaderConfig {
    // One batch at a time.
    ReaderConfig { client_rack: NEAR.to_owned(), max_partition_bytes: 1, ..config }
}

async fn produce(client: &Client, numbers: std::ops::Range<u32>) {
    let producer = client.producer(Default::default()).await.unwrap();
    for number in numbers {
        let record = troupe_client::ProducerRecord::new("t")
            .key("0")
            .value(number.to_string())
            .header("h", "x")
            .partition(0);
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
}

/// The next of them, each once and in order.
async fn reads(reader: &mut Reader, wanted: std::ops::Range<u32>) {
    let mut records: Vec<ConsumerRecord> = Vec::new();
    while records.len() < wanted.len() {
        let batch = reader.next_batch().await.expect("it goes on").unwrap();
        records.extend(batch.records().map(|record| record.unwrap()));
    }
    assert_eq!(numbers(&records, 0), wanted.collect::<Vec<_>>());
}

#[tokio::test]
async fn who_names_its_rack_reads_from_the_follower_that_the_leader_names() {
    let (cluster, client) = Cluster::of(3, 1).await;
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.follow(FOLLOWER);
    let mut elsewhere = client.reader("t", to_the_end()).await.unwrap();
    reads(&mut elsewhere, 0..100).await;
    assert_eq!(cluster.state().named, 0);
    assert_eq!(cluster.state().followed, 0);
    let mut reader = client.reader("t", near(to_the_end())).await.unwrap();
    reads(&mut reader, 0..100).await;
    let state = cluster.state();
    assert!(state.followed >= 20, "all batches are from the follower: {}", state.followed);
}

/// S28: a position that a follower calls out of range is not lost, and is not reset: the leader is asked.
#[tokio::test]
async fn what_a_follower_refuses_is_asked_of_the_leader_and_ends_nothing() {
    for code in [
        ErrorCode::OffsetOutOfRange,
        ErrorCode::NotLeader,
        ErrorCode::UnknownTopic,
        ErrorCode::CorruptLog,
        ErrorCode::StorageFailure,
    ] {
        let (cluster, client) = Cluster::of(3, 1).await;
        fill(&client, 1, 100, 5, Compression::None).await;
        cluster.follow(Follower { refuses: Some(code), ..FOLLOWER });
        let mut reader = client.reader("t", near(to_the_end())).await.unwrap();
        reads(&mut reader, 0..100).await;
        let state = cluster.state();
        assert!(state.named > 0 && state.followed == 0, "{code:?}");
    }
}

#[tokio::test]
async fn a_follower_that_leaves_the_in_sync_replicas_is_left_and_taken_again_when_it_is_back() {
    let (cluster, client) = Cluster::of(3, 1).await;
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.follow(FOLLOWER);
    let mut reader = client.reader("t", near(ReaderConfig::default())).await.unwrap();
    reads(&mut reader, 0..100).await;
    let (mut next, followed) = (100, || cluster.state().followed);
    let mut reads_one_more = async |reader: &mut Reader| {
        let before = followed();
        produce(&client, next..next + 1).await;
        reads(reader, next..next + 1).await;
        next += 1;
        followed() > before
    };
    // The client may hear later than the leader that it is in sync.
    while !reads_one_more(&mut reader).await {}
    // It would go on as if nothing were.
    cluster.follow(Follower { in_sync: false, ..FOLLOWER });
    while reads_one_more(&mut reader).await {}
    cluster.follow(FOLLOWER);
    while !reads_one_more(&mut reader).await {}
}

#[tokio::test]
async fn when_the_metadata_is_as_old_as_it_may_become_the_leader_is_asked_again() {
    let (cluster, _) = Cluster::of(3, 1).await;
    let config =
        ClientConfig { metadata_max_age: Duration::from_millis(30), ..cluster.config_of(&[1]) };
    let client = Client::connect(config).await.unwrap();
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.follow(FOLLOWER);
    let mut reader = client.reader("t", near(ReaderConfig::default())).await.unwrap();
    let mut next = 100;
    reads(&mut reader, 0..100).await;
    while cluster.state().named < 4 {
        produce(&client, next..next + 1).await;
        reads(&mut reader, next..next + 1).await;
        next += 1;
    }
}

#[tokio::test]
async fn over_a_change_of_leader_and_of_follower_every_record_comes_once_and_in_order() {
    let (cluster, client) = Cluster::of(3, 1).await;
    fill(&client, 1, 100, 5, Compression::None).await;
    cluster.follow(FOLLOWER);
    let mut reader = client.reader("t", near(ReaderConfig::default())).await.unwrap();
    reads(&mut reader, 0..30).await;
    cluster.elect(0, Some(1));
    reads(&mut reader, 30..60).await;
    cluster.elect(0, Some(2));
    cluster.follow(Follower { node: 0, ..FOLLOWER });
    reads(&mut reader, 60..100).await;
}
