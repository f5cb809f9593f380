//! The producer over real streams: what it promises when nodes refuse, break and hang.

use crate::fake::{Cluster, Fault};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use troupe_client::{
    Acks, ClientError, Delivery, Producer, ProducerConfig, ProducerRecord, Record, TrySendError,
};
use troupe_proto::batch::Compression;
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};

/// Small batches that go at once, and retries that do not dawdle.
fn eager() -> ProducerConfig {
    ProducerConfig {
        batch_size: 0,
        linger: Duration::ZERO,
        retry_backoff: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(20),
        ..ProducerConfig::default()
    }
}

pub fn record(n: u32) -> ProducerRecord {
    ProducerRecord::new("t").value(n.to_string()).partition(0)
}

pub async fn send(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for n in numbers {
        deliveries.push(producer.send(record(n)).await.unwrap());
    }
    deliveries
}

pub fn values(numbers: std::ops::Range<u32>) -> Vec<Bytes> {
    numbers.map(|n| n.to_string().into()).collect()
}

pub async fn offsets(deliveries: Vec<Delivery>) -> Vec<u64> {
    let answers = futures::future::join_all(deliveries).await;
    answers.into_iter().map(|answer| answer.unwrap().offset.unwrap().0).collect()
}

/// P1.
#[tokio::test]
async fn a_delivery_tells_where_its_record_is() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let deliveries = send(&producer, 0..100).await;
    assert_eq!(offsets(deliveries).await, (0..100).collect::<Vec<_>>());
    assert_eq!(cluster.values(0), values(0..100));
    assert!(cluster.state().topics["t"].1[0].batches() < 100, "they share batches");
    let metrics = producer.metrics();
    assert_eq!((metrics.records_sent, metrics.records_failed), (100, 0));
    assert_eq!(metrics.buffer_available, 32 << 20);
}

/// P10, P11: what a callback does wrong is its own affair.
#[tokio::test]
async fn a_callback_that_panics_holds_nobody_else_up() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(eager()).await.unwrap();
    producer.send_with(record(0), |_| panic!("as the test wants")).await.unwrap();
    let second = producer.send(record(1)).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), second).await;
    assert_eq!(answer.expect("it resolves").unwrap().offset, Some(Offset(1)));
    producer.close(Duration::from_secs(20)).await.unwrap();
    assert_eq!(producer.metrics().buffer_available, 32 << 20);
}

/// Deliveries may be awaited on another runtime than the one that the producer had.
#[test]
fn deliveries_resolve_when_the_runtime_is_shut_down() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (producer, delivery, _cluster) = runtime.block_on(async {
        let (cluster, client) = Cluster::with_topic(1).await;
        cluster.fault([Fault::Ignore]);
        let producer = client.producer(eager()).await.unwrap();
        let delivery = producer.send(record(0)).await.unwrap();
        cluster.until(|state| state.faults.is_empty()).await;
        (producer, delivery, cluster)
    });
    drop(runtime);
    assert_eq!(delivery.now(), Some(Err(ClientError::Closed { sent: true })));
    assert_eq!(producer.metrics().buffer_available, 32 << 20);
}

/// T21, T25: queues of partitions that are gone with the old topic take no more.
#[tokio::test]
async fn a_topic_that_comes_back_with_fewer_partitions_is_used_as_it_is_now() {
    let (cluster, client) = Cluster::with_topic(16).await;
    let keyless = || ProducerRecord::new("t").value("x");
    let config = ProducerConfig { max_block: Duration::from_secs(1), ..Default::default() };
    let producer = loop {
        let producer = client.producer(config.clone()).await.unwrap();
        let sticky = producer.send(keyless()).await.unwrap().await.unwrap().partition;
        if sticky != PartitionId(0) {
            break producer;
        }
    };
    cluster.create_topic("t", 1);
    producer.topic("t").await.unwrap();
    let next = producer.send(keyless()).await.unwrap();
    assert_eq!(next.partition(), PartitionId(0));
    next.await.unwrap();
    let gone = producer.send(record(1).partition(5)).await.map(drop).unwrap_err();
    assert!(matches!(gone, ClientError::UnknownPartition { count: 1, .. }), "{gone}");
}

/// P9.
#[tokio::test]
async fn batches_are_compressed_as_a_whole() {
    for compression in Compression::ALL {
        let (cluster, client) = Cluster::with_topic(1).await;
        let config = ProducerConfig { compression, ..ProducerConfig::default() };
        let producer = client.producer(config).await.unwrap();
        offsets(send(&producer, 0..50).await).await;
        assert_eq!(cluster.values(0), values(0..50));
    }
}

