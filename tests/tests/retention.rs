//! Retention and deletion on request, over nodes of their own and on clocks that are scaled down: S15–S19, R25, R26,
//! I10.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::SystemTime;
use troupe_proto::admin::v1::{
    ConfigSource, CreateTopicRequest, DeleteRecordsRequest, GetTopicRequest, ListReplicasRequest,
    RecordsDeletion, RecordsDeletionResult, Replica, ReplicaAssignment,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, ListOffsetsRequest, OffsetQuery, OffsetResult,
};
use troupe_proto::v1::Acks;
use troupe_tests::{
    Cluster, IdempotentProducer, LocalNode, Sample, Server, batch_of, eventually,
    eventually_or_why, partition_of,
};

const TOPIC: &str = "kept";
const YEAR_2099_MS: i64 = 4_070_908_800_000;

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

async fn offset(server: &Server, at: At) -> OffsetResult {
    let query = OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(partition_of(TOPIC, 0)),
        at: Some(at),
    };
    let request = ListOffsetsRequest { queries: vec![query] };
    server.log().list_offsets(request).await.unwrap().into_inner().results.remove(0)
}

async fn produce(server: &Server, times: &[i64]) {
    let records: Vec<_> = times.iter().map(|time| Sample::of("x", *time)).collect();
    let result = server.produce(TOPIC, 0, batch_of(&records), Acks::All).await;
    assert_eq!(result.error, None);
}

/// What a node's replica holds.
async fn replica(server: &Server) -> Option<Replica> {
    let request = ListReplicasRequest { topic: TOPIC.to_owned(), ..Default::default() };
    let listed = server.cluster().list_replicas(request).await.ok()?.into_inner().replicas;
    listed.into_iter().find(|replica| replica.no_answer_reason.is_empty())
}

async fn emptied(server: &Server, end: i64) {
    eventually_or_why("all records are deleted", async || {
        let earliest = offset(server, At::Earliest(true)).await;
        if earliest.offset == end { Ok(()) } else { Err(format!("{earliest:?}")) }
    })
    .await;
}

async fn notice(server: &Server) -> String {
    eventually("the notice is there", async || {
        let notice = replica(server).await?.retention_notice;
        (!notice.is_empty()).then_some(notice)
    })
    .await
}

/// S15, S17: also the segment that takes appends.
#[tokio::test]
async fn topics_without_a_retention_of_their_own_have_that_of_the_node() {
    let settings = [
        "log.retention.check.interval.ms=100",
        "log.retention.hours=1",
        "log.retention.minutes=1",
        "log.retention.ms=1500",
        "log.retention.bytes=64MiB",
    ];
    let node = LocalNode::start(&settings);
    let server = Server::at(&node.server()).await;
    server.create_topic(TOPIC, 1, &[]).await;
    server.create_topic("own", 1, &[("retention.ms", "-1")]).await;
    let records = [Sample::of("stays", now_ms())];
    server.produce("own", 0, batch_of(&records), Acks::All).await;
    produce(&server, &[now_ms(), now_ms()]).await;
    emptied(&server, 2).await;
    assert_eq!(server.read_all("own", 0).await.len(), 1);
    let setting = async |topic: &str, key: &str| {
        let request = GetTopicRequest { name: topic.to_owned() };
        let topic = server.topics().get_topic(request).await.unwrap().into_inner().topic.unwrap();
        let found = topic.configs.into_iter().find(|config| config.name == key).unwrap();
        (found.value.clone(), found.source())
    };
    assert_eq!(setting(TOPIC, "retention.ms").await, ("1500".into(), ConfigSource::Node));
    assert_eq!(setting(TOPIC, "retention.bytes").await, ("67108864".into(), ConfigSource::Node));
    assert_eq!(setting("own", "retention.ms").await, ("-1".into(), ConfigSource::Topic));
    assert_eq!(setting(TOPIC, "segment.ms").await.1, ConfigSource::Default);
}

/// S17: not a whole interval after the start.
#[tokio::test]
async fn the_first_look_comes_after_the_initial_delay() {
    let settings = [
        "log.retention.check.interval.ms=1h",
        "log.initial.task.delay.ms=5s",
        "log.retention.ms=1",
    ];
    let mut node = LocalNode::start(&settings);
    let server = Server::at(&node.server()).await;
    server.create_topic(TOPIC, 1, &[]).await;
    produce(&server, &[now_ms() - 1_000]).await;
    drop(server);
    // It may have looked before there was anything.
    node.restart();
    emptied(&Server::at(&node.server()).await, 1).await;
}

