//! PublishAtomically: records to several topics and acknowledgements, all of it or nothing. X4, X12, X15, X16.

use crate::refused;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;
use troupe_proto::log::v1::{FetchOffsetsRequest, InitProducerIdRequest};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{
    Delivery, Nack, PublishAtomicallyRequest, PullRequest, Record, RecordResult, SettleRequest,
    Settlement, StartPosition, SubscriptionOptions, TailRequest, TopicRecords, settlement::Action,
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

fn acknowledging(topics: Vec<TopicRecords>, read: &[Delivery]) -> PublishAtomicallyRequest {
    let ack_ids = read.iter().map(|it| it.ack_id.clone()).collect();
    PublishAtomicallyRequest { topics, ack_ids, ..Default::default() }
}

/// A topic with these values, and its deliveries to a group that is called so too.
async fn delivered(server: &Server, values: &[&str]) -> (String, Vec<Delivery>) {
    let topic = server.new_topic(1, &[]).await.name;
    let request = request(vec![to(&topic, 0, values)], "");
    server.bus().publish_atomically(request).await.unwrap();
    let read = pull(server, &topic).await;
    assert_eq!(read.len(), values.len());
    (topic, read)
}

/// What comes to the group that is called like the topic.
async fn pull(server: &Server, topic: &str) -> Vec<Delivery> {
    let options = SubscriptionOptions {
        topics: vec![topic.to_owned()],
        group: topic.to_owned(),
        start_position: Some(StartPosition { at: Some(At::Earliest(true)) }),
        ..Default::default()
    };
    let max_wait = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    let request = PullRequest { options: Some(options), max_wait, ..Default::default() };
    server.bus().pull(request).await.unwrap().into_inner().deliveries
}

/// What the group has committed of the topic's partition, once no transaction is open there.
async fn committed(server: &Server, group: &str) -> Option<i64> {
    let request = FetchOffsetsRequest {
        group_id: group.to_owned(),
        require_stable: true,
        ..Default::default()
    };
    eventually("stable offsets", async || {
        let answer = GroupServiceClient::new(server.channel()).fetch_offsets(request.clone()).await;
        Some(answer.ok()?.into_inner().offsets.first()?.offset.as_ref().map(|it| it.offset))
    })
    .await
}

#[tokio::test]
async fn what_was_delivered_is_settled_together_with_what_was_made_of_it() {
    let server = Server::get().await;
    let target = server.new_topic(1, &[]).await.name;
    let (source, read) = delivered(&server, &["a", "b", "c"]).await;
    let made = |values| vec![to(&target, 0, values)];
    let request = acknowledging(made(&["A", "B"]), &read[..2]);
    server.bus().publish_atomically(request.clone()).await.unwrap();
    assert_eq!(committed(&server, &source).await, Some(2));
    // Once is enough, also without a key.
    let error = refused(server.bus().publish_atomically(request)).await;
    assert_eq!((error.code, error.facts["ack_id"].as_str()), (LeaseLost, &*read[0].ack_id));
    assert!(error.surely_not_done() && !error.is_retriable(), "{error}");
    // Nothing has to come of it.
    server.bus().publish_atomically(acknowledging(made(&[]), &read[2..])).await.unwrap();
    assert_eq!(committed(&server, &source).await, Some(4), "the marker before it is no record");
    assert_eq!(seen(&server, &target).await, 2);
}

#[tokio::test]
async fn a_delivery_that_cannot_be_settled_undoes_the_call() {
    let server = Server::get().await;
    let target = server.new_topic(1, &[]).await.name;
    let (source, read) = delivered(&server, &["a", "b", "c"]).await;
    let (_, others) = delivered(&server, &["d"]).await;
    let made = || vec![to(&target, 0, &["A"])];
    let id = |text: &str| vec![Delivery { ack_id: text.to_owned(), ..Default::default() }];
    let none = read[0].ack_id.rsplit_once('.').unwrap().0.to_owned() + ".9";
    for (acks, reason) in [
        (id("none"), UnknownAckId),
        (id(&none), UnknownAckId),
        (read[1..].to_vec(), AckGap),
        (vec![read[0].clone(), others[0].clone()], InvalidRequest),
    ] {
        let error = refused(server.bus().publish_atomically(acknowledging(made(), &acks))).await;
        assert_eq!(error.code, reason, "{error}");
        assert!(error.surely_not_done(), "{error}");
    }
    let nack =
        Settlement { ack_id: read[2].ack_id.clone(), action: Some(Action::Nack(Nack::default())) };
    let nacked = SettleRequest { settlements: vec![nack], ..Default::default() };
    server.bus().settle(nacked).await.unwrap();
    let error = refused(server.bus().publish_atomically(acknowledging(made(), &read))).await;
    assert_eq!(error.code, LeaseLost);
    assert_eq!(seen(&server, &target).await, 0);
    // All that is not settled is, the next time.
    let again = pull(&server, &source).await;
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    let all = [&read[..2], &again[..]].concat();
    server.bus().publish_atomically(acknowledging(made(), &all)).await.unwrap();
    assert_eq!(committed(&server, &source).await, Some(4));
}

#[tokio::test]
async fn a_key_tells_of_acknowledgements_too() {
    let server = Server::get().await;
    let target = server.new_topic(1, &[]).await.name;
    let (source, read) = delivered(&server, &["a"]).await;
    let request = acknowledging(vec![to(&target, 0, &["A"])], &read);
    let asked = || PublishAtomicallyRequest { transaction_key: source.clone(), ..request.clone() };
    for done_before in [false, true] {
        let answer = server.bus().publish_atomically(asked()).await.unwrap().into_inner();
        assert_eq!(answer.already_done, done_before);
    }
    // Whatever comes with it.
    let other = PublishAtomicallyRequest { ack_ids: vec!["none".to_owned()], ..asked() };
    let error = refused(server.bus().publish_atomically(other)).await;
    assert_eq!(error.code, UnknownAckId, "what is no request is none");
    let other = PublishAtomicallyRequest { ack_ids: Vec::new(), ..asked() };
    assert!(server.bus().publish_atomically(other).await.unwrap().into_inner().already_done);
    eventually("one", async || (seen(&server, &target).await == 1).then_some(())).await;
}

#[tokio::test]
async fn nobody_gets_the_producer_of_a_call() {
    let server = Server::get().await;
    let key = server.new_name("key");
    let topic = server.new_topic(1, &[]).await.name;
    server.bus().publish_atomically(request(vec![to(&topic, 0, &["a"])], &key)).await.unwrap();
    for transactional_id in [format!("__atomic/{key}"), "__atomic-1-1".to_owned()] {
        let asked = InitProducerIdRequest { transactional_id, ..Default::default() };
        let mut transactions = TransactionServiceClient::new(server.channel());
        let error = refused(transactions.init_producer_id(asked)).await;
        assert_eq!(error.code, InvalidTransactionalId);
        assert!(error.message.contains("__atomic"), "{error}");
    }
}