/// P25.
#[tokio::test]
async fn order_is_kept_when_batches_are_refused() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let refuse = |code| Fault::Refuse(code);
    cluster.fault([
        Fault::Pass,
        refuse(ErrorCode::NotLeader),
        Fault::Pass,
        refuse(ErrorCode::LeaderNotAvailable),
        refuse(ErrorCode::NotEnoughReplicas),
        Fault::Pass,
        refuse(ErrorCode::Throttled),
    ]);
    let producer = client.producer(eager()).await.unwrap();
    let deliveries = send(&producer, 0..40).await;
    assert_eq!(offsets(deliveries).await, (0..40).collect::<Vec<_>>());
    assert_eq!(cluster.values(0), values(0..40));
    assert!(producer.metrics().retries >= 3);
}

/// I4: what was appended before the stream broke is recognised.
#[tokio::test]
async fn nothing_is_doubled_when_streams_break() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let break_often = [Fault::Pass, Fault::LoseAnswer, Fault::Pass, Fault::Lose, Fault::Pass];
    cluster.fault((0..6).flat_map(|_| break_often.clone()));
    let producer = client.producer(eager()).await.unwrap();
    let deliveries = send(&producer, 0..40).await;
    assert_eq!(offsets(deliveries).await, (0..40).collect::<Vec<_>>());
    assert_eq!(cluster.values(0), values(0..40));
    assert_eq!(cluster.state().topics["t"].1[0].producer_ids(), 1);
}

/// P21.
#[tokio::test]
async fn a_new_leader_is_followed() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("t", 1);
    let client = cluster.client().await;
    cluster.fault([Fault::Pass, Fault::Pass, Fault::Move(1), Fault::Pass]);
    let producer = client.producer(eager()).await.unwrap();
    let deliveries = send(&producer, 0..20).await;
    assert_eq!(offsets(deliveries).await, (0..20).collect::<Vec<_>>());
    assert_eq!(cluster.values(0), values(0..20));
}

/// P24: with one in flight order is kept without idempotence too.
#[tokio::test]
async fn one_in_flight_keeps_order_without_idempotence() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.fault([Fault::Pass, Fault::Refuse(ErrorCode::Throttled), Fault::Pass]);
    let config = ProducerConfig { enable_idempotence: Some(false), max_in_flight: 1, ..eager() };
    let producer = client.producer(config).await.unwrap();
    offsets(send(&producer, 0..10).await).await;
    assert_eq!(cluster.values(0), values(0..10));
    assert_eq!(cluster.state().topics["t"].1[0].producer_ids(), 0);
}

/// P12.
#[tokio::test]
async fn without_acks_there_is_no_offset() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig { acks: Acks::None, ..eager() }).await.unwrap();
    for delivery in send(&producer, 0..10).await {
        assert_eq!(delivery.await.unwrap().offset, None);
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(cluster.values(0), values(0..10));
}

/// P11.
#[tokio::test]
async fn callbacks_run_in_send_order() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.fault([Fault::Pass, Fault::Refuse(ErrorCode::NotLeader), Fault::LoseAnswer]);
    let producer = client.producer(eager()).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for n in 0..20 {
        let seen = seen.clone();
        let callback = move |result: Result<troupe_client::RecordMetadata, _>| {
            seen.lock().unwrap().push((n, result.unwrap().offset.unwrap().0));
        };
        producer.send_with(record(n), callback).await.unwrap();
    }
    producer.flush().await.unwrap();
    let expected: Vec<_> = (0..20).map(|n| (n, u64::from(n))).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// P2, P3.
#[tokio::test]
async fn a_full_buffer_holds_senders_back_in_order_of_arrival() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.stall(true);
    let config =
        ProducerConfig { buffer_memory: 64 << 10, max_block: Duration::from_secs(1), ..eager() };
    let producer = client.producer(config).await.unwrap();
    let large = |n: u32| record(n).value(vec![n as u8; 20_000]);
    let mut deliveries = Vec::new();
    for n in 0..3 {
        deliveries.push(producer.send(large(n)).await.unwrap());
    }
    let error = producer.send(large(3)).await.map(drop).unwrap_err();
    assert!(matches!(error, ClientError::BufferExhausted { .. }), "{error}");
    assert!(error.is_retriable() && error.surely_not_done());
    let topic = producer.topic("t").await.unwrap();
    let full = topic.try_send(Record::value(&[0; 20_000])).map(drop);
    assert_eq!(full, Err(TrySendError::Full));

    let waiting: Vec<_> = (3..6).map(|n| producer.send(large(n))).collect();
    let waiting = futures::future::join_all(waiting);
    tokio::pin!(waiting);
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    cluster.stall(false);
    for delivery in waiting.await {
        deliveries.push(delivery.unwrap());
    }
    assert_eq!(offsets(deliveries).await, (0..6).collect::<Vec<_>>());
    let order: Vec<_> = cluster.values(0).iter().map(|value| value[0]).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    assert_eq!(producer.metrics().buffer_available, 64 << 10);
}