/// The time of the segment's file counts then.
#[tokio::test]
async fn a_record_from_the_future_or_without_a_time_does_not_keep_its_log_for_ever() {
    for time in [YEAR_2099_MS, -1] {
        let node = LocalNode::start(&["log.retention.check.interval.ms=100"]);
        let server = Server::at(&node.server()).await;
        server.create_topic(TOPIC, 1, &[("retention.ms", "1500")]).await;
        produce(&server, &[time]).await;
        let notice = notice(&server).await;
        assert!(notice.contains("goes by the time of their segment's file"), "{notice}");
        emptied(&server, 1).await;
    }
}

#[tokio::test]
async fn records_that_come_with_an_old_date_go_but_not_unnoticed() {
    let node = LocalNode::start(&["log.retention.check.interval.ms=100"]);
    let server = Server::at(&node.server()).await;
    server.create_topic(TOPIC, 1, &[]).await;
    produce(&server, &[1_000]).await;
    emptied(&server, 1).await;
    let notice = notice(&server).await;
    assert!(notice.contains("message.timestamp.before.max.ms"), "{notice}");
}

/// I10: all that it wrote is deleted, and its node has started anew.
#[tokio::test]
async fn a_producer_whose_records_are_all_deleted_goes_on_with_its_sequence() {
    let mut node = LocalNode::start(&["log.retention.check.interval.ms=100"]);
    let server = Server::at(&node.server()).await;
    server.create_topic(TOPIC, 1, &[]).await;
    let producer = IdempotentProducer::new(&server, 1_000).await;
    for sequence in 0..3 {
        let result = server.produce(TOPIC, 0, producer.batch(sequence), Acks::All).await;
        assert_eq!(result.error, None);
    }
    emptied(&server, 3).await;
    drop(server);
    node.restart();
    let server = Server::at(&node.server()).await;
    let wrong = eventually("it is led again", async || {
        let result = server.produce(TOPIC, 0, producer.batch(5), Acks::All).await;
        let reason = result.error.unwrap().reason();
        (reason != ErrorCode::LeaderNotAvailable).then_some(reason)
    });
    assert_eq!(wrong.await, ErrorCode::OutOfOrderSequence);
    let again = server.produce(TOPIC, 0, producer.batch(2), Acks::All).await;
    assert_eq!((again.error, again.duplicate, again.base_offset), (None, true, 2));
    let next = server.produce(TOPIC, 0, producer.batch(3), Acks::All).await;
    assert_eq!((next.error, next.duplicate, next.base_offset), (None, false, 3));
}

async fn create(cluster: &Cluster, configs: &[(&str, &str)]) {
    let request = CreateTopicRequest {
        name: TOPIC.to_owned(),
        assignments: vec![ReplicaAssignment { replicas: vec![1, 2, 3] }],
        configs: configs.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
        ..Default::default()
    };
    cluster.server(1).await.topics().create_topic(request).await.unwrap();
    cluster.healed().await;
}

