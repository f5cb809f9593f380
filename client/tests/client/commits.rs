//! Commits that nobody waits for: what a row of transactions promises while the ones before are committed.

use crate::consumer::{LONG, p};
use crate::fake::{Cluster, Fault};
use crate::fake_transactions::Call;
use crate::producer::{record, values};
use crate::transactions::{read, said, settings, transactional};
use std::time::Duration;
use troupe_client::{
    ClientError, Committing, ConsumerGroupMetadata, IsolationLevel, OffsetAndMetadata, Producer,
    ProducerConfig, ProducerRecord, TransactionError,
};
use troupe_proto::error::ErrorCode;

/// A transaction of one record, whose commit nobody waits for.
async fn start(producer: &Producer, n: u32) -> Committing {
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(n)).await.unwrap());
    transaction.start_commit().await.unwrap()
}

/// The same; returns when the coordinator has been asked to commit it, and keeps it from being answered.
async fn start_held(cluster: &Cluster, producer: &Producer, n: u32) -> Committing {
    let loading = Call::Refuse(ErrorCode::CoordinatorLoading);
    cluster.state().transactions.calls.extend([loading; 10_000]);
    let committing = start(producer, n).await;
    while !said(cluster).last().is_some_and(|last| last.starts_with("commit")) {
        tokio::task::yield_now().await;
    }
    committing
}

fn let_go(cluster: &Cluster) {
    cluster.state().transactions.calls.clear();
}

/// What was asked, each once.
fn asked(cluster: &Cluster) -> Vec<String> {
    let mut said = said(cluster);
    said.dedup();
    said
}

fn is_abortable(answer: Result<(), TransactionError>, because: ErrorCode) -> bool {
    answer.is_err_and(|error| error.is_abortable() && error.cause().unwrap().reason() == because)
}

#[tokio::test]
async fn what_is_asked_for_meanwhile_is_decided_together_and_answered_in_order() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 0).await;
    let mut behind = Vec::new();
    for n in 1..6 {
        behind.push(start(&producer, n).await);
    }
    producer.begin_transaction().await.unwrap();
    drop(producer.send(record(6)).await.unwrap());
    assert_eq!(cluster.values(0), values(0..1), "the others are kept");
    let_go(&cluster);
    first.await.unwrap();
    for committing in behind {
        committing.await.unwrap();
    }
    producer.commit_transaction().await.unwrap();
    assert_eq!(asked(&cluster), ["init", "commit 1/0", "commit 1/1", "commit 1/2"]);
    let all: Vec<_> = (0..7).collect();
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, all);
    assert_eq!(cluster.state().topics["t"].1[0].end, 10, "three markers");
}

/// Whose commit was asked for has nothing to fear from those behind it.
#[tokio::test]
async fn what_is_open_is_not_sent_before_the_commits_are_answered_and_is_aborted_alone() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 0).await;
    let second = start(&producer, 1).await;
    let transaction = producer.transaction().await.unwrap();
    let lost = transaction.send(record(2)).await.unwrap();
    let (aborted, ()) = tokio::join!(transaction.abort(), async {
        let_go(&cluster);
        assert_eq!(lost.await, Err(ClientError::TransactionAborted { sent: false }));
    });
    aborted.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    // Dropped, and waited for by who comes next.
    let fourth = start_held(&cluster, &producer, 3).await;
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(4)).await.unwrap());
    drop(transaction);
    let_go(&cluster);
    start(&producer, 5).await.await.unwrap();
    fourth.await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadUncommitted).await, [0, 1, 3, 5]);
    let commits = ["init", "commit 1/0", "commit 1/1", "commit 1/2", "commit 1/3"];
    assert_eq!(asked(&cluster), commits);
}