/// P5: whoever waits for memory ends the lingering.
#[tokio::test]
async fn a_full_buffer_does_not_wait_for_linger() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig {
        buffer_memory: 100_000,
        linger: Duration::from_secs(60),
        ..ProducerConfig::default()
    };
    let producer = client.producer(config).await.unwrap();
    for n in 0..20 {
        drop(producer.send(record(n).value(vec![n as u8; 20_000])).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(cluster.values(0).len(), 20);
}

/// P3.
#[tokio::test]
async fn a_record_that_can_never_be_sent_fails_at_once() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let error = producer.send(record(0).value(vec![0; 1 << 20])).await.map(drop).unwrap_err();
    assert_eq!(error.reason(), ErrorCode::RecordTooLarge);
    assert!(error.to_string().contains("max_request_size = 1048576"), "{error}");
}

/// P20.
#[tokio::test]
async fn a_batch_that_the_leader_finds_too_large_is_split() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.state().max_batch = 2000;
    let config = ProducerConfig { linger: Duration::from_secs(1), ..ProducerConfig::default() };
    let producer = client.producer(config).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..30u8 {
        deliveries.push(producer.send(record(0).value(vec![n; 300])).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(offsets(deliveries).await, (0..30).collect::<Vec<_>>());
    let order: Vec<_> = cluster.values(0).iter().map(|value| value[0]).collect();
    assert_eq!(order, (0..30).collect::<Vec<_>>());
}

/// I8, P16, P19: given up after it was sent; what follows is a new session and is not refused.
#[tokio::test]
async fn after_a_batch_expired_on_its_way_the_producer_goes_on() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.fault([Fault::Pass, Fault::Ignore]);
    let config = ProducerConfig {
        request_timeout: Duration::from_millis(100),
        delivery_timeout: Duration::from_millis(300),
        ..eager()
    };
    let producer = client.producer(config).await.unwrap();
    offsets(send(&producer, 0..1).await).await;
    let lost = producer.send(record(1)).await.unwrap().await.unwrap_err();
    assert!(matches!(lost, ClientError::DeliveryTimeout { sent: true, .. }), "{lost}");
    assert!(!lost.surely_not_done());
    assert_eq!(offsets(send(&producer, 2..4).await).await, [1, 2]);
    let state = cluster.state();
    let log = &state.topics["t"].1[0];
    assert_eq!((log.producer_ids(), log.producer_epoch()), (1, 1));
}

/// P16: nobody answers; the stream is given up and the batch sent again on another.
#[tokio::test]
async fn a_stream_that_hangs_is_replaced() {
    let (cluster, client) = Cluster::with_topic(1).await;
    cluster.fault([Fault::Ignore]);
    let config = ProducerConfig { request_timeout: Duration::from_millis(50), ..eager() };
    let producer = client.producer(config).await.unwrap();
    assert_eq!(offsets(send(&producer, 0..3).await).await, [0, 1, 2]);
    assert_eq!(cluster.values(0), values(0..3));
}

/// P23.
#[tokio::test]
async fn flush_sends_what_lingers_and_waits_for_it() {
    let (cluster, client) = Cluster::with_topic(4).await;
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = client.producer(config).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..40 {
        deliveries.push(producer.send(record(n).partition(n % 4)).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert!(deliveries.iter().all(|delivery| delivery.now().unwrap().is_ok()));
    assert_eq!((0..4).map(|p| cluster.values(p).len()).sum::<usize>(), 40);
}

/// P23.
#[tokio::test]
async fn close_flushes_then_gives_up_and_takes_nothing_more() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    drop(send(&producer, 0..10).await);
    producer.close(Duration::from_secs(10)).await.unwrap();
    assert_eq!(cluster.values(0), values(0..10));
    let closed = producer.send(record(10)).await.map(drop);
    assert_eq!(closed, Err(ClientError::Closed { sent: false }));

    cluster.stall(true);
    let producer = client.producer(eager()).await.unwrap();
    let deliveries = send(&producer, 0..8).await;
    let closed = producer.close(Duration::from_millis(50)).await;
    assert!(matches!(closed, Err(ClientError::Closed { .. })));
    for delivery in deliveries {
        assert!(matches!(delivery.await, Err(ClientError::Closed { .. })));
    }
}

#[tokio::test]
async fn a_producer_that_is_dropped_sends_what_it_has() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { linger: Duration::from_secs(60), ..ProducerConfig::default() };
    let producer = client.producer(config).await.unwrap();
    drop(send(&producer, 0..10).await);
    drop(producer);
    cluster.until(|state| state.topics["t"].1[0].end == 10).await;
}

