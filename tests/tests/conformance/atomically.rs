//! PublishAtomically: records to several topics, all of them or none. X4, X12.

use crate::refused;
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{
    PublishAtomicallyRequest, Record, RecordResult, StartPosition, TailRequest, TopicRecords,
    start_position::At,
};
use troupe_tests::{Server, eventually};

fn to(topic: &str, partition: i32, values: &[&str]) -> TopicRecords {
    let record = |value: &&str| Record {
        partition: Some(partition),
        value: Some((*value).to_owned().into()),
        ..Default::default()
    };
    TopicRecords { topic: topic.to_owned(), records: values.iter().map(record).collect() }
}

fn request(topics: Vec<TopicRecords>, key: &str) -> PublishAtomicallyRequest {
    PublishAtomicallyRequest { topics, transaction_key: key.to_owned(), ..Default::default() }
}

/// How many records readers of committed ones are given.
async fn seen(server: &Server, topic: &str) -> usize {
    let request = TailRequest {
        topic: topic.to_owned(),
        start: Some(StartPosition { at: Some(At::Earliest(true)) }),
        until_end: true,
        ..Default::default()
    };
    let mut answers = server.bus().tail(request).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        count += answer.deliveries.len();
    }
    count
}

#[tokio::test]
async fn records_to_two_topics_are_published_together() {
    let server = Server::get().await;
    let (one, other) = (server.new_topic(2, &[]).await.name, server.new_topic(1, &[]).await.name);
    let topics = vec![to(&one, 1, &["a", "b"]), to(&other, 0, &["c"])];
    let answer = server.bus().publish_atomically(request(topics, "")).await.unwrap().into_inner();
    let places = |results: &[RecordResult]| -> Vec<(i32, i64)> {
        results.iter().map(|result| (result.partition, result.offset)).collect()
    };
    assert_eq!(places(&answer.topics[0].results), [(1, 0), (1, 1)]);
    assert_eq!(places(&answer.topics[1].results), [(0, 0)]);
    assert!(answer.topics[0].results[0].timestamp_ms > 1_700_000_000_000);
    let both = async || {
        let seen = (seen(&server, &one).await, seen(&server, &other).await);
        (seen == (2, 1)).then_some(())
    };
    eventually("both", both).await;
}

#[tokio::test]
async fn one_impossible_record_undoes_all_of_them() {
    let server = Server::get().await;
    let (one, other) = (server.new_topic(2, &[]).await.name, server.new_topic(1, &[]).await.name);
    let topics = vec![to(&one, 1, &["a", "b"]), to(&other, 3, &["c"])];
    let error = refused(server.bus().publish_atomically(request(topics, ""))).await;
    assert_eq!((error.code, error.records()[0].index), (UnknownPartition, 2));
    assert!(error.surely_not_done());
    assert_eq!((seen(&server, &one).await, seen(&server, &other).await), (0, 0));
}

#[tokio::test]
async fn with_a_key_it_is_done_once() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    // The topic's name is new, and so is the key.
    for round in 0..3 {
        let asked = request(vec![to(&topic, 0, &["a"])], &topic);
        let answer = server.bus().publish_atomically(asked).await.unwrap().into_inner();
        assert_eq!(
            (answer.already_done, answer.topics.len()),
            (round > 0, usize::from(round == 0))
        );
    }
    eventually("one record", async || (seen(&server, &topic).await == 1).then_some(())).await;
}

#[tokio::test]
async fn acknowledgements_are_not_taken_yet() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let ack_ids = vec!["id".to_owned()];
    let asked = PublishAtomicallyRequest { ack_ids, ..request(vec![to(&topic, 0, &["a"])], "") };
    let error = refused(server.bus().publish_atomically(asked)).await;
    assert_eq!(error.code, InvalidRequest);
    assert_eq!(seen(&server, &topic).await, 0);
}
