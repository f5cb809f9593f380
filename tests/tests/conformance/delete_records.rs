//! DeleteRecords: S19, and what readers below are told (S28, C7).

use crate::{checked, reason};
use std::time::Duration;
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, TopicPartition,
};
use troupe_proto::admin::v1::{
    CreateTopicRequest, DeleteRecordsRequest, RecordsDeletion, RecordsDeletionResult,
};
use troupe_proto::ids::{Offset, PartitionId};
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, ListOffsetsRequest, OffsetQuery, PartitionFetch,
};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::start_position::At as StartAt;
use troupe_proto::v1::{Acks, StartPosition, TailRequest};
use troupe_tests::{PATIENCE, Sample, Server, batch_of, partition_of};

fn below(topic: &str, partition: i32, before_offset: i64) -> RecordsDeletion {
    RecordsDeletion { topic: topic.to_owned(), partition, before_offset, ..Default::default() }
}

async fn delete_all(
    server: &Server,
    partitions: Vec<RecordsDeletion>,
    validate_only: bool,
) -> Vec<RecordsDeletionResult> {
    let request = DeleteRecordsRequest { partitions, timeout_ms: 0, validate_only };
    server.topics().delete_records(request).await.unwrap().into_inner().results
}

async fn delete(server: &Server, topic: &str, before_offset: i64) -> RecordsDeletionResult {
    delete_all(server, vec![below(topic, 0, before_offset)], false).await.remove(0)
}

/// As it should be, and where the log starts then.
#[track_caller]
fn low_watermark(result: RecordsDeletionResult) -> i64 {
    assert_eq!(result.error, None, "{result:?}");
    result.low_watermark
}

/// Four batches of ten records in each partition.
async fn filled(server: &Server, partitions: i32, configs: &[(&str, &str)]) -> String {
    // The records are old, and shall not go by that.
    let configs = [configs, &[("retention.ms", "-1")]].concat();
    let topic = server.new_topic(partitions, &configs).await.name;
    for partition in 0..partitions {
        for n in 0..4u8 {
            let records: Vec<_> = (0..10)
                .map(|m| Sample { key: Some(vec![m]), ..Sample::of(vec![n; 100], 1_000) })
                .collect();
            let result = server.produce(&topic, partition, batch_of(&records), Acks::All).await;
            assert_eq!(result.error, None);
        }
    }
    topic
}

async fn fetch(server: &Server, topic: &str, offset: i64) -> PartitionFetch {
    let position =
        FetchPosition { partition: Some(partition_of(topic, 0)), offset, ..Default::default() };
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    server.log().fetch(request).await.unwrap().into_inner().partitions.remove(0)
}

async fn earliest(server: &Server, topic: &str) -> i64 {
    let query = OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(partition_of(topic, 0)),
        at: Some(At::Earliest(true)),
    };
    let request = ListOffsetsRequest { queries: vec![query] };
    server.log().list_offsets(request).await.unwrap().into_inner().results.remove(0).offset
}

/// S19, S28: within a batch too; what is left keeps its offsets.
#[tokio::test]
async fn what_is_deleted_is_gone_for_readers_who_are_told_both_bounds() {
    let server = Server::get().await;
    let topic = filled(&server, 1, &[]).await;
    assert_eq!(low_watermark(delete(&server, &topic, 15).await), 15);
    let gone = fetch(&server, &topic, 14).await;
    assert_eq!(reason(&gone.error), OffsetOutOfRange);
    let facts = gone.error.unwrap().facts;
    assert_eq!((facts["earliest"].as_str(), facts["latest"].as_str()), ("15", "40"));
    let left = fetch(&server, &topic, 15).await;
    assert_eq!((left.error, left.log_start_offset, left.high_watermark), (None, 15, 40));
    assert_eq!(earliest(&server, &topic).await, 15);
    let records = server.read_all(&topic, 0).await;
    assert_eq!((records.first().unwrap().0, records.len()), (15, 25));

    assert_eq!(low_watermark(delete(&server, &topic, 3).await), 15, "it is deleted already");
    assert_eq!(low_watermark(delete(&server, &topic, -1).await), 40);
    assert_eq!(server.read_all(&topic, 0).await, []);
    let next = server.produce(&topic, 0, batch_of(&[Sample::of("next", 1)]), Acks::All).await;
    assert_eq!((next.base_offset, next.log_start_offset), (40, 40));
    assert_eq!(server.read_all(&topic, 0).await[0].0, 40);
}