/// R25, R26: it drops what it has, and begins where its leader does.
#[tokio::test]
async fn a_follower_that_was_away_returns_behind_the_log_start_and_recovers() {
    let mut cluster = Cluster::start(&["log.retention.check.interval.ms=100"]).await;
    create(&cluster, &[("segment.bytes", "8KiB"), ("retention.bytes", "16KiB")]).await;
    let server = cluster.server(1).await;
    produce(&server, &[now_ms()]).await;
    cluster.kill(3);
    for _ in 0..40 {
        let batch = batch_of(&[Sample::of(vec![7; 3_000], now_ms())]);
        let result = server.produce(TOPIC, 0, batch, Acks::All).await;
        assert_eq!(result.error, None);
    }
    let start = eventually("the oldest segments are gone", async || {
        let earliest = offset(&server, At::Earliest(true)).await.offset;
        (earliest > 10).then_some(earliest)
    })
    .await;
    // S28
    let position = FetchPosition { partition: Some(partition_of(TOPIC, 0)), ..Default::default() };
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    let fetched = server.log().fetch(request).await.unwrap().into_inner().partitions.remove(0);
    let refused = fetched.error.expect("a reader behind the start is told both bounds");
    assert_eq!(refused.reason(), ErrorCode::OffsetOutOfRange);
    let bounds = ["earliest", "latest"].map(|fact| refused.facts[fact].parse::<i64>().unwrap());
    assert!(bounds[0] >= start && bounds[1] == 41, "{bounds:?}");
    cluster.restart(&[3]).await;
    cluster.healed().await;
    let third = cluster.server(3).await;
    let held = eventually_or_why("it has what its leader has", async || {
        let (own, leaders) = (replica(&third).await, replica(&server).await);
        let (Some(own), Some(leaders)) = (own, leaders) else { return Err("no answer".into()) };
        let ends = |one: &Replica| (one.log_start_offset, one.log_end_offset, one.high_watermark);
        match ends(&own) == ends(&leaders) {
            true => Ok(own),
            false => Err(format!("{own:?} {leaders:?}")),
        }
    })
    .await;
    assert!(held.log_start_offset >= start && held.log_end_offset == 41, "{held:?}");
}

async fn delete(server: &Server, before_offset: i64) -> RecordsDeletionResult {
    let deletion = RecordsDeletion {
        topic: TOPIC.to_owned(),
        partition: 0,
        before_offset,
        ..Default::default()
    };
    let request = DeleteRecordsRequest { partitions: vec![deletion], ..Default::default() };
    server.topics().delete_records(request).await.unwrap().into_inner().results.remove(0)
}

async fn log_starts(cluster: &Cluster, nodes: &[i32]) -> Vec<i64> {
    let mut starts = Vec::new();
    for node in nodes {
        let server = cluster.server(*node).await;
        starts.push(replica(&server).await.expect("it answers").log_start_offset);
    }
    starts
}

/// S19: through any node; when it is answered, nobody who may lead has the records any more.
#[tokio::test]
async fn what_is_deleted_on_request_stays_deleted_through_restarts_and_other_leaders() {
    let mut cluster = Cluster::start(&[]).await;
    create(&cluster, &[]).await;
    let server = cluster.server(1).await;
    for _ in 0..3 {
        produce(&server, &[now_ms(); 10]).await;
    }
    let third = cluster.server(3).await;
    let deleted = delete(&third, 12).await;
    assert_eq!((deleted.error, deleted.low_watermark), (None, 12));
    // Not eventually: that is what the answer says.
    assert_eq!(log_starts(&cluster, &[1, 2, 3]).await, [12, 12, 12]);
    let refused = delete(&third, 31).await.error.unwrap();
    assert_eq!(refused.reason(), ErrorCode::OffsetOutOfRange);
    assert_eq!(
        (refused.facts["earliest"].as_str(), refused.facts["latest"].as_str()),
        ("12", "30")
    );

    drop(server);
    cluster.kill(1);
    let earliest = async |cluster: &Cluster, node: i32| {
        let server = cluster.server(node).await;
        let asked = eventually_or_why("a leader tells where its log starts", async || {
            let found = offset(&server, At::Earliest(true)).await;
            found.error.clone().map_or(Ok(found), |error| Err(error.message))
        });
        asked.await.offset
    };
    assert_eq!(earliest(&cluster, 2).await, 12, "another leader");
    // Who is away does not keep the others.
    let deleted = eventually_or_why("who is away has left the ISR", async || {
        let deleted = delete(&third, 15).await;
        deleted.error.clone().map_or(Ok(deleted), |error| Err(error.message))
    })
    .await;
    assert_eq!(deleted.low_watermark, 15);
    cluster.restart(&[1]).await;
    cluster.healed().await;
    eventually("who was away follows the log start", async || {
        let server = cluster.server(1).await;
        (replica(&server).await?.log_start_offset == 15).then_some(())
    })
    .await;

    cluster.stop().await;
    cluster.restart(&[1, 2, 3]).await;
    cluster.healed().await;
    assert_eq!(log_starts(&cluster, &[1, 2, 3]).await, [15, 15, 15]);
    let left = cluster.server(2).await.read_all(TOPIC, 0).await;
    assert_eq!((left.first().unwrap().0, left.len()), (15, 15));
}