/// P2.
#[tokio::test]
async fn a_topic_that_nobody_knows_is_waited_for_then_refused() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { max_block: Duration::from_secs(1), ..eager() };
    let producer = client.producer(config).await.unwrap();
    let error = producer.send(ProducerRecord::new("u").value("v")).await.map(drop).unwrap_err();
    assert_eq!(error.reason(), ErrorCode::UnknownTopic);
    assert!(error.surely_not_done());

    let waits = ProducerConfig { max_block: Duration::from_secs(60), ..eager() };
    let producer = client.producer(waits).await.unwrap();
    let sending = producer.send(ProducerRecord::new("u").value("v"));
    tokio::pin!(sending);
    assert!(futures::poll!(sending.as_mut()).is_pending());
    cluster.create_topic("u", 1);
    assert_eq!(sending.await.unwrap().await.unwrap().offset, Some(Offset(0)));
}

/// T21.
#[tokio::test]
async fn an_explicit_partition_that_does_not_exist_is_waited_for() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { max_block: Duration::from_secs(1), ..eager() };
    let producer = client.producer(config).await.unwrap();
    let error = producer.send(record(0).partition(1)).await.map(drop).unwrap_err();
    assert!(matches!(error, ClientError::UnknownPartition { count: 1, .. }), "{error}");
    cluster.state().topics.get_mut("t").unwrap().1.push(Default::default());
    let placed = producer.send(record(0).partition(1)).await.unwrap().await.unwrap();
    assert_eq!(placed.partition, PartitionId(1));
}

/// T23, T25.
#[tokio::test]
async fn keys_decide_and_records_without_keys_stick() {
    let (cluster, client) = Cluster::with_topic(3).await;
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let topic = producer.topic("t").await.unwrap();
    let keyed = topic.send(Record::keyed(b"key1", b"v")).await.unwrap();
    assert_eq!(keyed.partition(), PartitionId(2));
    let first = topic.try_send(Record::value(b"v")).unwrap();
    for _ in 0..100 {
        let next = topic.try_send(Record::value(b"v")).unwrap();
        assert_eq!(next.partition(), first.partition());
    }
    producer.flush().await.unwrap();
    assert_eq!((0..3).map(|p| cluster.values(p).len()).sum::<usize>(), 102);
}

#[tokio::test]
async fn settings_that_do_not_go_together_are_refused() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig {
        acks: Acks::Leader,
        enable_idempotence: Some(true),
        ..ProducerConfig::default()
    };
    let error = client.producer(config).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("enable_idempotence = true") && error.contains("acks = 1"), "{error}");
}

/// P8: as Kafka counts, if it is asked for; else a partition that waits holds up none of its neighbours.
#[tokio::test]
async fn requests_that_are_unanswered_at_a_node_are_limited_if_that_is_asked_for() {
    for limit in [None, Some(1)] {
        let (cluster, client) = Cluster::with_topic(3).await;
        let config = ProducerConfig { max_in_flight_per_node: limit, ..eager() };
        let producer = client.producer(config).await.unwrap();
        cluster.fault([Fault::Hold(7)]);
        let held = producer.send(record(0)).await.unwrap();
        cluster.until(|state| state.held() == 1).await;
        let mut others = Vec::new();
        for partition in [1, 2, 1] {
            others.push(producer.send(record(1).partition(partition)).await.unwrap());
        }
        let arrived = |state: &crate::fake::State| {
            (1..3).map(|partition| state.topics["t"].1[partition].values().len()).sum::<usize>()
        };
        if limit.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(arrived(&cluster.state()), 0, "one is unanswered");
            cluster.release(0).await;
        }
        cluster.until(|state| arrived(state) == 3).await;
        offsets(others).await;
        if limit.is_none() {
            cluster.release(0).await;
        }
        assert_eq!(held.await.unwrap().offset, Some(Offset(7)));
    }
}

/// T26: of two nodes one takes nothing any more.
#[tokio::test]
async fn a_node_that_takes_nothing_gets_no_more_records_without_keys() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("t", 2);
    cluster.elect(1, Some(1));
    let client = cluster.client().await;
    let mut config = ProducerConfig { max_in_flight: 1, ..eager() };
    config.partitioner.availability_timeout = Duration::from_millis(50);
    let producer = client.producer(config).await.unwrap();
    // One is on its way and is never answered, the next one waits for it.
    cluster.fault([Fault::Ignore]);
    drop(producer.send(record(0)).await.unwrap());
    cluster.until(|state| state.faults.is_empty()).await;
    drop(producer.send(record(1)).await.unwrap());
    let keyless = || ProducerRecord::new("t").value("x");
    tokio::time::sleep(Duration::from_millis(60)).await;
    // The sticky partition was drawn before: a batch of it is the last.
    drop(producer.send(keyless()).await.unwrap());
    drop(producer.send(keyless()).await.unwrap());
    for _ in 0..50 {
        let delivery = producer.send(keyless()).await.unwrap();
        assert_eq!(delivery.partition(), PartitionId(1));
        delivery.await.unwrap();
    }
}
