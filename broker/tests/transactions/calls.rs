//! What producers ask, in order and out of order.

use crate::fixture::{Fixture, Producer, TOPIC, settled, soon, topic_partition};
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::admin::v1::topic_service_client::TopicServiceClient;
use troupe_proto::admin::v1::{DeleteTopicRequest, GetTopicRequest};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1 as pb;

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> ErrorCode {
    answer.unwrap_err().code
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transaction_has_an_epoch_of_its_own() {
    let node = Fixture::start().await;
    let first = node.init("orders").await;
    assert_eq!(first.epoch, 0);
    node.begin("orders", first, &[0, 2]).await;
    let described = node.describe("orders").await.unwrap();
    assert_eq!(described.timeout_ms, 60_000);
    assert!(described.start_time_ms.is_some());
    let numbers: Vec<_> =
        described.partitions.iter().map(|it| (&*it.topic, it.partition)).collect();
    assert_eq!(numbers, [(TOPIC, 0), (TOPIC, 2)]);

    let second = node.commit("orders", first).await.unwrap();
    assert_eq!(second, Producer { epoch: 1, ..first });
    node.until_state("orders", TransactionState::CompleteCommit).await;
    node.begin("orders", second, &[1]).await;
    let third = node.abort("orders", second).await.unwrap();
    assert_eq!(third, Producer { epoch: 2, ..first });
    node.until_state("orders", TransactionState::CompleteAbort).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_again_for_an_end_is_told_the_same_again() {
    let node = Fixture::start().await;
    let first = node.init("again").await;
    node.begin("again", first, &[0]).await;
    let next = node.commit("again", first).await.unwrap();
    for _ in 0..3 {
        let again = soon("the same", settled(|| node.commit("again", first))).await;
        assert_eq!(again, Ok(next));
    }
    assert_eq!(code(node.abort("again", first).await), ErrorCode::InvalidTransactionState);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_the_wrong_order_change_nothing() {
    let node = Fixture::start().await;
    let unknown = Producer { id: 7_000_000, epoch: 0 };
    // Before there is any transactional id at all, and after.
    for _ in 0..2 {
        assert_eq!(code(node.add("x", unknown, &[0]).await), ErrorCode::InvalidProducerIdMapping);
        assert_eq!(code(node.commit("x", unknown).await), ErrorCode::InvalidProducerIdMapping);
        node.init("other").await;
    }
    let first = node.init("x").await;
    assert_eq!(code(node.commit("x", first).await), ErrorCode::InvalidTransactionState);
    assert_eq!(code(node.abort("x", first).await), ErrorCode::InvalidTransactionState);
    let other = node.init("other").await;
    assert_ne!(first.id, other.id);
    assert_eq!(code(node.add("x", other, &[0]).await), ErrorCode::InvalidProducerIdMapping);
    let newer = Producer { epoch: first.epoch + 1, ..first };
    assert_eq!(code(node.add("x", newer, &[0]).await), ErrorCode::ProducerFenced);
    let second = node.init("x").await;
    assert_eq!(second.id, first.id);
    for fenced in [node.add("x", first, &[0]).await, node.commit("x", first).await.map(drop)] {
        assert_eq!(code(fenced), ErrorCode::ProducerFenced);
    }
    node.begin("x", second, &[0]).await;
    node.commit("x", second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason() {
    let node = Fixture::start().await;
    for id in ["", &"i".repeat(256), "with\nend"] {
        assert_eq!(code(node.init_once(id).await), ErrorCode::InvalidTransactionalId, "{id}");
    }
    let longest = pb::InitProducerIdRequest {
        transactional_id: "long".to_owned(),
        transaction_timeout_ms: 900_001,
        ..Default::default()
    };
    assert_eq!(code(node.init_with(longest).await), ErrorCode::InvalidTransactionTimeout);
    let first = node.init("x").await;
    let nobody = Producer { id: 0, epoch: 0 };
    assert_eq!(code(node.add("x", nobody, &[0]).await), ErrorCode::InvalidRequest);
    assert_eq!(code(node.add("x", first, &[]).await), ErrorCode::InvalidRequest);
    assert_eq!(code(node.add("x", first, &[0, 3]).await), ErrorCode::UnknownPartition);
    assert_eq!(code(node.add_offsets("x", first, "").await), ErrorCode::InvalidGroupId);
    let unspecified = pb::TransactionOutcome::Unspecified;
    assert_eq!(code(node.end("x", first, unspecified).await), ErrorCode::InvalidRequest);
    for (topic, reason) in [
        ("absent", ErrorCode::UnknownTopic),
        ("..", ErrorCode::InvalidTopic),
        ("__consumer_offsets", ErrorCode::InvalidTopic),
    ] {
        let partition = pb::TopicPartition { topic: topic.to_owned(), ..topic_partition(0) };
        let request = pb::AddPartitionsRequest {
            transactional_id: "x".to_owned(),
            producer_id: first.id,
            producer_epoch: first.epoch,
            partitions: vec![topic_partition(0), partition],
        };
        let refused = node.client().add_partitions(request).await.unwrap_err();
        assert_eq!(Error::from(refused).code, reason, "{topic}");
    }
    assert_eq!(node.state("x").await, TransactionState::Empty, "all of them or none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_aborts_what_the_last_one_left_open_and_fences_it() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.begin("x", first, &[0, 1]).await;
    assert_eq!(code(node.init_once("x").await), ErrorCode::ConcurrentTransactions);
    let second = node.init("x").await;
    assert!(second.id == first.id && second.epoch > first.epoch, "{second:?}");
    assert_eq!(code(node.commit("x", first).await), ErrorCode::ProducerFenced);
    assert_eq!(code(node.add("x", first, &[2]).await), ErrorCode::ProducerFenced);
    node.begin("x", second, &[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_done_once_is_done_once() {
    let node = Fixture::start().await;
    let once = async || {
        let request = pb::InitProducerIdRequest {
            transactional_id: "once".to_owned(),
            unless_committed: true,
            ..Default::default()
        };
        soon("an answer", settled(|| node.init_with(request.clone()))).await
    };
    let given_up = once().await.unwrap();
    node.begin("once", given_up, &[0]).await;
    let done = once().await.unwrap();
    node.begin("once", done, &[0]).await;
    node.commit("once", done).await.unwrap();
    assert_eq!(code(once().await), ErrorCode::InvalidTransactionState);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_lasts_too_long_is_aborted_and_its_producer_fenced() {
    let node = Fixture::start().await;
    let short = pb::InitProducerIdRequest {
        transactional_id: "slow".to_owned(),
        transaction_timeout_ms: 200,
        ..Default::default()
    };
    let first = node.init_with(short).await.unwrap();
    node.begin("slow", first, &[0]).await;
    node.until_state("slow", TransactionState::CompleteAbort).await;
    assert_eq!(code(node.commit("slow", first).await), ErrorCode::ProducerFenced);
    node.init("slow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_group_are_part_of_a_transaction() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.add_offsets("x", first, "readers").await.unwrap();
    let described = node.describe("x").await.unwrap();
    assert_eq!(described.partitions[0].topic, "__consumer_offsets");
    node.commit("x", first).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_deleted_owes_no_marker() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.begin("x", first, &[0]).await;
    let mut topics = TopicServiceClient::new(node.channel.clone());
    let request = DeleteTopicRequest { name: TOPIC.to_owned(), ..Default::default() };
    topics.delete_topic(request).await.unwrap();
    node.commit("x", first).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_transactions_comes_with_the_first_as_configured() {
    let node = Fixture::start_empty().await;
    let mut topics = TopicServiceClient::new(node.channel.clone());
    let request = GetTopicRequest { name: "__transaction_state".to_owned() };
    assert!(topics.get_topic(request.clone()).await.is_err());
    node.init("first").await;
    let topic = topics.get_topic(request).await.unwrap().into_inner().topic.unwrap();
    assert_eq!(topic.partitions.len(), 4);
    // As many replicas as there are brokers, and no more of them have to be in sync.
    assert!(topic.partitions.iter().all(|partition| partition.replicas.len() == 1));
    let config = |key: &str| {
        let entry = topic.configs.iter().find(|entry| entry.name == key);
        entry.unwrap().value.clone()
    };
    assert_eq!(config("min.insync.replicas"), "1");
    assert_eq!(config("cleanup.policy"), "compact");
    assert_eq!(config("segment.bytes"), (100 << 20).to_string());
}
