//! Records and offsets in transactions: who reads what, when.

use crate::fixture::{Fixture, PAUSE, Producer, TOPIC, settled, soon, topic_partition};
use std::collections::BTreeSet;
use troupe_proto::admin::v1 as admin;
use troupe_proto::admin::v1::TransactionState;
use troupe_proto::batch::{Compression, ProducerStamp, RecordSetBuilder};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{ProducerEpoch, ProducerId, Sequence};
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::group_service_client::GroupServiceClient;
use troupe_proto::log::v1::log_service_client::LogServiceClient;
use troupe_proto::v1::IsolationLevel;

/// One record of a transaction.
fn batch(of: Producer, sequence: u32) -> pb::RecordBatch {
    let mut records = RecordSetBuilder::new();
    records.push(1, None, Some(b"value"), &[]);
    let stamp = ProducerStamp {
        id: ProducerId(of.id),
        epoch: ProducerEpoch(of.epoch),
        base_sequence: Sequence(sequence),
    };
    let mut built = records.finish(Compression::None, Some(stamp)).unwrap();
    built.header.attributes = built.header.attributes.with_transactional(true);
    prost::Message::decode(built.into_wire()).unwrap()
}

impl Fixture {
    pub async fn write(&self, id: &str, of: Producer, sequence: u32) -> Result<i64, Error> {
        let request = pb::ProduceRequest {
            partitions: vec![pb::PartitionProduce {
                partition: Some(topic_partition(0)),
                batch: Some(batch(of, sequence)),
                leader_epoch: None,
            }],
            transactional_id: id.to_owned(),
            ..Default::default()
        };
        let mut client = LogServiceClient::new(self.channel.clone());
        let answer = soon("a batch", client.produce(request)).await?.into_inner();
        let result = answer.results.into_iter().next().unwrap();
        result.error.map_or(Ok(result.base_offset), |error| Err(error.into()))
    }

    /// How far readers of committed records come, and from where on they skip what was aborted.
    pub async fn committed(&self) -> (i64, BTreeSet<i64>) {
        let mut client = LogServiceClient::new(self.channel.clone());
        let (mut next, mut skipped) = (0, BTreeSet::new());
        loop {
            let position = pb::FetchPosition {
                partition: Some(topic_partition(0)),
                offset: next,
                isolation_level: IsolationLevel::ReadCommitted.into(),
                ..Default::default()
            };
            let request = pb::FetchRequest { positions: vec![position], ..Default::default() };
            let answer = soon("records", client.fetch(request)).await.unwrap().into_inner();
            let read = answer.partitions.into_iter().next().unwrap();
            skipped.extend(read.aborted_transactions.iter().map(|it| it.first_offset));
            match read.batches.unwrap_or_default().batches.last() {
                Some(last) => {
                    let end = last.base_offset + u64::from(last.last_offset_delta) + 1;
                    next = i64::try_from(end).unwrap();
                }
                None => return (read.last_stable_offset, skipped),
            }
        }
    }

