//! Nodes that die, stop, stand still and come back.

use crate::{elect_preferred, leader, partition_where, reason, topic_on};
use tonic_prost::ProstCodec;
use troupe_proto::log::v1::{
    InitProducerRequest, PartitionProduce, ProduceRequest, ProduceResponse, RecordBatch,
};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{
    Cluster, IdempotentProducer, Sample, Server, batch_of, eventually_or_why, partition_of,
};

const TOPIC: &str = "failover";

fn one(batch: RecordBatch, leader_epoch: Option<u32>) -> PartitionProduce {
    PartitionProduce { partition: Some(partition_of(TOPIC, 0)), leader_epoch, batch: Some(batch) }
}

/// R12, R13, R17, I10, K20: the next replica in order leads; it has every record and knows its producers; who
/// comes back follows, until the preferred leader is elected.
#[tokio::test]
async fn the_next_replica_takes_over_with_all_that_was_acknowledged() {
    const BATCHES: u32 = 5;
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[2, 3, 1], &[]).await;
    cluster.healed().await;
    let (first, server) = leader(&cluster, TOPIC).await;
    assert_eq!(first, 2);
    let producer = IdempotentProducer::new(&server, 1).await;
    for sequence in 0..BATCHES {
        let result = server.produce(TOPIC, 0, producer.batch(sequence), Acks::All).await;
        assert_eq!((result.error, result.base_offset), (None, i64::from(sequence)));
    }
    cluster.kill(2);
    let led = partition_where(&cluster, TOPIC, |one| one.leader_id.is_some_and(|id| id != 2)).await;
    assert_eq!(led.leader_id, Some(3), "by the order of replicas");
    assert!(led.leader_epoch > 0);
    let server = cluster.server(3).await;
    // The node may hear of it a little later than the one that was asked.
    eventually_or_why("the new leader takes records", async || {
        let again = server.produce(TOPIC, 0, producer.batch(BATCHES - 1), Acks::All).await;
        match &again.error {
            None => {
                assert_eq!((again.duplicate, again.base_offset), (true, 4));
                Ok(())
            }
            Some(error) if error.retriable => Err(format!("{error:?}")),
            Some(error) => panic!("{error:?}"),
        }
    })
    .await;
    for sequence in 0..BATCHES {
        let again = server.produce(TOPIC, 0, producer.batch(sequence), Acks::All).await;
        assert_eq!((again.duplicate, again.base_offset), (true, i64::from(sequence)));
    }
    let next = server.produce(TOPIC, 0, producer.batch(BATCHES), Acks::All).await;
    assert_eq!((next.error, next.duplicate, next.base_offset), (None, false, i64::from(BATCHES)));
    // R1: a client that has not heard of the new leader.
    let late = server.produce_as(one(producer.batch(6), Some(0)), Acks::All, 0).await;
    assert_eq!(reason(&late.error), FencedLeaderEpoch);

    cluster.restart(&[2]).await;
    let whole = cluster.healed().await;
    assert_eq!(whole.leader(TOPIC, 0), Some(3), "R13: who comes back follows");
    let elected = elect_preferred(&cluster, 1, TOPIC).await;
    assert_eq!((elected.error, elected.leader_id), (None, Some(2)), "R17");
    let again = elect_preferred(&cluster, 3, TOPIC).await;
    assert_eq!(reason(&again.error), ElectionNotNeeded);
    let values = cluster.server(1).await.read_all(TOPIC, 0).await;
    assert_eq!(values.len(), 6);
}

/// K17, K18: a stop moves the leaderships first; nobody is asked to lead without being there.
#[tokio::test]
async fn a_stop_moves_leaderships_before_it_ends() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    cluster.healed().await;
    let (_, server) = leader(&cluster, TOPIC).await;
    for n in 0..10 {
        let batch = batch_of(&[Sample::of(format!("{n}"), 1)]);
        assert_eq!(server.produce(TOPIC, 0, batch, Acks::All).await.error, None);
    }
    drop(server);
    let status = cluster.terminate(1).await;
    assert!(status.success(), "{status}");
    // Not eventually: when the process has ended, it is long decided.
    let picture = cluster.describe_as(3).await.unwrap();
    let left = picture.partition(TOPIC, 0).unwrap();
    assert_eq!((left.leader_id, left.leader_epoch), (Some(2), 1), "{picture}");
    assert_eq!(left.in_sync_replicas, [2, 3], "{picture}");
    let batch = batch_of(&[Sample::of("10", 1)]);
    let result = cluster.server(2).await.produce(TOPIC, 0, batch, Acks::All).await;
    assert_eq!((result.error, result.base_offset), (None, 10));
    cluster.restart(&[1]).await;
    cluster.healed().await;
    assert_eq!(cluster.server(1).await.read_all(TOPIC, 0).await.len(), 11);
}

/// P14, P16: acks=all is everybody in sync; one that stands still is waited for until it is out.
#[tokio::test]
async fn acks_all_waits_for_every_replica_that_is_in_sync() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    let controller = cluster.healed().await.controller;
    // The leader leads on, and so does the controller.
    let still = (2..=3).find(|&id| id != controller).unwrap();
    let (_, server) = leader(&cluster, TOPIC).await;
    let producer = IdempotentProducer::new(&server, 1).await;
    let first = server.produce(TOPIC, 0, producer.batch(0), Acks::All).await;
    assert_eq!(first.error, None);
    cluster.pause(still).await;
    let late = server.produce_as(one(producer.batch(1), None), Acks::All, 100).await;
    assert_eq!(reason(&late.error), RequestTimedOut);
    assert!(!late.error.unwrap().surely_not_done);
    // Without a word for as long as a session lasts, it is in sync no longer.
    partition_where(&cluster, TOPIC, |one| !one.in_sync_replicas.contains(&still)).await;
    let again = server.produce(TOPIC, 0, producer.batch(1), Acks::All).await;
    assert_eq!((again.error, again.duplicate, again.base_offset), (None, true, 1));
    cluster.resume(still);
    cluster.healed().await;
    assert_eq!(server.read_all(TOPIC, 0).await.len(), 2);
}

