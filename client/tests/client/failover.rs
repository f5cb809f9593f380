//! What clients do when leaders and servers go, fall silent and come back.

use crate::fake::{Cluster, Fault};
use crate::producer::{offsets, record, send, values};
use crate::reader::{fill, numbers, to_the_end};
use futures::StreamExt;
use std::time::Duration;
use tokio::time::timeout;
use troupe_client::{
    Client, ClientConfig, ConsumerRecord, Delivery, Producer, ProducerConfig, Reader, ReaderConfig,
};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;

/// Whatever is waited for comes long before a timeout or back-off of [`patient`] would bring it.
const SOON: Duration = Duration::from_secs(20);

/// Small batches that go at once; nothing happens again because of the time.
fn patient() -> ProducerConfig {
    let minutes = Duration::from_secs(600);
    ProducerConfig {
        batch_size: 0,
        linger: Duration::ZERO,
        request_timeout: minutes,
        delivery_timeout: 2 * minutes,
        retry_backoff: minutes,
        retry_backoff_max: minutes,
        ..ProducerConfig::default()
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("it comes soon")
}

async fn until_sent(producer: &Producer, batches: u64) {
    soon(async {
        while producer.metrics().batches_sent < batches {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn all_arrive(cluster: &Cluster, deliveries: Vec<Delivery>, numbers: std::ops::Range<u32>) {
    let expected: Vec<_> = numbers.clone().map(u64::from).collect();
    assert_eq!(soon(offsets(deliveries)).await, expected);
    assert_eq!(cluster.values(0), values(0..numbers.end));
}

/// P21, I4: stopped with batches in flight, and resumed when another one leads.
#[tokio::test]
async fn what_a_silent_leader_was_sent_goes_to_the_next_at_once() {
    let (cluster, client) = Cluster::of(2, 1).await;
    let producer = client.producer(patient()).await.unwrap();
    all_arrive(&cluster, send(&producer, 0..1).await, 0..1).await;
    cluster.gates[0].stop(true);
    let deliveries = send(&producer, 1..9).await;
    until_sent(&producer, 1 + 5).await;
    cluster.elect(0, Some(1));
    all_arrive(&cluster, deliveries, 1..9).await;
    cluster.gates[0].stop(false);
    all_arrive(&cluster, send(&producer, 9..20).await, 9..20).await;
    assert_eq!(cluster.state().topics["t"].1[0].producer_epoch(), 0, "one session");
}

/// I4, I10: the connection breaks before a new leader is known.
#[tokio::test]
async fn what_a_killed_leader_was_sent_goes_to_the_next_one() {
    let (cluster, client) = Cluster::of(2, 1).await;
    let producer = client.producer(patient()).await.unwrap();
    all_arrive(&cluster, send(&producer, 0..1).await, 0..1).await;
    cluster.fault([Fault::Pass, Fault::Ignore, Fault::Ignore, Fault::Ignore, Fault::Ignore]);
    let deliveries = send(&producer, 1..9).await;
    cluster.until(|state| state.faults.is_empty()).await;
    cluster.gates[0].kill();
    cluster.elect(0, None);
    cluster.elect(0, Some(1));
    all_arrive(&cluster, deliveries, 1..9).await;
}

#[tokio::test]
async fn a_late_answer_of_a_leader_that_was_given_up_is_not_taken() {
    let (cluster, client) = Cluster::of(2, 2).await;
    let producer = client.producer(patient()).await.unwrap();
    let of = |partition| producer.send(record(7).partition(partition));
    soon(offsets(vec![of(0).await.unwrap(), of(1).await.unwrap()])).await;
    cluster.fault([Fault::Hold(500), Fault::Hold(600), Fault::Hold(700)]);
    let other = of(1).await.unwrap();
    cluster.until(|state| state.held() == 1).await;
    let moved = of(0).await.unwrap();
    cluster.until(|state| state.held() == 2).await;
    cluster.elect(0, Some(1));
    cluster.until(|state| state.held() == 3).await;
    // The old leader's answers come in this order, on a stream that is still in use.
    cluster.release(1).await;
    cluster.release(0).await;
    assert_eq!(soon(offsets(vec![other])).await, [500]);
    assert_eq!(moved.now(), None);
    cluster.release(0).await;
    assert_eq!(soon(offsets(vec![moved])).await, [700]);
}

/// P18.
#[tokio::test]
async fn a_queue_without_a_leader_wakes_when_one_is_known() {
    let (cluster, client) = Cluster::of(2, 1).await;
    cluster.elect(0, None);
    let producer = client.producer(patient()).await.unwrap();
    let deliveries = send(&producer, 0..3).await;
    cluster.until(|state| state.described >= 2).await;
    cluster.elect(0, Some(1));
    all_arrive(&cluster, deliveries, 0..3).await;
}

#[tokio::test]
async fn a_dead_node_holds_up_no_other() {
    let (cluster, client) = Cluster::of(2, 2).await;
    cluster.elect(1, Some(1));
    cluster.gates[0].kill();
    let producer = client.producer(patient()).await.unwrap();
    let waiting = send(&producer, 0..3).await;
    for n in 0..20 {
        let lively = producer.send(record(n).partition(1)).await.unwrap();
        assert_eq!(soon(offsets(vec![lively])).await, [u64::from(n)]);
    }
    assert!(waiting.iter().all(|delivery| delivery.now().is_none()));
    cluster.elect(0, Some(1));
    all_arrive(&cluster, waiting, 0..3).await;
}

/// P21: without a push; also if the same node was elected again.
#[tokio::test]
async fn refusals_that_name_the_leader_are_followed() {
    let (cluster, client) = Cluster::of(3, 1).await;
    cluster.state().mute = true;
    let producer = client.producer(patient()).await.unwrap();
    for (n, leader) in (0..).zip([0, 0, 1, 2, 2, 0]) {
        cluster.state().elect(0, Some(leader));
        all_arrive(&cluster, send(&producer, 3 * n..3 * n + 3).await, 3 * n..3 * n + 3).await;
    }
}

/// R1: it lags behind us, and is the leader all the same.
#[tokio::test]
async fn a_leader_that_does_not_know_its_epoch_yet_is_asked_again() {
    let (cluster, client) = Cluster::of(2, 1).await;
    cluster.state().mute = true;
    cluster.fault((0..4).map(|_| Fault::Refuse(ErrorCode::UnknownLeaderEpoch)));
    let producer = client.producer(patient()).await.unwrap();
    all_arrive(&cluster, send(&producer, 0..3).await, 0..3).await;
}

/// The server that pushes metadata is gone or silent, and so is the leader.
#[tokio::test]
async fn metadata_is_followed_at_another_server() {
    for kill in [true, false] {
        let cluster = Cluster::start(3).await;
        cluster.create_topic("t", 1);
        cluster.elect(0, Some(1));
        let config = ClientConfig {
            control_keepalive_interval: Duration::from_millis(100),
            keepalive_interval: Duration::from_secs(3600),
            ..cluster.config_of(&[0])
        };
        let client = Client::connect(config).await.unwrap();
        let producer = client.producer(patient()).await.unwrap();
        all_arrive(&cluster, send(&producer, 0..1).await, 0..1).await;
        for gate in &cluster.gates[..2] {
            gate.stop(true);
        }
        let deliveries = send(&producer, 1..4).await;
        until_sent(&producer, 4).await;
        if kill {
            cluster.gates[0].kill();
        }
        cluster.elect(0, Some(2));
        all_arrive(&cluster, deliveries, 1..4).await;
    }
}

async fn some(reader: &mut Reader, records: usize) -> Vec<ConsumerRecord> {
    let mut read = Vec::new();
    while read.len() < records {
        let batch = soon(reader.next_batch()).await.expect("there is more").unwrap();
        read.extend(batch.records().map(|record| record.unwrap()));
    }
    read
}

async fn rest(mut read: Vec<ConsumerRecord>, reader: Reader) -> Vec<ConsumerRecord> {
    let records = reader.records().map(|record| record.unwrap());
    read.extend(soon(records.collect::<Vec<_>>()).await);
    read
}

/// Little at a time, so that much is left to be read.
fn slowly() -> ReaderConfig {
    ReaderConfig { credit_bytes: 600, max_partition_bytes: 1, ..to_the_end() }
}

#[tokio::test]
async fn a_reader_leaves_a_silent_leader_without_loss_or_duplicates() {
    let (cluster, client) = Cluster::of(2, 2).await;
    fill(&client, 2, 100, 2, Compression::None).await;
    let mut reader = client.reader("t", slowly()).await.unwrap();
    let read = some(&mut reader, 30).await;
    cluster.gates[0].stop(true);
    cluster.elect(0, Some(1));
    cluster.elect(1, Some(1));
    let records = rest(read, reader).await;
    for partition in 0..2 {
        assert_eq!(numbers(&records, partition), (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_reader_follows_leaders_that_are_killed_or_moved() {
    for kill in [true, false] {
        let (cluster, client) = Cluster::of(2, 1).await;
        cluster.state().mute = !kill;
        fill(&client, 1, 100, 2, Compression::None).await;
        let mut reader = client.reader("t", slowly()).await.unwrap();
        let mut read = some(&mut reader, 30).await;
        if kill {
            cluster.gates[0].kill();
            cluster.elect(0, None);
        }
        cluster.elect(0, Some(1));
        read.extend(some(&mut reader, 20).await);
        cluster.elect(0, Some(1));
        let records = rest(read, reader).await;
        assert_eq!(numbers(&records, 0), (0..100).collect::<Vec<_>>());
    }
}

/// The leader stays and its epoch changes, so that the stream stays too.
#[tokio::test]
async fn what_a_leader_was_asked_before_is_no_answer_to_what_it_is_asked_now() {
    let (cluster, client) = Cluster::of(2, 2).await;
    fill(&client, 2, 200, 2, Compression::None).await;
    cluster.state().late_pushes = true;
    let mut reader = client.reader("t", slowly()).await.unwrap();
    let mut read = Vec::new();
    for _ in 0..3 {
        read.extend(some(&mut reader, 40).await);
        cluster.elect(0, Some(0));
    }
    cluster.elect(1, Some(0));
    let records = rest(read, reader).await;
    assert!(cluster.state().late_pushed > 0);
    for partition in 0..2 {
        assert_eq!(numbers(&records, partition), (0..200).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_leader_that_does_not_know_the_topic_yet_does_not_end_its_partition() {
    let (cluster, client) = Cluster::of(2, 1).await;
    fill(&client, 1, 20, 5, Compression::None).await;
    cluster.state().lagging = 4;
    let reader = client.reader("t", to_the_end()).await.unwrap();
    assert_eq!(numbers(&rest(Vec::new(), reader).await, 0), (0..20).collect::<Vec<_>>());
    assert_eq!(cluster.state().lagging, 0);
}

#[tokio::test]
async fn a_topic_that_is_deleted_ends_its_readers() {
    let (cluster, client) = Cluster::of(2, 2).await;
    fill(&client, 2, 5, 5, Compression::None).await;
    let mut reader = client.reader("t", ReaderConfig::default()).await.unwrap();
    some(&mut reader, 10).await;
    cluster.delete_topic("t");
    for _ in 0..2 {
        let error = soon(reader.next_batch()).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), ErrorCode::UnknownTopic);
    }
    assert!(soon(reader.next_batch()).await.is_none());
}
