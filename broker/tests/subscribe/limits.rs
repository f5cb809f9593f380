//! What a client takes, it gets, and no more: with a client that has its limit for received messages set to just that.

use crate::delivery::publish_sized;
use crate::fixture::{Fixture, PATIENCE, Subscriber, earliest, options, seconds, window};
use tokio::time::timeout;
use tonic::transport::Channel;
use troupe_proto::v1::event_bus_service_client::EventBusServiceClient;
use troupe_proto::v1::*;

const LIMIT: usize = 64 << 10;
/// With it, a message has no space for much else.
const LARGEST: usize = LIMIT - 1_024 - 200;
const TOO_LARGE: usize = LIMIT + 1_000;

fn bus(node: &Fixture) -> EventBusServiceClient<Channel> {
    node.bus().max_decoding_message_size(LIMIT)
}

fn limited(group: &str) -> SubscriptionOptions {
    SubscriptionOptions { max_message_bytes: Some(LIMIT as u32), ..options("t", group) }
}

async fn pull(node: &Fixture, options: SubscriptionOptions) -> PullResponse {
    let request =
        PullRequest { options: Some(options), max_records: 10_000, max_wait: seconds(20) };
    let answer = timeout(PATIENCE, bus(node).pull(request)).await.expect("no answer");
    answer.expect("no larger than the client takes").into_inner()
}

/// Messages grow with what is taken quickly, but not beyond what the client takes.
#[tokio::test(flavor = "multi_thread")]
async fn no_message_of_many_records_is_larger_than_its_client_takes() {
    const RECORDS: usize = 2_000;
    let node = Fixture::start().await;
    node.create("t", 1).await;
    let value = Some(vec![b'v'; 1_000].into());
    let records = vec![Record { value, ..Default::default() }; RECORDS / 4];
    for _ in 0..4 {
        let (topic, records) = ("t".to_owned(), records.clone());
        let request = PublishRequest { topic, records, ..Default::default() };
        node.bus().publish(request).await.unwrap();
    }
    let tail = TailRequest {
        topic: "t".into(),
        start: earliest(),
        until_end: true,
        max_message_bytes: Some(LIMIT as u32),
        ..Default::default()
    };
    let (mut answers, mut tailed) = (bus(&node).tail(tail).await.unwrap().into_inner(), 0);
    while let Some(answer) = answers.message().await.expect("no larger than the client takes") {
        tailed += answer.deliveries.len();
    }
    assert_eq!(tailed, RECORDS);

    let window = Some(Window { max_records: Some(10_000), max_bytes: Some(1 << 30) });
    let asked = SubscriptionOptions { window, auto_ack: true, ..limited("subscribes") };
    let mut one = Subscriber::open(bus(&node), asked).await;
    assert_eq!(one.take(RECORDS).await.len(), RECORDS);
    assert!(one.largest > 40, "{} records in the largest message", one.largest);

    let mut pulled = 0;
    while pulled < RECORDS {
        let asked = SubscriptionOptions { window, ..limited("pulls") };
        pulled += pull(&node, asked).await.deliveries.len();
    }
    assert_eq!(pulled, RECORDS);
}

/// Results wait for the next message, or the record does.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fills_a_message_does_not_share_it() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    publish_sized(&node, "t", &[10, LARGEST, 10]).await;
    let asked = SubscriptionOptions { window: window(1), ..limited("g") };
    let mut one = Subscriber::open(bus(&node), asked).await;
    let first = one.next().await;
    // It makes place for the next record, and for a hundred results beside it.
    let mut ack_ids = vec!["no such id, and not a short one either".to_owned(); 100];
    ack_ids.push(first.ack_id);
    one.send(SubscribeRequest { ack_ids, ..Default::default() }).await;
    let second = one.next().await;
    assert_eq!(second.offset, 1);
    one.ack(&[second]).await;
    assert_eq!(one.next().await.offset, 2);
    let outcomes = one.outcomes(102).await;
    assert_eq!(outcomes.iter().filter(|it| **it == SettleOutcome::UnknownId).count(), 100);
}

/// So many that one answer does not tell all, beside a record that fills an answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_tells_every_record_that_it_passes_over() {
    const PASSED: usize = 40;
    let node = Fixture::start().await;
    node.create("t", 1).await;
    for _ in 0..PASSED / 10 {
        publish_sized(&node, "t", &[TOO_LARGE; 10]).await;
    }
    publish_sized(&node, "t", &[LARGEST]).await;
    let (mut told, mut delivered) = (Vec::new(), Vec::new());
    while delivered.is_empty() || told.len() < PASSED {
        let asked = SubscriptionOptions { skip_too_large: true, ..limited("g") };
        let answer = pull(&node, asked).await;
        let too_large = answer.notices.iter().filter_map(|notice| notice.record_too_large.as_ref());
        told.extend(too_large.map(|record| record.offset));
        delivered.extend(answer.deliveries.iter().map(|delivery| delivery.offset));
    }
    assert_eq!(told, (0..PASSED as i64).collect::<Vec<_>>());
    assert_eq!(delivered, [PASSED as i64]);
}

/// As it is told on a stream: before what comes in its place, and to whoever asks next.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_tells_that_the_position_of_its_group_is_lost() {
    let node = Fixture::start().await;
    node.create("t", 1).await;
    publish_sized(&node, "t", &[10; 10]).await;
    node.commit("g", "t", 500, None).await;
    let mut answers = Vec::new();
    while answers.iter().all(|answer: &PullResponse| answer.deliveries.is_empty()) {
        answers.push(pull(&node, limited("g")).await);
    }
    let lost: Vec<_> = answers
        .iter()
        .flat_map(|answer| &answer.notices)
        .filter_map(|it| it.position_lost.as_ref())
        .collect();
    assert_eq!(lost.len(), 1, "{answers:?}");
    assert_eq!((lost[0].topic.as_str(), lost[0].position, lost[0].latest), ("t", 500, 10));
    assert_eq!(answers.last().unwrap().deliveries[0].offset, 0);
}
