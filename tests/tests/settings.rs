//! Behaviours that a setting switches, over nodes of their own: retention, deletion, creation by use, stopping
//! under load.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord};
use troupe_proto::admin::v1::config_resource::Resource;
use troupe_proto::admin::v1::{
    AlterConfigOperation, AlterConfigsResource, AlterableConfig, ConfigResource,
    CreateTopicRequest, DeleteTopicRequest, IncrementalAlterConfigsRequest, ListTopicsRequest,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, FetchStreamRequest, PartitionFetch, ProduceStreamRequest,
    TopicPartition,
};
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{Acks, PublishRequest, StartPosition, TailRequest};
use troupe_tests::{
    LocalNode, PATIENCE, Process, Sample, Serve, Server, batch_of, eventually, reason_of,
};

fn at(topic: &str, offset: i64) -> FetchPosition {
    let partition = TopicPartition { topic: topic.to_owned(), ..Default::default() };
    FetchPosition { partition: Some(partition), offset, ..Default::default() }
}

async fn fetch(server: &Server, topic: &str, offset: i64) -> PartitionFetch {
    let request = FetchRequest { positions: vec![at(topic, offset)], ..Default::default() };
    server.log().fetch(request).await.unwrap().into_inner().partitions.remove(0)
}

fn delete(topic: &str) -> DeleteTopicRequest {
    DeleteTopicRequest { name: topic.to_owned(), validate_only: false, internal: false }
}

/// S14–S17: whole segments go, the oldest first; what is left is read, what is gone is out of range.
#[tokio::test]
async fn retention_deletes_the_oldest_segments() {
    let node = LocalNode::start(&["log.retention.check.interval.ms=50"]);
    let server = Server::at(&node.server()).await;
    let configs = [
        ("segment.bytes", "1MiB"),
        ("retention.bytes", "3MiB"),
        ("retention.ms", "-1"),
        ("file.delete.delay.ms", "10"),
    ];
    let topic = server.create_topic("short", 1, &configs).await.name;
    for n in 0..20u8 {
        let batch = batch_of(&[Sample::of(vec![n; 500_000], 1_000)]);
        let result = server.produce(&topic, 0, batch, Acks::All).await;
        assert_eq!(result.base_offset, i64::from(n));
    }
    let start = eventually("the oldest segments are gone", async || {
        let answer = fetch(&server, &topic, 19).await;
        (answer.log_start_offset > 10).then_some(answer.log_start_offset)
    })
    .await;
    let gone = fetch(&server, &topic, start - 1).await;
    let error = gone.error.expect("what was deleted is out of range");
    assert_eq!(error.reason(), ErrorCode::OffsetOutOfRange);
    assert_eq!(error.facts["earliest"], start.to_string());
    let left = server.read_all(&topic, 0).await;
    assert_eq!(left.first().unwrap().0, start);
    assert_eq!(left.last().unwrap().0, 19, "the active segment stays");
    eventually("the files are gone", async || {
        let sizes = segments(node.directory(), &topic).iter().map(|path| size(path)).sum::<u64>();
        (sizes <= 4 << 20).then_some(())
    })
    .await;
}

/// Segment files of a topic, those that wait for their deletion too.
fn segments(data: &Path, topic: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![data.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.to_string_lossy().contains(&format!("/{topic}-"))
                && path.to_string_lossy().contains(".log")
            {
                found.push(path);
            }
        }
    }
    found
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