/// P15: with too few in sync nothing is written; acks=1 does not mind.
#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_all() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    cluster.healed().await;
    for node in [3, 2] {
        assert!(cluster.terminate(node).await.success());
    }
    let server = cluster.server(1).await;
    let batch = || batch_of(&[Sample::of("x", 1)]);
    let refused = server.produce(TOPIC, 0, batch(), Acks::All).await;
    assert_eq!(reason(&refused.error), NotEnoughReplicas);
    assert!(refused.error.unwrap().surely_not_done);
    let alone = server.produce(TOPIC, 0, batch(), Acks::Leader).await;
    assert_eq!((alone.error, alone.base_offset), (None, 0));
    assert_eq!(server.read_all(TOPIC, 0).await.len(), 0, "R3: not committed with so few");
    cluster.restart(&[2, 3]).await;
    cluster.healed().await;
    let result = server.produce(TOPIC, 0, batch(), Acks::All).await;
    assert_eq!((result.error, result.base_offset), (None, 1));
}

/// K15, K16: a leader that stood still for too long leads no more, and says so.
#[tokio::test]
async fn a_leader_that_was_fenced_acknowledges_nothing() {
    let mut cluster = Cluster::start(&[]).await;
    topic_on(&cluster, TOPIC, &[1, 2, 3], &[]).await;
    cluster.healed().await;
    let (_, server) = leader(&cluster, TOPIC).await;
    let producer = IdempotentProducer::new(&server, 1).await;
    assert_eq!(server.produce(TOPIC, 0, producer.batch(0), Acks::All).await.error, None);
    cluster.pause(1).await;
    let led = partition_where(&cluster, TOPIC, |one| one.leader_id.is_some_and(|id| id != 1)).await;
    cluster.resume(1);
    // It may not have heard yet; then it learns it from the followers that are not there.
    let late = server.produce_as(one(producer.batch(1), Some(0)), Acks::All, 500).await;
    let error = late.error.clone().expect("it leads no more");
    let code = error.reason();
    assert!(
        matches!(
            code,
            NotLeader | FencedLeaderEpoch | LeaderNotAvailable | RequestTimedOut | OutcomeUnknown
        ),
        "{error:?}"
    );
    cluster.healed().await;
    let new = cluster.server(led.leader_id.unwrap()).await;
    let next = new.produce(TOPIC, 0, producer.batch(1), Acks::All).await;
    assert_eq!((next.error, next.duplicate, next.base_offset), (None, false, 1));
    assert_eq!(new.read_all(TOPIC, 0).await.len(), 2);
}

/// Whether a call has its response headers before it ends.
async fn has_headers(server: &Server, topic: &str, batch: RecordBatch) -> bool {
    let mut grpc = tonic::client::Grpc::new(server.channel());
    grpc.ready().await.unwrap();
    let (partition, batch) = (Some(partition_of(topic, 0)), Some(batch));
    let partitions = vec![PartitionProduce { partition, batch, leader_epoch: None }];
    let request = ProduceRequest { partitions, ..Default::default() };
    let path = http::uri::PathAndQuery::from_static("/troupe.log.v1.LogService/Produce");
    let requests = tonic::Request::new(tokio_stream::once(request));
    let codec: ProstCodec<ProduceRequest, ProduceResponse> = ProstCodec::default();
    grpc.streaming(requests, path, codec).await.is_ok()
}

/// A client's retry policy does a call again whose connection broke before its headers came: for a producer that is
/// idempotent that is right, and for any other it is twice.
#[tokio::test]
async fn a_retry_policy_sends_again_only_what_its_dead_leader_cannot_have_stored_twice() {
    // The follower stands still, and is waited for.
    let patient = ["broker.session.timeout.ms=600000", "replica.lag.time.max.ms=600000"];
    let mut cluster = Cluster::of(3, &patient).await;
    topic_on(&cluster, "twice", &[1, 2], &[("min.insync.replicas", "2")]).await;
    partition_where(&cluster, "twice", |one| one.in_sync_replicas.len() == 2).await;
    let (leader, server) = leader(&cluster, "twice").await;
    let producer = server.log().init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    let unstamped = batch_of(&[Sample::of("unstamped", 1)]);
    let stamped = RecordBatch {
        producer_id: producer.producer_id,
        producer_epoch: producer.producer_epoch,
        ..batch_of(&[Sample::of("stamped", 1)])
    };
    cluster.pause(3 - leader).await;
    let idempotent = {
        let server = cluster.server(leader).await;
        tokio::spawn(async move { has_headers(&server, "twice", stamped).await })
    };
    assert!(has_headers(&server, "twice", unstamped).await, "it is in the leader's log");
    assert!(!idempotent.is_finished(), "and nothing is answered yet");
    cluster.kill(leader);
    assert!(!idempotent.await.unwrap(), "it can be sent again");
}
