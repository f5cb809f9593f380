//! The thin API: records in, records out, from generated stubs alone. T10, T11, T23, T24.

use crate::{checked, refused};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::start_position::At;
use troupe_proto::v1::{
    Acks, Delivery, PublishRequest, PublishStreamRequest, Record, StartPosition, TailRequest,
    TailResponse,
};
use troupe_tests::{Sample, Server, samples};

fn publish(topic: &str, records: Vec<Record>) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), records, ..Default::default() }
}

fn value(text: impl Into<Vec<u8>>) -> Record {
    Record { value: Some(text.into().into()), ..Default::default() }
}

fn tail(topic: &str, at: At) -> TailRequest {
    TailRequest {
        topic: topic.to_owned(),
        start: Some(StartPosition { at: Some(at) }),
        until_end: true,
        ..Default::default()
    }
}

async fn answers(server: &Server, request: TailRequest) -> Vec<TailResponse> {
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers
}

async fn deliveries(server: &Server, request: TailRequest) -> Vec<Delivery> {
    answers(server, request).await.into_iter().flat_map(|answer| answer.deliveries).collect()
}

/// Offsets of what is delivered, by partition.
async fn offsets(server: &Server, request: TailRequest) -> BTreeMap<i32, Vec<i64>> {
    let mut offsets: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for delivery in deliveries(server, request).await {
        offsets.entry(delivery.partition).or_default().push(delivery.offset);
    }
    offsets
}

/// T10: null is not empty; headers keep order and duplicates; results come in the order of the records.
#[tokio::test]
async fn records_come_back_as_they_were_published() {
    let server = Server::get().await;
    let topic = server.new_topic(3, &[]).await.name;
    let records = samples(11, 200, 300);
    let placed: Vec<Record> =
        (0..).zip(&records).map(|(n, record)| record.to_record(n % 3)).collect();
    let answer = server.bus().publish(publish(&topic, placed)).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), records.len());
    for (n, (result, record)) in answer.results.iter().zip(&records).enumerate() {
        assert_eq!((result.partition, result.offset), (n as i32 % 3, n as i64 / 3));
        assert_eq!(result.timestamp_ms, record.timestamp_ms);
    }
    let mut found = BTreeSet::new();
    for delivery in deliveries(&server, tail(&topic, At::Earliest(true))).await {
        assert_eq!(delivery.topic, topic);
        let n = (delivery.offset * 3) as usize + delivery.partition as usize;
        assert_eq!(Sample::from_record(&delivery.record.unwrap()), records[n]);
        assert!(found.insert(n));
    }
    assert_eq!(found.len(), records.len());
}

/// T23, T24: by murmur2 of the key, as every client of Kafka places it.
#[tokio::test]
async fn keys_decide_the_partition() {
    let server = Server::get().await;
    for (partitions, expected) in [(3, 2), (4, 0)] {
        let topic = server.new_topic(partitions, &[]).await.name;
        let record = Record { key: Some("key1".into()), ..value("x") };
        let records = vec![record.clone(), record];
        let answer = server.bus().publish(publish(&topic, records)).await.unwrap().into_inner();
        assert!(answer.results.iter().all(|result| result.partition == expected));
    }
}

#[tokio::test]
async fn records_without_a_key_of_one_request_stay_together() {
    let server = Server::get().await;
    let topic = server.new_topic(5, &[]).await.name;
    let mut used = BTreeSet::new();
    for _ in 0..60 {
        let records = vec![value("a"), value("b")];
        let answer = server.bus().publish(publish(&topic, records)).await.unwrap().into_inner();
        assert_eq!(answer.results[0].partition, answer.results[1].partition);
        used.insert(answer.results[0].partition);
    }
    assert!(used.len() > 1, "drawn at random: {used:?}");
}