/// T7: the files go, later than the topic.
#[tokio::test]
async fn files_of_a_deleted_topic_are_removed() {
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let configs = [("file.delete.delay.ms", "50")];
    let topic = server.create_topic("removed", 2, &configs).await.name;
    for partition in 0..2 {
        server.produce(&topic, partition, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
    }
    assert_eq!(segments(node.directory(), &topic).len(), 2);
    server.topics().delete_topic(delete(&topic)).await.unwrap();
    eventually("the files are gone", async || {
        segments(node.directory(), &topic).is_empty().then_some(())
    })
    .await;
}

/// T7: what waits for its deletion when the node stops does not come back with it.
#[tokio::test]
async fn a_deleted_topic_does_not_come_back_with_a_restart() {
    let mut node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let configs = [("file.delete.delay.ms", "1h")];
    let topic = server.create_topic("removed", 1, &configs).await.name;
    server.produce(&topic, 0, batch_of(&[Sample::of("x", 1)]), Acks::All).await;
    server.topics().delete_topic(delete(&topic)).await.unwrap();
    drop(server);
    node.restart();
    for path in segments(node.directory(), &topic) {
        assert!(path.to_string_lossy().contains("-delete/"), "{}", path.display());
    }
    let server = Server::at(&node.server()).await;
    assert!(fetch(&server, &topic, 0).await.error.is_some());
    server.create_topic(&topic, 1, &[]).await;
    assert_eq!(server.read_all(&topic, 0).await, []);
}

#[tokio::test]
async fn deletion_can_be_switched_off() {
    let node = LocalNode::start(&["delete.topic.enable=false"]);
    let server = Server::at(&node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let status = server.topics().delete_topic(delete(&topic)).await.unwrap_err();
    assert_eq!(reason_of(&status), ErrorCode::TopicDeletionDisabled);
}

/// T8.
#[tokio::test]
async fn publishing_may_create_the_topic() {
    let node = LocalNode::start(&["auto.create.topics.enable=true", "num.partitions=3"]);
    let server = Server::at(&node.server()).await;
    let request = |topic: &str| PublishRequest {
        topic: topic.to_owned(),
        records: vec![Sample::of("first", 1).to_record(2)],
        ..Default::default()
    };
    let answer = server.bus().publish(request("by-use")).await.unwrap().into_inner();
    assert_eq!((answer.results[0].partition, answer.results[0].offset), (2, 0));
    let status = server.bus().publish(request("no such name")).await.unwrap_err();
    assert_eq!(reason_of(&status), ErrorCode::InvalidTopic);
}

/// T8: through the SDK too, by those who send and those who read.
#[tokio::test]
async fn the_sdk_creates_topics_by_use_where_that_is_allowed() {
    let node = LocalNode::start(&["auto.create.topics.enable=true", "num.partitions=3"]);
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let sent = producer.send(ProducerRecord::new("sent").value("x")).await.unwrap();
    assert_eq!(sent.await.unwrap().offset.unwrap().0, 0);
    assert_eq!(client.topic("sent").await.unwrap().partitions.len(), 3);
    let mut consumer = client.consumer(ConsumerConfig::new("readers")).unwrap();
    consumer.subscribe(["read", "__no_one_s"]).unwrap();
    eventually("all of the topic is assigned", async || {
        consumer.poll(Duration::from_millis(50)).await.unwrap();
        (consumer.assignment().len() == 3).then_some(())
    })
    .await;
    let error = client.topic_or_create("__no_one_s").await.unwrap_err();
    assert_eq!(error.reason(), ErrorCode::UnknownTopic, "the cluster's own never are");

    let node = LocalNode::start(&[]);
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let error = client.topic_or_create("sent").await.unwrap_err();
    assert_eq!(error.reason(), ErrorCode::UnknownTopic, "it is not allowed");
}

/// Nothing waits for a topic that is gone: every open stream is told.
#[tokio::test]
async fn streams_of_a_deleted_topic_are_told() {
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    let topic = server.create_topic("doomed", 1, &[]).await.name;
    server.produce(&topic, 0, batch_of(&[Sample::of("x", 1)]), Acks::All).await;

    let request = TailRequest {
        topic: topic.clone(),
        start: Some(StartPosition { at: Some(At::Earliest(true)) }),
        ..Default::default()
    };
    let mut tail = server.bus().tail(request).await.unwrap().into_inner();
    let (pushes, stream) = mpsc::channel(4);
    let first = FetchStreamRequest {
        positions: vec![at(&topic, 0)],
        credit_bytes: 1 << 20,
        ..Default::default()
    };
    pushes.send(first).await.unwrap();
    let pushed = server.log().fetch_stream(ReceiverStream::new(stream)).await;
    let mut pushed = pushed.unwrap().into_inner();
    let (batches, stream) = mpsc::channel(4);
    let answers = server.log().produce_stream(ReceiverStream::new(stream)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut waiting = server.log();
    let long = FetchRequest {
        positions: vec![at(&topic, 1)],
        max_wait_ms: u32::try_from(2 * PATIENCE.as_millis()).unwrap(),
        ..Default::default()
    };
    let long = tokio::spawn(async move { waiting.fetch(long).await });

    server.topics().delete_topic(delete(&topic)).await.unwrap();
    let status = loop {
        match tail.message().await {
            Ok(answer) => assert!(answer.is_some(), "the tail ends as if it had an end"),
            Err(status) => break status,
        }
    };
    assert_eq!(reason_of(&status), ErrorCode::UnknownTopic);
    let error = loop {
        let answer = pushed.message().await.unwrap().unwrap();
        if let Some(error) = answer.error {
            break error;
        }
    };
    assert_eq!(error.reason(), ErrorCode::UnknownTopic);
    let batch = ProduceStreamRequest {
        partition: at(&topic, 0).partition,
        batch: Some(batch_of(&[Sample::of("late", 1)])),
        ..Default::default()
    };
    batches.send(batch).await.unwrap();
    let result = answers.message().await.unwrap().unwrap().result.unwrap();
    assert_eq!(result.error.unwrap().reason(), ErrorCode::UnknownTopic);
    match long.await.unwrap() {
        Ok(answer) => {
            let error = answer.into_inner().partitions.remove(0).error.unwrap();
            assert_eq!(error.reason(), ErrorCode::UnknownTopic);
        }
        Err(status) => assert_eq!(reason_of(&status), ErrorCode::UnknownTopic),
    }
}

/// SIGTERM under load: the process ends by itself, and keeps what it acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_keeps_what_was_acknowledged() {
    let (directory, node) = Process::start_new(&Serve::default());
    Server::at(node.server()).await.create_topic("stopped", 2, &[]).await;
    let client = Client::connect(ClientConfig::new([node.server()])).await.unwrap();
    let producer = client.producer(ProducerConfig::default()).await.unwrap();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let load = tokio::spawn({
        let (producer, acknowledged) = (producer.clone(), Arc::clone(&acknowledged));
        let answered = Arc::new(AtomicU64::new(0));
        async move {
            for n in 0.. {
                // As much ahead as keeps the node busy, and no more.
                while n > answered.load(Ordering::SeqCst) + 2_000 {
                    tokio::task::yield_now().await;
                }
                let partition = (n % 2) as u32;
                let record = ProducerRecord::new("stopped").value(format!("{n}"));
                let (acknowledged, answered) = (Arc::clone(&acknowledged), Arc::clone(&answered));
                let callback = move |answer: Result<troupe_client::RecordMetadata, _>| {
                    answered.fetch_add(1, Ordering::SeqCst);
                    if answer.is_ok() {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                };
                if producer.send_with(record.partition(partition), callback).await.is_err() {
                    return;
                }
            }
        }
    });
    eventually("records are acknowledged", async || {
        (acknowledged.load(Ordering::SeqCst) > 1_000).then_some(())
    })
    .await;
    assert!(node.terminate().await.success());
    load.abort();
    let told = acknowledged.load(Ordering::SeqCst);
    let node = Process::start(directory.path(), &Serve::default()).unwrap();
    let server = Server::at(node.server()).await;
    let mut found = 0;
    for partition in 0..2 {
        let records = server.read_all("stopped", partition).await;
        let values: Vec<u64> = records
            .into_iter()
            .map(|(_, one)| String::from_utf8(one.value.unwrap()).unwrap().parse().unwrap())
            .collect();
        assert!(values.is_sorted_by(|a, b| a < b), "once, in order");
        found += values.len() as u64;
    }
    assert!(found >= told, "{found} of {told}");
}

/// What streams are told when the node stops: to turn elsewhere, or to try again.
#[tokio::test]
async fn open_streams_are_told_that_the_node_stops() {
    let (_directory, node) = Process::start_new(&Serve::default());
    let server = Server::at(node.server()).await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = TailRequest { topic, ..Default::default() };
    let mut tail = server.bus().tail(request).await.unwrap().into_inner();
    assert!(tail.message().await.unwrap().unwrap().caught_up);
    let (stopped, told) = tokio::join!(node.terminate(), tail.message());
    assert_eq!(reason_of(&told.unwrap_err()), ErrorCode::ShuttingDown);
    assert!(stopped.success());
}

async fn alter_cluster(server: &Server, key: &str, value: Option<&str>) {
    let operation =
        if value.is_some() { AlterConfigOperation::Set } else { AlterConfigOperation::Delete };
    let config = AlterableConfig {
        name: key.to_owned(),
        operation: operation.into(),
        value: value.unwrap_or_default().to_owned(),
    };
    let resource = Some(ConfigResource { resource: Some(Resource::Cluster(true)) });
    let resources = vec![AlterConfigsResource { resource, configs: vec![config] }];
    let request = IncrementalAlterConfigsRequest { resources, ..Default::default() };
    let answer = server.configs().incremental_alter_configs(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].error, None, "{key}");
}

/// A3: no restart, and topics that exist already.
#[tokio::test]
async fn retention_that_is_lowered_for_the_cluster_deletes_what_is_there() {
    let mut node = LocalNode::start(&["log.retention.check.interval.ms=50"]);
    let server = Server::at(&node.server()).await;
    let configs = [("segment.bytes", "1MiB"), ("file.delete.delay.ms", "10")];
    let topic = server.create_topic("lowered", 1, &configs).await.name;
    for n in 0..12u8 {
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let batch = batch_of(&[Sample::of(vec![n; 500_000], now)]);
        server.produce(&topic, 0, batch, Acks::All).await;
    }
    assert_eq!(fetch(&server, &topic, 11).await.log_start_offset, 0);
    alter_cluster(&server, "log.retention.bytes", Some("2MiB")).await;
    eventually("the oldest segments are gone", async || {
        (fetch(&server, &topic, 11).await.log_start_offset > 5).then_some(())
    })
    .await;
    // It is there for good, and a topic's own counts before it.
    node.restart();
    let server = Server::at(&node.server()).await;
    let own = [("segment.bytes", "1MiB"), ("retention.bytes", "-1")];
    let own = server.create_topic("own", 1, &own).await.name;
    for topic in [&topic, &own] {
        for n in 0..12u8 {
            let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
            let batch = batch_of(&[Sample::of(vec![n; 500_000], now)]);
            server.produce(topic, 0, batch, Acks::All).await;
        }
    }
    eventually("the oldest segments are gone again", async || {
        (fetch(&server, &topic, 23).await.log_start_offset > 15).then_some(())
    })
    .await;
    assert_eq!(fetch(&server, &own, 11).await.log_start_offset, 0);
}

#[tokio::test]
async fn a_limit_of_connections_that_is_lowered_holds_for_those_that_come() {
    let node = LocalNode::start(&[]);
    let server = Server::at(&node.server()).await;
    alter_cluster(&server, "max.connections.per.ip", Some("1")).await;
    let refused = Server::at(&node.server()).await;
    let request = FetchRequest { positions: vec![at("any", 0)], ..Default::default() };
    let status = refused.log().fetch(request).await.unwrap_err();
    assert_eq!(reason_of(&status), ErrorCode::TooManyConnections, "{status:?}");
    alter_cluster(&server, "max.connections.per.ip", None).await;
    eventually("others come in again", async || {
        let taken = Server::at(&node.server()).await;
        taken.topics().list_topics(ListTopicsRequest::default()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn topics_are_created_as_is_set_for_the_cluster() {
    let node = LocalNode::start(&["num.partitions=2"]);
    let server = Server::at(&node.server()).await;
    let create = async |name: &str| {
        let request = CreateTopicRequest { name: name.to_owned(), ..Default::default() };
        let created = server.topics().create_topic(request).await.unwrap().into_inner();
        created.topic.unwrap().partitions.len()
    };
    assert_eq!(create("started").await, 2);
    alter_cluster(&server, "num.partitions", Some("5")).await;
    assert_eq!(create("set").await, 5);
    alter_cluster(&server, "num.partitions", None).await;
    assert_eq!(create("unset").await, 2);
    alter_cluster(&server, "delete.topic.enable", Some("false")).await;
    let refused = server.topics().delete_topic(delete("unset")).await.unwrap_err();
    assert_eq!(reason_of(&refused), ErrorCode::TopicDeletionDisabled);
}

/// Threads come and go, and what they share is shared anew.
#[tokio::test]
async fn a_cleaner_that_was_without_threads_of_its_own_goes_on_with_as_many_as_are_set() {
    let node = LocalNode::start(&["log.cleaner.backoff.ms=3600000"]);
    let server = Server::at(&node.server()).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "4096"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    let topic = server.create_topic("compacted", 1, &configs).await.name;
    alter_cluster(&server, "log.cleaner.threads", Some("3")).await;
    alter_cluster(&server, "log.cleaner.dedupe.buffer.size", Some("6MiB")).await;
    alter_cluster(&server, "log.cleaner.threads", Some("1")).await;
    for n in 0..40 {
        let sample = Sample { key: Some("k".into()), ..Sample::of(vec![n; 500], 1) };
        server.produce(&topic, 0, batch_of(&[sample]), Acks::All).await;
    }
    // An hour's rest is cut short by what is set.
    alter_cluster(&server, "log.cleaner.backoff.ms", Some("20")).await;
    eventually("all but the last of the key are gone", async || {
        (server.read_all(&topic, 0).await.len() < 20).then_some(())
    })
    .await;
}