#[tokio::test]
async fn one_that_fails_fails_all_behind_it_until_that_is_aborted() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    for open in [true, false] {
        cluster.stall(true);
        cluster.fault([Fault::Refuse(ErrorCode::TransactionAbortable)]);
        let first = start(&producer, 0).await;
        let second = start(&producer, 1).await;
        let third = match open {
            true => Some(producer.transaction().await.unwrap()),
            false => None,
        };
        if let Some(third) = &third {
            drop(third.send(record(2)).await.unwrap());
        }
        cluster.stall(false);
        assert!(is_abortable(first.await, ErrorCode::TransactionAbortable));
        assert!(is_abortable(second.await, ErrorCode::TransactionAbortable));
        match third {
            Some(third) => {
                assert!(is_abortable(third.commit().await, ErrorCode::TransactionAbortable));
            }
            None => {
                for _ in 0..2 {
                    let begun = producer.transaction().await.map(drop);
                    assert!(is_abortable(begun, ErrorCode::TransactionAbortable));
                    let committed = producer.commit_transaction().await;
                    assert!(is_abortable(committed, ErrorCode::TransactionAbortable));
                }
                assert!(producer.send(record(3)).await.is_err());
                producer.abort_transaction().await.unwrap();
            }
        }
        start(&producer, 4).await.await.unwrap();
    }
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [4, 4]);
}

/// Of the first nobody knows whether it is decided: it is not said to have failed.
#[tokio::test]
async fn what_fails_behind_a_decision_does_not_concern_it() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(200),
        ..settings()
    };
    let producer = client.producer(config).await.unwrap();
    producer.init_transactions().await.unwrap();
    let first = start_held(&cluster, &producer, 0).await;
    let second = start(&producer, 1).await;
    let error = second.await.unwrap_err();
    let timed_out = matches!(error.cause(), Some(ClientError::DeliveryTimeout { sent: false, .. }));
    assert!(error.is_abortable() && timed_out, "{error}");
    assert!(producer.begin_transaction().await.unwrap_err().is_abortable());
    let (aborted, ()) = tokio::join!(producer.abort_transaction(), async { let_go(&cluster) });
    aborted.unwrap();
    first.await.unwrap();
    assert_eq!(asked(&cluster), ["init", "commit 1/0"]);
    start(&producer, 2).await.await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadUncommitted).await, [0, 2]);
}

/// A record that is not taken while none is open is nobody's.
#[tokio::test]
async fn a_record_outside_of_transactions_does_not_fail_those_that_are_committed() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 0).await;
    assert!(producer.send(record(1).value(vec![0; 2 << 20])).await.is_err());
    assert!(producer.send(record(1)).await.is_err());
    let transaction = producer.transaction().await.unwrap();
    assert!(transaction.send(record(1).value(vec![0; 2 << 20])).await.is_err());
    let error = transaction.start_commit().await.map(drop);
    assert!(is_abortable(error, ErrorCode::RecordTooLarge));
    let_go(&cluster);
    first.await.unwrap();
    start(&producer, 2).await.await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadUncommitted).await, [0, 2]);
}

/// Groups know of one transaction of a producer at a time.
#[tokio::test]
async fn offsets_wait_for_the_commits_before() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 0).await;
    let transaction = producer.transaction().await.unwrap();
    let offsets = [(p(0), OffsetAndMetadata::new(3))];
    let group = ConsumerGroupMetadata::new("g");
    let (sent, ()) = tokio::join!(transaction.send_offsets(offsets, &group), async {
        let_go(&cluster);
    });
    sent.unwrap();
    let second = transaction.start_commit().await.unwrap();
    let third = start(&producer, 1).await;
    for committing in [first, second, third] {
        committing.await.unwrap();
    }
    let asked = asked(&cluster);
    assert!(asked[2].starts_with("offsets 1/1"), "{asked:?}");
    assert_eq!((asked[1].as_str(), asked[3].as_str()), ("commit 1/0", "commit 1/1"));
    assert_eq!(cluster.group.state().committed[&0], 3);
}