#[tokio::test]
async fn a_record_without_a_timestamp_gets_the_brokers() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let answer = server.bus().publish(publish(&topic, vec![value("x")])).await.unwrap();
    let told = answer.into_inner().results[0].timestamp_ms;
    assert!(told > 1_700_000_000_000);
    assert_eq!(server.read_all(&topic, 0).await[0].1.timestamp_ms, told);
}

#[tokio::test]
async fn acks_none_has_no_offsets() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = PublishRequest { acks: Acks::None.into(), ..publish(&topic, vec![value("x")]) };
    let answer = server.bus().publish(request).await.unwrap().into_inner();
    assert_eq!(answer.results[0].offset, -1);
}

/// There is nothing that could fail.
#[tokio::test]
async fn a_publish_without_records_is_answered_without_results() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let answer = server.bus().publish(publish(&topic, Vec::new())).await.unwrap().into_inner();
    assert_eq!(answer.results, []);
    assert_eq!(server.read_all(&topic, 0).await, []);
}

/// Nothing of a request is appended if one of its records cannot be.
#[tokio::test]
async fn a_request_with_an_impossible_record_appends_nothing() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[("max.message.bytes", "10000")]).await.name;
    let elsewhere = Record { partition: Some(9), ..value("x") };
    let large = value(vec![b'x'; 20_000]);
    for (record, expected) in [(elsewhere, UnknownPartition), (large, RecordTooLarge)] {
        let request = publish(&topic, vec![value("fine"), record]);
        let error = refused(server.bus().publish(request)).await;
        assert_eq!(error.code, expected);
        assert!(error.surely_not_done());
    }
    assert_eq!(offsets(&server, tail(&topic, At::Earliest(true))).await, BTreeMap::new());
    let unknown = publish("no-such-topic", vec![value("x")]);
    assert_eq!(refused(server.bus().publish(unknown)).await.code, UnknownTopic);
    let strange = PublishRequest { acks: 9, ..publish(&topic, vec![value("x")]) };
    assert_eq!(refused(server.bus().publish(strange)).await.code, InvalidRequest);
    let empty = server.bus().publish(publish(&topic, vec![])).await.unwrap().into_inner();
    assert_eq!(empty.results, []);
}

/// More than a batch, more than an answer.
#[tokio::test]
async fn a_large_request_is_taken_apart_and_read_in_answers_that_fit() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let records: Vec<_> = (0..30u8).map(|n| value(vec![n; 200_000])).collect();
    let answer = server.bus().publish(publish(&topic, records)).await.unwrap().into_inner();
    let told: Vec<i64> = answer.results.iter().map(|result| result.offset).collect();
    assert_eq!(told, (0..30).collect::<Vec<_>>());
    let answers = answers(&server, tail(&topic, At::Earliest(true))).await;
    assert!(answers.iter().filter(|answer| !answer.deliveries.is_empty()).count() >= 5);
    let values: Vec<u8> = answers
        .iter()
        .flat_map(|answer| &answer.deliveries)
        .map(|delivery| delivery.record.as_ref().unwrap().value.as_ref().unwrap()[7])
        .collect();
    assert_eq!(values, (0..30).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_stream_answers_every_request_in_order() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = |n: usize| PublishStreamRequest {
        topic: if n == 0 { topic.clone() } else { String::new() },
        records: (0..n % 4).map(|m| value(format!("{n}.{m}"))).collect(),
        ..Default::default()
    };
    let requests: Vec<_> = (0..300).map(request).collect();
    let stream = tokio_stream::iter(requests.clone());
    let mut answers = server.bus().publish_stream(stream).await.unwrap().into_inner();
    let mut next = 0;
    for request in &requests {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.results.len(), request.records.len());
        for result in answer.results {
            assert_eq!(result.offset, next);
            next += 1;
        }
    }
    assert_eq!(answers.message().await.unwrap(), None);
    let expected: Vec<_> = requests.iter().flat_map(|request| &request.records).collect();
    let read = server.read_all(&topic, 0).await;
    assert_eq!(read.len(), expected.len());
    for ((_, read), record) in read.iter().zip(expected) {
        assert_eq!(read.value.as_deref(), record.value.as_deref());
    }
}

