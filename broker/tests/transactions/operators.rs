//! What operators ask of transactions.

use crate::fixture::{Fixture, TOPIC};
use troupe_proto::admin::v1 as pb;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::log::v1::{CommitTransactionOffsetsRequest, OffsetAndMetadata, PartitionCommit};

async fn list(node: &Fixture, request: pb::ListTransactionsRequest) -> Vec<(String, i32)> {
    let answer = node.operator().list_transactions(request).await.unwrap().into_inner();
    let one = |it: pb::TransactionListing| (it.transactional_id, it.state);
    answer.transactions.into_iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_listed_by_what_they_are() {
    let node = Fixture::start().await;
    assert_eq!(list(&node, pb::ListTransactionsRequest::default()).await, []);
    let idle = node.init("idle").await;
    let open = node.init("open").await;
    node.begin("open", open, &[0]).await;
    let (empty, ongoing) = (TransactionState::Empty.into(), TransactionState::Ongoing.into());
    let all = [("idle".to_owned(), empty), ("open".to_owned(), ongoing)];
    assert_eq!(list(&node, pb::ListTransactionsRequest::default()).await, all);
    let states = vec![ongoing];
    let request = pb::ListTransactionsRequest { states, ..Default::default() };
    assert_eq!(list(&node, request).await, all[1..]);
    let request = pb::ListTransactionsRequest { producer_id: idle.id, ..Default::default() };
    assert_eq!(list(&node, request).await, all[..1]);
    let request = pb::ListTransactionsRequest { open_for_ms: 3_600_000, ..Default::default() };
    assert_eq!(list(&node, request).await, []);
    let request = pb::ListTransactionsRequest { page_size: 1, ..Default::default() };
    let page = node.operator().list_transactions(request).await.unwrap().into_inner();
    assert_eq!((page.transactions.len(), &*page.next_page_token), (1, "idle"));
    let request = pb::ListTransactionsRequest { states: vec![77], ..Default::default() };
    let refused = Error::from(node.operator().list_transactions(request).await.unwrap_err());
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_aborts_what_is_open() {
    let node = Fixture::start().await;
    let abort = async |id: &str| {
        let request = pb::AbortTransactionRequest { transactional_id: id.to_owned() };
        node.operator().abort_transaction(request).await.map(drop).map_err(Error::from)
    };
    let code = |answer: Result<(), Error>| answer.unwrap_err().code;
    for _ in 0..2 {
        assert_eq!(code(abort("absent").await), ErrorCode::TransactionalIdNotFound);
        let unknown = node.describe("absent").await.unwrap_err().code;
        assert_eq!(unknown, ErrorCode::TransactionalIdNotFound);
        node.init("x").await;
    }
    assert_eq!(code(abort("").await), ErrorCode::InvalidTransactionalId);
    assert_eq!(code(abort("x").await), ErrorCode::InvalidTransactionState);
    let producer = node.init("x").await;
    node.begin("x", producer, &[0]).await;
    abort("x").await.unwrap();
    node.until_state("x", TransactionState::CompleteAbort).await;
    let fenced = node.commit("x", producer).await.unwrap_err().code;
    assert_eq!(fenced, ErrorCode::ProducerFenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hang_is_not_found_and_not_aborted() {
    let node = Fixture::start().await;
    let producer = node.init("x").await;
    node.begin("x", producer, &[0]).await;
    let find = |topic: &str| pb::FindHangingTransactionsRequest {
        topic: topic.to_owned(),
        open_for_ms: 1,
        ..Default::default()
    };
    for topic in ["", TOPIC] {
        let found = node.operator().find_hanging_transactions(find(topic)).await.unwrap();
        assert_eq!(found.into_inner(), pb::FindHangingTransactionsResponse::default());
    }
    let mut operator = node.operator();
    let unknown = operator.find_hanging_transactions(find("absent")).await.unwrap_err();
    assert_eq!(Error::from(unknown).code, ErrorCode::UnknownTopic);
    let request = pb::AbortHangingTransactionRequest {
        topic: TOPIC.to_owned(),
        partition: 0,
        start_offset: 0,
    };
    let refused = operator.abort_hanging_transaction(request).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::InvalidTransactionState);
    let request = pb::DescribeProducersRequest { topic: TOPIC.to_owned(), partition: 9 };
    let unknown = operator.describe_producers(request).await.unwrap_err();
    assert_eq!(Error::from(unknown).code, ErrorCode::UnknownPartition);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_another_producer_are_not_committed() {
    let node = Fixture::start().await;
    node.init("x").await;
    let partition = crate::fixture::topic_partition(0);
    let request = CommitTransactionOffsetsRequest {
        transactional_id: "x".to_owned(),
        producer_id: 7_000_000,
        group_id: "readers".to_owned(),
        commits: vec![PartitionCommit {
            partition: Some(partition),
            offset: Some(OffsetAndMetadata { offset: 3, ..Default::default() }),
        }],
        ..Default::default()
    };
    let refused = node.client().commit_transaction_offsets(request).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::InvalidProducerIdMapping);
}
