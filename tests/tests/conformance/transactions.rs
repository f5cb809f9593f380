//! Transactions from outside, with what cannot be: each mistake has an error of its own and changes nothing (X8–X11, X16,
//! X20); and what becomes of a transaction whose topic, or whose group, goes on without it.

mod by_the_sdk;

use crate::{checked, reason, refused};
use tonic::transport::Channel;
use tonic::{Response, Status};
use troupe_proto::admin::v1::transaction_service_client::TransactionServiceClient as Operator;
use troupe_proto::admin::v1::{
    AbortHangingTransactionRequest, AbortTransactionRequest, DescribeTransactionRequest,
    TransactionState,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::log::v1 as pb;
use troupe_proto::log::v1::transaction_service_client::TransactionServiceClient;
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::{self, *};
use troupe_tests::{Sample, Server, batch_of, eventually, eventually_or_why, partition_of};

/// The bit of a batch's attributes.
const TRANSACTIONAL: u32 = 1 << 4;

/// What InitProducerId gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: u64,
    epoch: u32,
}

/// A transactional id and a topic of two partitions, which nobody else has.
struct Transactional {
    server: Server,
    topic: String,
    id: String,
}

impl Transactional {
    async fn new() -> Transactional {
        let server = Server::get().await;
        let topic = server.new_topic(2, &[]).await.name;
        let id = server.new_name("txn");
        Transactional { server, topic, id }
    }

    fn client(&self) -> TransactionServiceClient<Channel> {
        TransactionServiceClient::new(self.server.channel())
    }

    fn operator(&self) -> Operator<Channel> {
        Operator::new(self.server.channel())
    }

    /// A new instance, once what the one before left open is settled.
    async fn init(&self) -> Identity {
        eventually("a producer", async || {
            let request = pb::InitProducerIdRequest {
                transactional_id: self.id.clone(),
                ..Default::default()
            };
            let answer = settled(self.client().init_producer_id(request).await)?;
            let answer = answer.unwrap();
            Some(Identity { id: answer.producer_id, epoch: answer.producer_epoch })
        })
        .await
    }