/// What came before the failure is answered; nothing after it is appended.
#[tokio::test]
async fn a_stream_ends_at_its_first_failure() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let (requests, stream) = mpsc::channel(8);
    let request =
        |records| PublishStreamRequest { topic: topic.clone(), records, ..Default::default() };
    requests.send(request(vec![value("first")])).await.unwrap();
    let stream = ReceiverStream::new(stream);
    let mut answers = server.bus().publish_stream(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().results[0].offset, 0);
    let wrong = Record { partition: Some(7), ..value("nowhere") };
    requests.send(request(vec![wrong])).await.unwrap();
    requests.send(request(vec![value("too late")])).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(checked(&status).code, UnknownPartition);
    assert_eq!(server.read_all(&topic, 0).await.len(), 1);
}

#[tokio::test]
async fn a_stream_belongs_to_one_topic() {
    let server = Server::get().await;
    let (first, second) =
        (server.new_topic(1, &[]).await.name, server.new_topic(1, &[]).await.name);
    for (topics, expected) in [
        (vec![String::new()], None),
        (vec!["no-such-topic".to_owned()], Some(UnknownTopic)),
        (vec![first, second], Some(InvalidRequest)),
    ] {
        let requests: Vec<_> = topics
            .iter()
            .map(|topic| PublishStreamRequest { topic: topic.clone(), ..Default::default() })
            .collect();
        let stream = tokio_stream::iter(requests);
        let mut answers = server.bus().publish_stream(stream).await.unwrap().into_inner();
        let status = loop {
            match answers.message().await {
                Ok(answer) => assert!(answer.is_some(), "{topics:?} was not refused"),
                Err(status) => break status,
            }
        };
        let code = checked(&status).code;
        assert!(expected.is_none_or(|expected| expected == code), "{topics:?}: {code:?}");
    }
}

#[tokio::test]
async fn tail_begins_where_it_is_told() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let records: Vec<_> = (0..10).map(|n| Sample::of("x", 1_000 + n * 10).to_record(0)).collect();
    for record in records {
        server.bus().publish(publish(&topic, vec![record])).await.unwrap();
    }
    for (at, expected) in [
        (At::Earliest(true), 0..10),
        (At::Offset(4), 4..10),
        (At::Offset(10), 10..10),
        (At::TimestampMs(1_035), 4..10),
        (At::TimestampMs(9_999), 10..10),
        (At::Latest(true), 10..10),
    ] {
        let found = offsets(&server, tail(&topic, at)).await.remove(&0).unwrap_or_default();
        assert_eq!(found, expected.collect::<Vec<i64>>(), "{at:?}");
    }
    for at in [At::Offset(11), At::Offset(-1)] {
        let error = refused(server.bus().tail(tail(&topic, at))).await;
        assert_eq!(error.code, OffsetOutOfRange, "{at:?}");
    }
    let limited = TailRequest { max_records: 3, ..tail(&topic, At::Offset(5)) };
    assert_eq!(offsets(&server, limited).await[&0], [5, 6, 7]);
    let negative = TailRequest { max_records: -1, ..tail(&topic, At::Offset(5)) };
    assert_eq!(refused(server.bus().tail(negative)).await.code, InvalidRequest);
    let nowhere = TailRequest { partition: Some(1), ..tail(&topic, At::Earliest(true)) };
    assert_eq!(refused(server.bus().tail(nowhere)).await.code, UnknownPartition);
    let unknown = tail("no-such-topic", At::Earliest(true));
    assert_eq!(refused(server.bus().tail(unknown)).await.code, UnknownTopic);
}

