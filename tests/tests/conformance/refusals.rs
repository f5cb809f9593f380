//! Batches and requests that are refused for some of their records: T14, T15.

use crate::{checked, reason};
use std::time::{Duration, SystemTime};
use troupe_client::{Client, ClientConfig, ClientError, ProducerConfig, ProducerRecord};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{Acks, ErrorDetail, PublishRequest};
use troupe_tests::{Sample, Server, batch_of};

/// Nothing older than a minute.
const FRESH: &[(&str, &str)] = &[("message.timestamp.before.max.ms", "60000")];

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

fn indexes(detail: &ErrorDetail) -> Vec<u32> {
    detail.records.iter().map(|record| record.index).collect()
}

/// T14: each record is looked at, not only the first and the youngest.
#[tokio::test]
async fn a_batch_with_a_record_out_of_time_is_refused_and_names_it() {
    let server = Server::get().await;
    let topic = server.new_topic(1, FRESH).await.name;
    let now = now_ms();
    let times = [now, now - 1, 5, now, now - 3_600_000, now];
    let records: Vec<_> = times.iter().map(|time| Sample::of("x", *time)).collect();
    let result = server.produce(&topic, 0, batch_of(&records), Acks::All).await;
    assert_eq!(reason(&result.error), InvalidTimestamp);
    let detail = result.error.unwrap();
    assert_eq!(indexes(&detail), [2, 4]);
    assert!(detail.records.iter().all(|one| one.reason() == InvalidTimestamp), "{detail:?}");
    assert_eq!(detail.facts["bad_records"], "2");
    assert_eq!(server.read_all(&topic, 0).await, [], "the others are not appended either");
    let good: Vec<_> = [0, 1, 3, 5].map(|n: usize| records[n].clone()).to_vec();
    assert_eq!(server.produce(&topic, 0, batch_of(&good), Acks::All).await.error, None);
}

/// T15.
#[tokio::test]
async fn a_compacted_topic_names_the_records_that_have_no_key() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("cleanup.policy", "compact")]).await.name;
    let record = |n: u8| Sample { key: n.is_multiple_of(4).then(|| vec![n]), ..Sample::of("x", 1) };
    let records: Vec<_> = (0..40).map(record).collect();
    let result = server.produce(&topic, 0, batch_of(&records), Acks::All).await;
    assert_eq!(reason(&result.error), InvalidRecord);
    let detail = result.error.unwrap();
    assert_eq!(indexes(&detail), [1, 2, 3, 5, 6, 7, 9, 10, 11, 13], "the first ten");
    assert_eq!(detail.facts["bad_records"], "30");
}

/// A batch whose header says another largest timestamp than its records have.
#[tokio::test]
async fn a_largest_timestamp_that_is_not_the_records_is_refused() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    for wrong in [0, 6, i64::MAX] {
        let mut batch = batch_of(&[Sample::of("x", 5), Sample::of("y", 3)]);
        batch.max_timestamp = wrong;
        let result = server.produce(&topic, 0, batch, Acks::All).await;
        assert_eq!(reason(&result.error), InvalidRecord, "{wrong}");
    }
}

/// T15, by the SDK: all of one batch, each with its own error.
#[tokio::test]
async fn the_sdk_tells_each_record_of_a_refused_batch_whether_it_is_at_fault() {
    let server = Server::get().await;
    let topic = server.new_topic(1, FRESH).await.name;
    let client = Client::connect(ClientConfig::new([server.address()])).await.unwrap();
    let config = ProducerConfig { linger: Duration::from_secs(5), ..ProducerConfig::default() };
    let producer = client.producer(config).await.unwrap();
    let now = now_ms();
    let mut sent = Vec::new();
    for time in [now, 5, now] {
        let record = ProducerRecord::new(&topic).value("x").partition(0).timestamp_ms(time);
        sent.push(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    let mut errors = Vec::new();
    for delivery in sent {
        errors.push(delivery.await.unwrap_err());
    }
    match &errors[1] {
        ClientError::Refused(own) => {
            assert_eq!((own.code, own.records()[0].index), (InvalidTimestamp, 1), "{own:?}");
        }
        other => panic!("{other:?}"),
    }
    for innocent in [&errors[0], &errors[2]] {
        assert!(matches!(innocent, ClientError::RefusedWithBatch(_)), "{innocent:?}");
        assert!(innocent.surely_not_done());
    }
    assert_eq!(server.read_all(&topic, 0).await, []);
}

/// T15, by the thin API: nothing of the request is sent.
#[tokio::test]
async fn publish_names_the_wrong_records_of_a_request_and_stores_none_of_it() {
    let server = Server::get().await;
    let topic = server.new_topic(2, FRESH).await.name;
    let now = now_ms();
    let record = |partition, time| Sample::of("x", time).to_record(partition);
    let records = vec![record(0, now), record(1, 5), record(0, now), record(7, now)];
    let request = PublishRequest { topic: topic.clone(), records, ..Default::default() };
    let error = checked(&server.bus().publish(request).await.unwrap_err());
    assert_eq!((error.code, error.surely_not_done()), (InvalidTimestamp, true));
    let named: Vec<_> = error.records().iter().map(|one| (one.index, one.reason())).collect();
    assert_eq!(named, [(1, InvalidTimestamp), (3, UnknownPartition)]);
    for partition in 0..2 {
        assert_eq!(server.read_all(&topic, partition).await, []);
    }
}