/// Each its own error, and nothing changed; the others of the call are done.
#[tokio::test]
async fn what_cannot_be_deleted_is_refused_for_itself_and_nothing_is_changed() {
    let server = Server::get().await;
    let topic = filled(&server, 2, &[]).await;
    let internal = CreateTopicRequest {
        name: "__consumer_offsets".to_owned(),
        internal: true,
        ..Default::default()
    };
    if let Err(status) = server.topics().create_topic(internal).await {
        assert_eq!(checked(&status).code, TopicExists);
    }
    let of_another = RecordsDeletion { topic_id: vec![7; 16].into(), ..below(&topic, 0, 3) };
    let asked = vec![
        below(&topic, 0, 41),
        below(&topic, 0, -2),
        below(&topic, 9, 3),
        below(&topic, -1, 3),
        below("no-such-topic", 0, 3),
        below("no such name", 0, 3),
        below("__consumer_offsets", 0, 0),
        of_another,
        below(&topic, 1, 5),
    ];
    let results = delete_all(&server, asked.clone(), false).await;
    let places: Vec<_> = results.iter().map(|one| (one.topic.clone(), one.partition)).collect();
    assert_eq!(
        places,
        asked.iter().map(|one| (one.topic.clone(), one.partition)).collect::<Vec<_>>()
    );
    let (done, refused) = results.split_last().unwrap();
    assert_eq!((&done.error, done.low_watermark), (&None, 5));
    let reasons: Vec<_> = refused.iter().map(|one| reason(&one.error)).collect();
    assert_eq!(
        reasons,
        [
            OffsetOutOfRange,
            InvalidRequest,
            UnknownPartition,
            UnknownPartition,
            UnknownTopic,
            InvalidTopic,
            InvalidTopic,
            StaleTopicId,
        ]
    );
    assert!(refused.iter().all(|one| one.low_watermark == -1));
    let facts = &refused[0].error.as_ref().unwrap().facts;
    assert_eq!((facts["earliest"].as_str(), facts["latest"].as_str()), ("0", "40"));
    assert_eq!(server.read_all(&topic, 0).await.len(), 40);
}

#[tokio::test]
async fn a_check_says_where_the_log_would_start_and_deletes_nothing() {
    let server = Server::get().await;
    let topic = filled(&server, 1, &[]).await;
    let asked = [15, -1, 41].map(|offset| below(&topic, 0, offset)).to_vec();
    let results = delete_all(&server, asked, true).await;
    assert_eq!(results[0].low_watermark, 15);
    assert_eq!(results[1].low_watermark, 40);
    assert_eq!(reason(&results[2].error), OffsetOutOfRange);
    assert_eq!(server.read_all(&topic, 0).await.len(), 40);
}

/// S26.
#[tokio::test]
async fn a_topic_that_is_only_compacted_obeys_too() {
    let server = Server::get().await;
    let topic = filled(&server, 1, &[("cleanup.policy", "compact")]).await;
    assert_eq!(low_watermark(delete(&server, &topic, 15).await), 15);
    assert_eq!(earliest(&server, &topic).await, 15);
}

async fn committed_at(client: &Client, topic: &str, reset: AutoOffsetReset) -> Consumer {
    let group = format!("{topic}-{reset:?}");
    let config = ConsumerConfig { auto_offset_reset: reset, ..ConsumerConfig::new(&group) };
    let mut consumer = client.consumer(config).unwrap();
    let at = TopicPartition { topic: topic.into(), partition: PartitionId(0) };
    consumer.assign([at.clone()]).unwrap();
    consumer.seek(&at, Offset(5)).unwrap();
    consumer
}

/// C7: whose position is deleted goes on as auto.offset.reset says.
#[tokio::test]
async fn consumers_whose_position_is_deleted_go_on_as_their_reset_says() {
    let server = Server::get().await;
    let topic = filled(&server, 1, &[]).await;
    let client = Client::connect(ClientConfig::new([server.address()])).await.unwrap();
    assert_eq!(low_watermark(delete(&server, &topic, 15).await), 15);
    let mut consumer = committed_at(&client, &topic, AutoOffsetReset::Earliest).await;
    let first = loop {
        if let Some(first) =
            consumer.poll(Duration::from_millis(100)).await.unwrap().into_iter().next()
        {
            break first;
        }
    };
    assert_eq!(first.offset, Offset(15));
    let mut strict = committed_at(&client, &topic, AutoOffsetReset::None).await;
    let error = loop {
        if let Err(error) = strict.poll(Duration::from_millis(100)).await {
            break error;
        }
    };
    assert_eq!(error.reason(), OffsetOutOfRange);
    consumer.close(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_tail_that_begins_below_is_told_both_bounds() {
    let server = Server::get().await;
    let topic = filled(&server, 1, &[]).await;
    assert_eq!(low_watermark(delete(&server, &topic, 15).await), 15);
    let request = TailRequest {
        topic,
        partition: Some(0),
        start: Some(StartPosition { at: Some(StartAt::Offset(3)) }),
        ..Default::default()
    };
    let status = match server.bus().tail(request).await {
        Err(status) => status,
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
    };
    let error = checked(&status);
    assert_eq!(error.code, OffsetOutOfRange);
    assert_eq!((error.facts["earliest"].as_str(), error.facts["latest"].as_str()), ("15", "40"));
}