/// Records within a batch, too: the batch is whole, the answer is not.
#[tokio::test]
async fn tail_begins_and_ends_within_a_batch() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    server.bus().publish(publish(&topic, (0..10).map(|_| value("x")).collect())).await.unwrap();
    let request = TailRequest { max_records: 2, ..tail(&topic, At::Offset(7)) };
    assert_eq!(offsets(&server, request).await[&0], [7, 8]);
}

/// T11: each partition in its order, all of them to their ends.
#[tokio::test]
async fn tail_reads_all_partitions_or_one() {
    let server = Server::get().await;
    let topic = server.new_topic(4, &[]).await.name;
    let records = (0..400).map(|n| Sample::of("x", 1).to_record(n % 4)).collect();
    server.bus().publish(publish(&topic, records)).await.unwrap();
    let all: BTreeMap<i32, Vec<i64>> = (0..4).map(|one| (one, (0..100).collect())).collect();
    assert_eq!(offsets(&server, tail(&topic, At::Earliest(true))).await, all);
    let one = TailRequest { partition: Some(2), ..tail(&topic, At::Earliest(true)) };
    assert_eq!(offsets(&server, one).await, BTreeMap::from([(2, (0..100).collect())]));
}

/// Without an end: says when it has caught up, and goes on.
#[tokio::test]
async fn tail_follows() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let before = vec![Sample::of("a", 1).to_record(0), Sample::of("b", 1).to_record(1)];
    server.bus().publish(publish(&topic, before)).await.unwrap();
    let request = TailRequest { until_end: false, ..tail(&topic, At::Earliest(true)) };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    let (mut seen, mut caught_up) = (0, false);
    while !caught_up {
        let answer = stream.message().await.unwrap().unwrap();
        seen += answer.deliveries.len();
        caught_up = answer.caught_up;
    }
    assert_eq!(seen, 2, "caught up is said behind the last record, not before");
    for n in 0..10 {
        let text = format!("new {n}");
        let record = Record { partition: Some(n % 2), ..value(text.clone()) };
        server.bus().publish(publish(&topic, vec![record])).await.unwrap();
        let delivery = loop {
            let answer = stream.message().await.unwrap().unwrap();
            if let Some(delivery) = answer.deliveries.into_iter().next() {
                break delivery;
            }
        };
        assert_eq!(delivery.record.unwrap().value.unwrap(), text);
        assert_eq!((delivery.partition, delivery.offset), (n % 2, 1 + i64::from(n / 2)));
    }
}

/// A partition that is caught up twice does not speak for one that is not.
#[tokio::test]
async fn caught_up_means_every_partition() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let place =
        |partition, value: Vec<u8>| Record { partition: Some(partition), ..self::value(value) };
    server.bus().publish(publish(&topic, vec![place(0, vec![0])])).await.unwrap();
    for n in 0..40 {
        let large = place(1, vec![n; 500_000]);
        server.bus().publish(publish(&topic, vec![large])).await.unwrap();
    }
    let request = TailRequest { until_end: false, ..tail(&topic, At::Earliest(true)) };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    let (mut of_second, mut caught_up) = (0, false);
    while !caught_up {
        let answer = stream.message().await.unwrap().unwrap();
        caught_up = answer.caught_up;
        of_second += answer.deliveries.iter().filter(|one| one.partition == 1).count();
        server.bus().publish(publish(&topic, vec![place(0, vec![1])])).await.unwrap();
    }
    assert_eq!(of_second, 40);
}

/// The zero value of a position is the latest record.
#[tokio::test]
async fn tail_without_a_position_begins_at_the_end() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    server.bus().publish(publish(&topic, vec![value("before")])).await.unwrap();
    let request = TailRequest { topic: topic.clone(), ..Default::default() };
    let mut stream = server.bus().tail(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().unwrap().caught_up);
    server.bus().publish(publish(&topic, vec![value("after")])).await.unwrap();
    let answer = stream.message().await.unwrap().unwrap();
    assert_eq!(answer.deliveries[0].offset, 1);
}