    async fn add(
        &self,
        of: Identity,
        partitions: &[pb::TopicPartition],
    ) -> Result<Response<pb::AddPartitionsResponse>, Status> {
        let request = pb::AddPartitionsRequest {
            transactional_id: self.id.clone(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            partitions: partitions.to_vec(),
        };
        self.client().add_partitions(request).await
    }

    /// The same as soon as the transaction before is completed.
    async fn begin(&self, of: Identity, partitions: &[i32]) {
        let named: Vec<_> = partitions.iter().map(|n| partition_of(&self.topic, *n)).collect();
        eventually("a transaction begins", async || settled(self.add(of, &named).await))
            .await
            .unwrap();
    }

    async fn end(
        &self,
        of: Identity,
        outcome: pb::TransactionOutcome,
    ) -> Result<Response<pb::EndTransactionResponse>, Status> {
        let request = pb::EndTransactionRequest {
            transactional_id: self.id.clone(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            outcome: outcome.into(),
        };
        self.client().end_transaction(request).await
    }

    /// Decided and completed.
    async fn commit(&self, of: Identity) -> Identity {
        let answer = self.end(of, pb::TransactionOutcome::Commit).await.unwrap().into_inner();
        self.until_state(TransactionState::CompleteCommit).await;
        Identity { id: answer.producer_id, epoch: answer.producer_epoch }
    }

    async fn state(&self) -> TransactionState {
        let request = DescribeTransactionRequest { transactional_id: self.id.clone() };
        self.operator()
            .describe_transaction(request)
            .await
            .unwrap()
            .into_inner()
            .transaction
            .unwrap()
            .state()
    }

    async fn until_state(&self, state: TransactionState) {
        let found = async || (self.state().await == state).then_some(());
        eventually(&format!("{state:?}"), found).await;
    }

    fn batch(&self, of: Identity, sequence: u32, value: &str) -> pb::RecordBatch {
        pb::RecordBatch {
            producer_id: of.id,
            producer_epoch: of.epoch,
            base_sequence: sequence,
            attributes: TRANSACTIONAL,
            ..batch_of(&[Sample::of(value, 5)])
        }
    }

    /// To the leader, whichever node it is.
    async fn produce(
        &self,
        partition: i32,
        transactional_id: &str,
        batch: pb::RecordBatch,
    ) -> pb::PartitionProduceResult {
        let one = pb::PartitionProduce {
            partition: Some(partition_of(&self.topic, partition)),
            batch: Some(batch),
            ..Default::default()
        };
        let request = pb::ProduceRequest {
            transactional_id: transactional_id.to_owned(),
            acks: Acks::All.into(),
            partitions: vec![one],
            ..Default::default()
        };
        let mut server = self.server.clone();
        eventually("an answer of the leader", async || {
            let answer = server.log().produce(request.clone()).await.unwrap().into_inner();
            let result = answer.results.into_iter().next().unwrap();
            match &result.error {
                Some(error) if error.reason() == NotLeader => {
                    server = Server::at(&error.leader_endpoint).await;
                    None
                }
                _ => Some(result),
            }
        })
        .await
    }

    /// Why the batch is refused.
    async fn refused_batch(&self, partition: i32, batch: pb::RecordBatch) -> ErrorReason {
        reason(&self.produce(partition, &self.id, batch).await.error)
    }

    /// Appended, once the transaction before is completed there.
    async fn write(&self, of: Identity, partition: i32, sequence: u32, value: &str) {
        eventually("a batch", async || {
            let batch = self.batch(of, sequence, value);
            let result = self.produce(partition, &self.id, batch).await;
            match result.error {
                Some(error) if error.reason() == ConcurrentTransactions => None,
                Some(error) => panic!("{error:?}"),
                None => Some(()),
            }
        })
        .await;
    }

    async fn commit_offsets(
        &self,
        of: Identity,
        group: &str,
    ) -> Result<Response<pb::CommitTransactionOffsetsResponse>, Status> {
        let request = pb::CommitTransactionOffsetsRequest {
            transactional_id: self.id.clone(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            group_id: group.to_owned(),
            commits: vec![self.offset(0, 7)],
            ..Default::default()
        };
        self.client().commit_transaction_offsets(request).await
    }

    fn offset(&self, partition: i32, offset: i64) -> pb::PartitionCommit {
        pb::PartitionCommit {
            partition: Some(partition_of(&self.topic, partition)),
            offset: Some(pb::OffsetAndMetadata { offset, ..Default::default() }),
        }
    }

    /// What readers of committed records see: the thin API's default.
    async fn values(&self, partition: i32) -> Vec<String> {
        let read = self.server.read_all(&self.topic, partition).await;
        read.into_iter().map(|(_, one)| String::from_utf8(one.value.unwrap()).unwrap()).collect()
    }
}

impl Transactional {
    /// The same of a commit that was answered: that is when it is decided, and then each partition hears of it.
    async fn until_values(&self, partition: i32, expected: &[&str]) {
        eventually_or_why("what is committed is seen", async || {
            let found = self.values(partition).await;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    }
}

/// `None`: what is before is not settled yet.
fn settled<T>(answer: Result<Response<T>, Status>) -> Option<Result<T, Status>> {
    match answer {
        Ok(answer) => Some(Ok(answer.into_inner())),
        Err(status) => match checked(&status).code {
            ErrorCode::ConcurrentTransactions | ErrorCode::Overtaken => None,
            _ => Some(Err(status)),
        },
    }
}

const COMMIT: pb::TransactionOutcome = pb::TransactionOutcome::Commit;
const ABORT: pb::TransactionOutcome = pb::TransactionOutcome::Abort;

/// Every call that takes one, and a batch.
#[tokio::test]
async fn an_id_that_cannot_be_is_refused_wherever_it_is_named() {
    let one = Transactional::new().await;
    let of = one.init().await;
    let long = "i".repeat(256);
    let longest = "ä".repeat(255);
    let request =
        pb::InitProducerIdRequest { transactional_id: longest.clone(), ..Default::default() };
    one.client().init_producer_id(request).await.unwrap();
    for (id, why) in
        [("", "empty"), (&*long, "too long"), ("line\nend", "control"), ("\u{7f}", "control")]
    {
        let bad = Transactional {
            id: id.to_owned(),
            topic: one.topic.clone(),
            ..Transactional::new().await
        };
        let request =
            pb::InitProducerIdRequest { transactional_id: id.to_owned(), ..Default::default() };
        let named = [partition_of(&one.topic, 0)];
        let offsets = pb::AddOffsetsRequest {
            transactional_id: id.to_owned(),
            producer_id: of.id,
            producer_epoch: of.epoch,
            group_id: "g".to_owned(),
        };
        let describe = DescribeTransactionRequest { transactional_id: id.to_owned() };
        let abort = AbortTransactionRequest { transactional_id: id.to_owned() };
        for error in [
            refused(bad.client().init_producer_id(request)).await,
            refused(bad.add(of, &named)).await,
            refused(bad.client().add_offsets(offsets)).await,
            refused(bad.commit_offsets(of, "g")).await,
            refused(bad.end(of, COMMIT)).await,
            refused(bad.operator().describe_transaction(describe)).await,
            refused(bad.operator().abort_transaction(abort)).await,
        ] {
            assert_eq!(error.code, InvalidTransactionalId, "{error}");
            assert!(error.message.contains(why) && error.surely_not_done(), "{error}");
        }
        // A batch of no transactional id is of no transaction.
        let expected = if id.is_empty() { InvalidRecord } else { InvalidTransactionalId };
        assert_eq!(bad.refused_batch(0, one.batch(of, 0, "x")).await, expected, "{id:?}");
    }
    assert_eq!(one.values(0).await, [""; 0]);
}

/// X10: no call is needed to find out what the node allows.
#[tokio::test]
async fn a_time_out_above_the_maximum_is_refused_with_the_maximum() {
    let one = Transactional::new().await;
    let ask = |transaction_timeout_ms| pb::InitProducerIdRequest {
        transactional_id: one.id.clone(),
        transaction_timeout_ms,
        ..Default::default()
    };
    let error = refused(one.client().init_producer_id(ask(900_001))).await;
    assert_eq!(error.code, InvalidTransactionTimeout);
    assert_eq!((&*error.facts["actual"], &*error.facts["max"]), ("900001", "900000"));
    one.client().init_producer_id(ask(900_000)).await.unwrap();
}

/// X8, X20: by each way in which a transaction is written to.
#[tokio::test]
async fn an_id_that_nobody_knows_and_another_producer_are_told_to_begin_anew() {
    let one = Transactional::new().await;
    let own = one.init().await;
    let other = Transactional::new().await.init().await;
    assert_ne!(own.id, other.id);
    let nobody = Identity { id: u64::MAX >> 1, epoch: 0 };
    let unknown = Transactional { id: one.server.new_name("nobody"), ..Transactional::new().await };
    for (at, of) in [(&unknown, own), (&one, other), (&one, nobody)] {
        let named = [partition_of(&at.topic, 0)];
        for error in [
            refused(at.add(of, &named)).await,
            refused(at.commit_offsets(of, "g")).await,
            refused(at.end(of, COMMIT)).await,
            refused(at.end(of, ABORT)).await,
        ] {
            assert_eq!(error.code, InvalidProducerIdMapping, "{error}");
            assert!(error.surely_not_done() && !error.is_retriable(), "{error}");
        }
        assert_eq!(at.refused_batch(0, at.batch(of, 0, "x")).await, InvalidProducerIdMapping);
        assert_eq!(at.values(0).await, [""; 0]);
    }
    for id in [&unknown.id, "nobody\u{2028}"] {
        let describe = DescribeTransactionRequest { transactional_id: id.to_owned() };
        let error = refused(one.operator().describe_transaction(describe)).await;
        assert_eq!(error.code, TransactionalIdNotFound);
    }
    one.write(own, 0, 0, "kept").await;
    one.commit(own).await;
    assert_eq!(one.values(0).await, ["kept"]);
}

/// X9, X19: the epochs of transactions that are over, of instances that were replaced, and such as nobody has yet.
#[tokio::test]
async fn every_other_epoch_is_fenced() {
    let one = Transactional::new().await;
    let first = one.init().await;
    one.write(first, 0, 0, "first").await;
    let second = one.commit(first).await;
    one.write(second, 0, 0, "left open").await;
    let third = one.init().await;
    let beyond = Identity { epoch: third.epoch + 1, ..third };
    let named = [partition_of(&one.topic, 1)];
    for of in [first, second, beyond] {
        for error in [
            refused(one.add(of, &named)).await,
            refused(one.commit_offsets(of, "g")).await,
            refused(one.end(of, ABORT)).await,
        ] {
            assert_eq!(error.code, ProducerFenced, "{of:?}: {error}");
        }
        for partition in [0, 1] {
            assert_eq!(one.refused_batch(partition, one.batch(of, 0, "x")).await, ProducerFenced);
        }
    }
    one.write(third, 0, 0, "third").await;
    one.commit(third).await;
    assert_eq!(one.values(0).await, ["first", "third"]);
    assert_eq!(one.values(1).await, [""; 0]);
}

/// X7, X8, X11, X19.
#[tokio::test]
async fn calls_in_the_wrong_order_are_refused_and_change_nothing() {
    let one = Transactional::new().await;
    let first = one.init().await;
    for outcome in [COMMIT, ABORT] {
        let error = refused(one.end(first, outcome)).await;
        assert_eq!((error.code, &*error.facts["state"]), (InvalidTransactionState, "Empty"));
    }
    let unspecified = refused(one.end(first, pb::TransactionOutcome::Unspecified)).await;
    assert_eq!(unspecified.code, InvalidRequest);

    // What is no batch of a transaction, and what is none of this one.
    let plain = pb::RecordBatch { attributes: 0, ..one.batch(first, 0, "x") };
    assert_eq!(one.refused_batch(0, plain.clone()).await, InvalidRecord);
    let nameless = one.produce(0, "", one.batch(first, 0, "x")).await;
    assert_eq!(reason(&nameless.error), InvalidRecord);
    let unstamped = pb::RecordBatch { producer_id: 0, ..one.batch(first, 0, "x") };
    assert_eq!(one.refused_batch(0, unstamped).await, InvalidRecord);
    let marker = pb::RecordBatch { attributes: TRANSACTIONAL | 1 << 5, ..one.batch(first, 0, "x") };
    assert_eq!(one.refused_batch(0, marker).await, InvalidRecord);
    // I6: in an epoch of its own its first sequence is 0, wherever it comes first.
    let behind = one.produce(0, &one.id, one.batch(first, 1, "x")).await.error;
    assert_eq!(reason(&behind), OutOfOrderSequence);
    assert_eq!(behind.unwrap().facts["expected_sequence"], "0");
    assert_eq!(one.state().await, TransactionState::Empty);

    one.write(first, 0, 0, "a").await;
    let beside = one.produce(0, "", pb::RecordBatch { base_sequence: 1, ..plain }).await;
    assert_eq!(reason(&beside.error), InvalidTransactionState, "X11");
    assert_eq!(one.refused_batch(0, one.batch(first, 2, "x")).await, OutOfOrderSequence);
    one.write(first, 0, 1, "b").await;
    let second = one.commit(first).await;
    // It is decided.
    assert_eq!(refused(one.end(first, ABORT)).await.code, InvalidTransactionState);
    let again = one.end(first, COMMIT).await.unwrap().into_inner();
    assert_eq!((again.producer_id, again.producer_epoch), (second.id, second.epoch));
    assert_eq!(refused(one.end(second, COMMIT)).await.code, InvalidTransactionState);
    let abort = AbortTransactionRequest { transactional_id: one.id.clone() };
    let nothing_open = refused(one.operator().abort_transaction(abort)).await;
    assert_eq!(nothing_open.code, InvalidTransactionState);
    let hanging =
        AbortHangingTransactionRequest { topic: one.topic.clone(), partition: 0, start_offset: 0 };
    let none_hangs = refused(one.operator().abort_hanging_transaction(hanging)).await;
    assert_eq!(none_hangs.code, InvalidTransactionState);
    assert_eq!(one.values(0).await, ["a", "b"]);
}

/// All of the partitions, or none.
#[tokio::test]
async fn partitions_that_cannot_be_part_of_a_transaction_leave_it_as_it_was() {
    let one = Transactional::new().await;
    let of = one.init().await;
    let good = partition_of(&one.topic, 0);
    let stale = pb::TopicPartition { topic_id: vec![7; 16].into(), ..good.clone() };
    for (bad, expected) in [
        (partition_of(&one.topic, 2), UnknownPartition),
        (partition_of(&one.topic, -1), UnknownPartition),
        (partition_of("no-such-topic", 0), UnknownTopic),
        (partition_of("__consumer_offsets", 0), InvalidTopic),
        (partition_of("__transaction_state", 0), InvalidTopic),
        (partition_of("..", 0), InvalidTopic),
        (stale, UnknownTopic),
    ] {
        let error = refused(one.add(of, &[good.clone(), bad.clone()])).await;
        assert_eq!(error.code, expected, "{bad:?}: {error}");
        assert!(error.surely_not_done(), "{error}");
    }
    assert_eq!(refused(one.add(of, &[])).await.code, InvalidRequest);
    assert_eq!(refused(one.commit_offsets(of, "")).await.code, InvalidGroupId);
    assert_eq!(one.state().await, TransactionState::Empty, "all of them or none");
    assert_eq!(one.refused_batch(2, one.batch(of, 0, "x")).await, UnknownPartition);
}

/// X5: whatever the transaction wrote to is gone, and it ends all the same, for the partitions that are there; a topic
/// that was made anew under the name knows nothing of it.
#[tokio::test]
async fn a_topic_that_is_deleted_under_a_transaction_does_not_hold_it_open() {
    for outcome in [COMMIT, ABORT] {
        let (one, kept) = (Transactional::new().await, Transactional::new().await);
        let kept = Transactional { id: one.id.clone(), ..kept };
        let of = one.init().await;
        one.write(of, 0, 0, "gone").await;
        one.begin(of, &[1]).await;
        kept.write(of, 0, 0, "kept").await;
        one.commit_offsets(of, &one.id).await.unwrap();
        one.server.delete_topic(&one.topic).await;
        let gone = eventually("a batch to a topic that is gone is refused", async || {
            let error = one.produce(0, &one.id, one.batch(of, 1, "late")).await.error?;
            Some(error)
        })
        .await;
        assert!(matches!(gone.reason(), UnknownTopic | StaleTopicId), "{gone:?}");
        one.server.create_topic(&one.topic, 2, &[]).await;
        let answer = one.end(of, outcome).await.unwrap().into_inner();
        let complete = match outcome {
            COMMIT => TransactionState::CompleteCommit,
            _ => TransactionState::CompleteAbort,
        };
        one.until_state(complete).await;
        let seen: &[&str] = if outcome == COMMIT { &["kept"] } else { &[] };
        assert_eq!(kept.values(0).await, seen);
        let next = Identity { id: answer.producer_id, epoch: answer.producer_epoch };
        one.write(next, 0, 0, "anew").await;
        one.commit(next).await;
        assert_eq!(one.values(0).await, ["anew"]);
        let first = one.server.read_all(&one.topic, 0).await[0].0;
        assert_eq!(first, 0, "no marker of the transaction before");
    }
}