    async fn producers(&self) -> Vec<admin::ProducerState> {
        let request = admin::DescribeProducersRequest { topic: TOPIC.to_owned(), partition: 0 };
        let known = soon("producers", self.operator().describe_producers(request)).await.unwrap();
        known.into_inner().producers
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_makes_its_partition_part_of_the_transaction_that_decides_about_it() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    assert_eq!(node.write("x", first, 0).await, Ok(0));
    assert_eq!(node.write("x", first, 1).await, Ok(1));
    assert_eq!(node.state("x").await, TransactionState::Ongoing);
    assert_eq!(node.committed().await, (0, [].into()));
    let known = node.producers().await;
    assert_eq!((known[0].producer_id, known[0].transaction_start_offset), (first.id, Some(0)));

    let second = node.commit("x", first).await.unwrap();
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.committed().await, (3, [].into()), "two records and a marker");
    // The transaction before is over; the next begins with its first batch, from sequence 0 on.
    assert_eq!(node.write("x", second, 0).await, Ok(3));
    let third = node.abort("x", second).await.unwrap();
    node.until_state("x", TransactionState::CompleteAbort).await;
    assert_eq!(node.committed().await, (5, [3].into()));
    assert_eq!(node.write("x", second, 1).await.unwrap_err().code, ErrorCode::ProducerFenced);
    // At once: the leader waits for the coordinator.
    assert_eq!(node.write("x", third, 0).await, Ok(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_right_behind_an_end_waits_until_that_is_complete() {
    let node = Fixture::start().await;
    let mut producer = node.init("x").await;
    for round in 0..20 {
        soon("a batch", settled(|| node.write("x", producer, 0))).await.unwrap();
        producer = node.commit("x", producer).await.unwrap();
        assert_eq!(producer.epoch, round + 1);
    }
    node.until_state("x", TransactionState::CompleteCommit).await;
    assert_eq!(node.committed().await, (40, [].into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_fenced_producer_is_refused_and_of_a_strange_one_too() {
    let node = Fixture::start().await;
    let first = node.init("x").await;
    node.write("x", first, 0).await.unwrap();
    let second = node.init("x").await;
    for refused in [node.write("x", first, 1).await, node.write("y", second, 0).await] {
        let code = refused.unwrap_err().code;
        let expected = [ErrorCode::ProducerFenced, ErrorCode::InvalidProducerIdMapping];
        assert!(expected.contains(&code), "{code:?}");
    }
    assert_eq!(node.write("x", second, 0).await, Ok(2), "behind a record and its abort");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_stand_when_their_transaction_is_committed() {
    let node = Fixture::start().await;
    let mut producer = node.init("x").await;
    let commit = |of: Producer, offset| pb::CommitTransactionOffsetsRequest {
        transactional_id: "x".to_owned(),
        producer_id: of.id,
        producer_epoch: of.epoch,
        group_id: "readers".to_owned(),
        commits: vec![pb::PartitionCommit {
            partition: Some(topic_partition(0)),
            offset: Some(pb::OffsetAndMetadata { offset, ..Default::default() }),
        }],
        ..Default::default()
    };
    let offsets = async || {
        let group_id = "readers".to_owned();
        let request = pb::FetchOffsetsRequest { group_id, ..Default::default() };
        let mut client = GroupServiceClient::new(node.channel.clone());
        let answer = client.fetch_offsets(request).await.unwrap().into_inner();
        let one = |it: pb::CommittedOffset| it.offset.map(|offset| offset.offset);
        answer.offsets.into_iter().filter_map(one).collect::<Vec<_>>()
    };
    for (offset, outcome, state, expected) in [
        (5, pb::TransactionOutcome::Commit, TransactionState::CompleteCommit, vec![5]),
        (9, pb::TransactionOutcome::Abort, TransactionState::CompleteAbort, vec![5]),
    ] {
        let before = offsets().await;
        let committed = soon(
            "offsets",
            settled(|| async {
                let answer =
                    node.client().commit_transaction_offsets(commit(producer, offset)).await;
                Ok(answer.map_err(Error::from)?.into_inner())
            }),
        );
        let results = committed.await.unwrap().results;
        assert!(results.iter().all(|result| result.error.is_none()), "{results:?}");
        assert_eq!(offsets().await, before, "nothing is decided");
        producer = node.end("x", producer, outcome).await.unwrap();
        node.until_state("x", state).await;
        assert_eq!(offsets().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_coordinator_knows_of_does_not_hang() {
    let node = Fixture::start().await;
    let producer = node.init("x").await;
    node.write("x", producer, 0).await.unwrap();
    // Longer ago than what is asked for.
    tokio::time::sleep(PAUSE).await;
    let request = admin::FindHangingTransactionsRequest { open_for_ms: 1, ..Default::default() };
    let found = node.operator().find_hanging_transactions(request).await.unwrap().into_inner();
    assert_eq!(found, admin::FindHangingTransactionsResponse::default());
    let request = admin::AbortHangingTransactionRequest {
        topic: TOPIC.to_owned(),
        partition: 0,
        start_offset: 0,
    };
    let refused = node.operator().abort_hanging_transaction(request).await.unwrap_err();
    assert_eq!(Error::from(refused).code, ErrorCode::InvalidTransactionState);
    node.commit("x", producer).await.unwrap();
}