/// P23.
#[tokio::test]
async fn a_producer_that_is_closed_or_dropped_has_what_was_asked_for_committed() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    drop(start(&producer, 0).await);
    drop(start(&producer, 1).await);
    producer.close(LONG).await.unwrap();
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 2).await;
    let second = start(&producer, 3).await;
    let open = producer.transaction().await.unwrap();
    drop(open.send(record(4)).await.unwrap());
    drop(open);
    drop(producer);
    let_go(&cluster);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadUncommitted).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn who_is_fenced_has_nothing_committed_any_more() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let first = start_held(&cluster, &producer, 0).await;
    let second = start(&producer, 1).await;
    let known = cluster.state().transactions.by_id["id"].producer;
    cluster.state().transactions.by_id.get_mut("id").unwrap().producer.epoch = known.epoch + 5;
    let_go(&cluster);
    for committing in [first, second] {
        let error = committing.await.unwrap_err();
        assert!(error.is_fatal(), "{error}");
        assert_eq!(error.cause().unwrap().reason(), ErrorCode::ProducerFenced);
    }
    assert!(producer.begin_transaction().await.unwrap_err().is_fatal());
    assert!(producer.abort_transaction().await.unwrap_err().is_fatal());
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_asked_for_again_for_as_long_as_it_takes() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { max_block: Duration::from_millis(50), ..settings() };
    let producer = client.producer(config).await.unwrap();
    producer.init_transactions().await.unwrap();
    let first = start_held(&cluster, &producer, 0).await;
    producer.begin_transaction().await.unwrap();
    for _ in 0..2 {
        let error = producer.commit_transaction().await.unwrap_err();
        assert!(error.is_retriable(), "the one before is not answered: {error}");
    }
    let error = producer.abort_transaction().await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    let_go(&cluster);
    cluster.state().transactions.calls.push_back(Call::LoseAnswer);
    first.await.unwrap();
    producer.abort_transaction().await.unwrap();
    start(&producer, 1).await.await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [0, 1]);
    assert_eq!(cluster.state().topics["t"].1[0].end, 4, "one marker each");
}

#[tokio::test]
async fn a_row_of_transactions_is_longer_than_the_buffer() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { buffer_memory: 64 << 10, batch_size: 8 << 10, ..settings() };
    let producer = client.producer(config).await.unwrap();
    let mut row = Vec::new();
    for n in 0..100u32 {
        let transaction = producer.transaction().await.unwrap();
        for _ in 0..5 {
            let mut value = n.to_string().into_bytes();
            value.resize(1 << 10, b' ');
            let record = ProducerRecord::new("t").value(value).partition(0);
            drop(transaction.send(record).await.unwrap());
        }
        row.push(transaction.start_commit().await.unwrap());
    }
    for committing in row {
        committing.await.unwrap();
    }
    let commits = asked(&cluster).len() - 1;
    assert!((16..=100).contains(&commits), "half of the buffer in each: {commits}");
    assert_eq!(cluster.values(0).len(), 500);
}

/// Small batches, several partitions, and a network that loses answers.
#[tokio::test]
async fn a_row_of_transactions_is_whole_and_in_order_under_retries() {
    let (cluster, client) = Cluster::with_topic(3).await;
    let config = ProducerConfig { batch_size: 0, ..settings() };
    let producer = client.producer(config).await.unwrap();
    let mut row = Vec::new();
    for round in 0..60u32 {
        if round % 7 == 0 {
            cluster.fault([
                Fault::Pass,
                Fault::LoseAnswer,
                Fault::Refuse(ErrorCode::NotEnoughReplicas),
                Fault::Lose,
            ]);
            cluster.state().transactions.calls.push_back(Call::LoseAnswer);
        }
        let transaction = producer.transaction().await.unwrap();
        for n in 0..6 {
            let record = ProducerRecord::new("t").value((round * 6 + n).to_string());
            drop(transaction.send(record.partition(n % 3)).await.unwrap());
        }
        match round % 6 {
            5 => transaction.abort().await.unwrap(),
            4 => transaction.commit().await.unwrap(),
            _ => row.push(transaction.start_commit().await.unwrap()),
        }
    }
    for committing in row {
        committing.await.unwrap();
    }
    let mut seen = read(&client, IsolationLevel::ReadCommitted).await;
    seen.sort_unstable();
    let committed = (0..360).filter(|n| n / 6 % 6 != 5);
    assert_eq!(seen, committed.collect::<Vec<_>>());
    for partition in 0..3 {
        let numbers = cluster.values(partition);
        let numbers: Vec<u32> = numbers
            .iter()
            .filter_map(|value| std::str::from_utf8(value).ok()?.parse().ok())
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}
