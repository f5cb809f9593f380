//! Offsets by position and by time: S7.

use crate::reason;
use troupe_proto::batch::Compression;
use troupe_proto::log::v1::offset_query::At;
use troupe_proto::log::v1::{ListOffsetsRequest, OffsetQuery, OffsetResult, TopicPartition};
use troupe_proto::log::v1::{RecordBatch, record_batch};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Sample, Server, batch_of};

async fn list(server: &Server, topic: &str, partition: i32, at: &[At]) -> Vec<OffsetResult> {
    let queries = at.iter().map(|&at| OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(TopicPartition {
            topic: topic.to_owned(),
            partition,
            ..Default::default()
        }),
        at: Some(at),
    });
    let request = ListOffsetsRequest { queries: queries.collect() };
    let results = server.log().list_offsets(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), at.len());
    results
}

/// Offsets and timestamps of the answers.
async fn found(server: &Server, topic: &str, at: &[At]) -> Vec<(i64, i64)> {
    let results = list(server, topic, 0, at).await;
    results
        .into_iter()
        .map(|result| {
            assert_eq!(result.error, None);
            (result.offset, result.timestamp_ms)
        })
        .collect()
}

/// Batches with these timestamps; every second one is packed.
async fn topic_with(server: &Server, batches: &[&[i64]]) -> String {
    let topic = server.new_topic(1, &[("index.interval.bytes", "1")]).await.name;
    for (n, timestamps) in batches.iter().enumerate() {
        let records: Vec<_> =
            timestamps.iter().map(|&timestamp| Sample::of("x", timestamp)).collect();
        let mut batch = batch_of(&records);
        if n % 2 == 1 {
            let Some(record_batch::Payload::Records(set)) = &batch.payload else { panic!() };
            let packed = prost::Message::encode_to_vec(set);
            let packed = Compression::Zstd.compress(&packed).unwrap();
            batch = RecordBatch {
                attributes: Compression::Zstd.id(),
                payload: Some(record_batch::Payload::CompressedRecords(packed)),
                ..batch
            };
        }
        let result = server.produce(&topic, 0, batch, Acks::All).await;
        assert_eq!(result.error, None);
    }
    topic
}

#[tokio::test]
async fn an_empty_partition_begins_and_ends_at_0_and_has_no_times() {
    let server = Server::get().await;
    let topic = topic_with(&server, &[]).await;
    let all = [At::Earliest(true), At::Latest(true), At::TimestampMs(0), At::MaxTimestamp(true)];
    assert_eq!(found(&server, &topic, &all).await, [(0, -1), (0, -1), (-1, -1), (-1, -1)]);
}

/// S7: the first record at or after the time, though times go up and down.
#[tokio::test]
async fn the_first_record_at_or_after_a_time_is_found() {
    let server = Server::get().await;
    let batches: [&[i64]; 4] = [&[100, 200, 150], &[50, 300, 250], &[250], &[400, 400, 350]];
    let topic = topic_with(&server, &batches).await;
    let timestamps: Vec<i64> = batches.concat();
    for time in (0..=450).step_by(25) {
        let first = timestamps.iter().position(|&timestamp| timestamp >= time);
        let expected = first.map_or((-1, -1), |at| (at as i64, timestamps[at]));
        let answer = found(&server, &topic, &[At::TimestampMs(time)]).await;
        assert_eq!(answer, [expected], "at {time}");
    }
    let ends = [At::Earliest(true), At::Latest(true)];
    assert_eq!(found(&server, &topic, &ends).await, [(0, -1), (10, -1)]);
}

/// The record itself, not the batch that holds it.
#[tokio::test]
async fn the_record_with_the_largest_time_is_found() {
    let server = Server::get().await;
    let topic = topic_with(&server, &[&[100], &[50, 300, 250], &[200]]).await;
    assert_eq!(found(&server, &topic, &[At::MaxTimestamp(true)]).await, [(2, 300)]);
}

#[tokio::test]
async fn each_query_fails_for_itself() {
    let server = Server::get().await;
    let topic = topic_with(&server, &[&[1]]).await;
    let result = list(&server, &topic, 1, &[At::Latest(true)]).await.remove(0);
    assert_eq!((result.offset, reason(&result.error)), (-1, UnknownPartition));
    let result = list(&server, "no-such-topic", 0, &[At::Latest(true)]).await.remove(0);
    assert_eq!((result.offset, reason(&result.error)), (-1, UnknownTopic));
    let query = |name: &str, at| OffsetQuery {
        isolation_level: Default::default(),
        partition: Some(TopicPartition { topic: name.into(), ..Default::default() }),
        at,
    };
    let queries = vec![query("no-such-topic", None), query(&topic, Some(At::Latest(true)))];
    let request = ListOffsetsRequest { queries };
    let results = server.log().list_offsets(request).await.unwrap().into_inner().results;
    assert!(results[0].error.is_some());
    assert_eq!((results[1].offset, &results[1].error), (1, &None));
}
