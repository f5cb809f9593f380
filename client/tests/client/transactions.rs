//! Transactions: what a transactional producer promises whatever its coordinator and its leaders do, and what readers of
//! committed records see.

use crate::consumer::{LONG, config, p, take};
use crate::fake::{Cluster, Fault};
use crate::fake_transactions::Call;
use crate::producer::{record, values};
use std::time::Duration;
use troupe_client::{
    Client, ClientError, Consumer, ConsumerConfig, ConsumerGroupMetadata, IsolationLevel,
    OffsetAndMetadata, OffsetSpec, Producer, ProducerConfig, ProducerRecord, ReaderConfig,
    TransactionError,
};
use troupe_proto::error::ErrorCode;
use troupe_proto::ids::{Offset, PartitionId};

pub fn settings() -> ProducerConfig {
    ProducerConfig {
        transactional_id: Some("id".to_owned()),
        linger: Duration::ZERO,
        retry_backoff: Duration::from_millis(5),
        retry_backoff_max: Duration::from_millis(20),
        ..ProducerConfig::default()
    }
}

pub async fn transactional(client: &Client) -> Producer {
    let producer = client.producer(settings()).await.unwrap();
    producer.init_transactions().await.unwrap();
    producer
}

async fn send(producer: &Producer, numbers: std::ops::Range<u32>) {
    for n in numbers {
        drop(producer.send(record(n)).await.unwrap());
    }
}

pub fn said(cluster: &Cluster) -> Vec<String> {
    cluster.state().transactions.said.clone()
}

fn reason(error: &TransactionError) -> ErrorCode {
    error.cause().unwrap().reason()
}

pub async fn read(client: &Client, isolation_level: IsolationLevel) -> Vec<u32> {
    let config = ReaderConfig { isolation_level, until_end: true, ..ReaderConfig::default() };
    let mut reader = client.reader("t", config).await.unwrap();
    let mut read = Vec::new();
    while let Some(batch) = reader.next_batch().await {
        for record in batch.unwrap().records() {
            let value = record.unwrap().value.unwrap();
            read.push(std::str::from_utf8(&value).unwrap().parse().unwrap());
        }
    }
    read
}

/// X4, X13, X19: each has an epoch of its own, and sequences from 0.
#[tokio::test]
async fn what_is_committed_is_seen_and_what_is_aborted_is_not() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    for (numbers, commit) in [(0..3, true), (3..6, false), (6..9, true)] {
        producer.begin_transaction().await.unwrap();
        for n in numbers {
            producer.send(record(n)).await.unwrap().await.unwrap();
        }
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    assert_eq!(said(&cluster), ["init", "commit 1/0", "abort 1/1", "commit 1/2"]);
    assert_eq!(read(&client, IsolationLevel::ReadUncommitted).await, (0..9).collect::<Vec<_>>());
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [0, 1, 2, 6, 7, 8]);
    assert_eq!(cluster.state().topics["t"].1[0].end, 12, "a marker takes an offset");
}

#[tokio::test]
async fn a_transaction_is_initialised_by_itself_and_aborted_when_it_is_dropped() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = client.producer(settings()).await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    transaction.send(record(0)).await.unwrap().await.unwrap();
    drop(transaction);
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(1)).await.unwrap());
    transaction.commit().await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(2)).await.unwrap());
    transaction.abort().await.unwrap();
    let said = said(&cluster);
    assert_eq!(said[..3], ["init", "abort 1/0", "commit 1/1"]);
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [1]);
}

/// P23.
#[tokio::test]
async fn a_producer_that_is_closed_or_dropped_leaves_nothing_open() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    producer.begin_transaction().await.unwrap();
    producer.send(record(0)).await.unwrap().await.unwrap();
    producer.close(LONG).await.unwrap();
    assert_eq!(said(&cluster), ["init", "abort 1/0"]);
    let producer = transactional(&client).await;
    producer.begin_transaction().await.unwrap();
    producer.send(record(1)).await.unwrap().await.unwrap();
    drop(producer);
    let reader = read(&client, IsolationLevel::ReadCommitted);
    assert!(reader.await.is_empty());
    while said(&cluster).last().map(String::as_str) != Some("abort 1/2") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn calls_in_the_wrong_order_ask_nobody() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let is_illegal = |result: Result<(), TransactionError>| {
        matches!(result, Err(TransactionError::IllegalState { .. }))
    };
    let plain = client.producer(ProducerConfig::default()).await.unwrap();
    assert!(is_illegal(plain.init_transactions().await));
    let producer = client.producer(settings()).await.unwrap();
    assert!(is_illegal(producer.begin_transaction().await));
    let unsent = producer.send(record(0)).await.map(drop).unwrap_err();
    assert!(matches!(unsent, ClientError::IllegalState { .. }), "{unsent}");
    producer.init_transactions().await.unwrap();
    assert!(is_illegal(producer.init_transactions().await));
    assert!(is_illegal(producer.commit_transaction().await));
    assert!(is_illegal(producer.abort_transaction().await));
    let offsets = [(p(0), OffsetAndMetadata::new(3))];
    let group = ConsumerGroupMetadata::new("g");
    assert!(is_illegal(producer.send_offsets_to_transaction(offsets, &group).await));
    producer.begin_transaction().await.unwrap();
    assert!(is_illegal(producer.begin_transaction().await));
    drop(producer.send(record(1)).await.unwrap());
    producer.commit_transaction().await.unwrap();
    assert_eq!(said(&cluster), ["init", "commit 1/0"]);
    assert_eq!(cluster.values(0), values(1..2));
}

/// X20.
#[tokio::test]
async fn what_was_not_appended_fails_the_commit_and_the_next_transaction_goes_on() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    producer.begin_transaction().await.unwrap();
    cluster.fault([Fault::Refuse(ErrorCode::TransactionAbortable)]);
    let lost = producer.send(record(0)).await.unwrap().await.unwrap_err();
    assert_eq!(lost.reason(), ErrorCode::TransactionAbortable);
    let behind = producer.send(record(1)).await.map(drop).unwrap_err();
    assert!(matches!(behind, ClientError::TransactionFailed { .. }), "{behind}");
    for _ in 0..2 {
        let error = producer.commit_transaction().await.unwrap_err();
        assert!(error.is_abortable(), "{error}");
        assert_eq!(reason(&error), ErrorCode::TransactionAbortable);
    }
    producer.abort_transaction().await.unwrap();
    producer.begin_transaction().await.unwrap();
    send(&producer, 2..4).await;
    producer.commit_transaction().await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [2, 3]);
    // Nothing had been begun: what may still have been on its way is fenced off all the same.
    assert_eq!(said(&cluster), ["init", "abort 1/0", "init 1/0", "commit 1/1"]);
}

/// P3: also what is not even taken.
#[tokio::test]
async fn a_record_that_is_too_large_fails_its_transaction() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let transaction = producer.transaction().await.unwrap();
    let sent = transaction.send(record(0).value(vec![0; 2 << 20])).await;
    let error = sent.map(drop).unwrap_err();
    assert!(error.is_abortable() && reason(&error) == ErrorCode::RecordTooLarge, "{error}");
    let error = transaction.commit().await.unwrap_err();
    assert!(error.is_abortable() && reason(&error) == ErrorCode::RecordTooLarge, "{error}");
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(1)).await.unwrap());
    transaction.commit().await.unwrap();
}

/// X9: the zombie.
#[tokio::test]
async fn the_second_of_a_name_fences_the_first() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let first = transactional(&client).await;
    first.begin_transaction().await.unwrap();
    first.send(record(0)).await.unwrap().await.unwrap();
    let second = transactional(&client).await;
    let error = first.commit_transaction().await.unwrap_err();
    assert!(error.is_fatal() && reason(&error) == ErrorCode::ProducerFenced, "{error}");
    for _ in 0..2 {
        assert!(first.begin_transaction().await.unwrap_err().is_fatal());
        assert!(first.abort_transaction().await.unwrap_err().is_fatal());
        assert!(first.send(record(1)).await.is_err());
    }
    second.begin_transaction().await.unwrap();
    send(&second, 2..3).await;
    second.commit_transaction().await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [2]);
    assert_eq!(cluster.values(0).len(), 2);
    first.close(LONG).await.unwrap();
}

/// A leader hears of it before the coordinator says so.
#[tokio::test]
async fn who_is_fenced_by_a_leader_hears_from_the_coordinator_that_it_is_for_good() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let first = transactional(&client).await;
    let _second = transactional(&client).await;
    first.begin_transaction().await.unwrap();
    drop(first.send(record(0)).await.unwrap());
    let error = first.commit_transaction().await.unwrap_err();
    assert!(error.is_abortable() && reason(&error) == ErrorCode::ProducerFenced, "{error}");
    let error = first.abort_transaction().await.unwrap_err();
    assert!(error.is_fatal() && reason(&error) == ErrorCode::ProducerFenced, "{error}");
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_asked_for_again_and_answered_the_same() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    for commit in [true, false] {
        producer.begin_transaction().await.unwrap();
        producer.send(record(0)).await.unwrap().await.unwrap();
        cluster.state().transactions.calls.push_back(Call::LoseAnswer);
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    let expected = ["init", "commit 1/0", "commit 1/0", "abort 1/1", "abort 1/1"];
    assert_eq!(said(&cluster), expected);
    assert_eq!(cluster.state().topics["t"].1[0].end, 4, "one marker each");
}

#[tokio::test]
async fn a_coordinator_that_needs_a_moment_is_waited_for() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let moments = [
        ErrorCode::CoordinatorNotAvailable,
        ErrorCode::CoordinatorLoading,
        ErrorCode::ConcurrentTransactions,
        ErrorCode::Overtaken,
    ];
    let all = || moments.map(Call::Refuse);
    cluster.state().transactions.calls.extend(all());
    let producer = transactional(&client).await;
    producer.begin_transaction().await.unwrap();
    cluster.fault([Fault::Refuse(ErrorCode::ConcurrentTransactions)]);
    send(&producer, 0..2).await;
    let offsets = [(p(0), OffsetAndMetadata::new(3))];
    cluster.state().transactions.calls.extend(all());
    let group = ConsumerGroupMetadata::new("g");
    producer.send_offsets_to_transaction(offsets, &group).await.unwrap();
    producer.flush().await.unwrap();
    cluster.state().transactions.calls.extend(all());
    producer.commit_transaction().await.unwrap();
    assert_eq!(said(&cluster).len(), 15);
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [0, 1]);
    assert_eq!(cluster.group.state().committed[&0], 3);
}

/// Whether it is committed is not known: the same is asked again, and nothing else.
#[tokio::test]
async fn a_commit_that_is_not_answered_in_time_can_only_be_asked_for_again() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let config = ProducerConfig { max_block: Duration::from_millis(200), ..settings() };
    let producer = client.producer(config).await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    drop(transaction.send(record(0)).await.unwrap());
    let loading = Call::Refuse(ErrorCode::CoordinatorLoading);
    cluster.state().transactions.calls.extend([loading; 1000]);
    let error = transaction.commit().await.unwrap_err();
    // The time may run out in the midst of a call.
    let reasons = [ErrorCode::CoordinatorLoading, ErrorCode::RequestTimedOut];
    assert!(error.is_retriable() && reasons.contains(&reason(&error)), "{error}");
    let illegal = |error| matches!(error, TransactionError::IllegalState { .. });
    assert!(illegal(producer.abort_transaction().await.unwrap_err()));
    assert!(illegal(producer.transaction().await.map(drop).unwrap_err()));
    cluster.state().transactions.calls.clear();
    producer.commit_transaction().await.unwrap();
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [0]);
}

/// What is on its way when it is aborted is nothing of the next one's.
#[tokio::test]
async fn a_batch_that_arrives_after_the_abort_is_in_no_transaction() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    producer.begin_transaction().await.unwrap();
    cluster.stall(true);
    let late = producer.send(record(0)).await.unwrap();
    while producer.metrics().batches_sent == 0 {
        tokio::task::yield_now().await;
    }
    producer.abort_transaction().await.unwrap();
    let told = late.await.unwrap_err();
    assert_eq!(told, ClientError::TransactionAborted { sent: true });
    producer.begin_transaction().await.unwrap();
    let sent = producer.send(record(1)).await.unwrap();
    cluster.stall(false);
    sent.await.unwrap();
    producer.commit_transaction().await.unwrap();
    assert_eq!(cluster.values(0), values(1..2));
    assert_eq!(read(&client, IsolationLevel::ReadCommitted).await, [1]);
}

#[tokio::test]
async fn a_transaction_without_anything_in_it_asks_nobody() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    for _ in 0..2 {
        producer.transaction().await.unwrap().commit().await.unwrap();
        producer.transaction().await.unwrap().abort().await.unwrap();
    }
    assert_eq!(said(&cluster), ["init"]);
}

/// Many small batches, several partitions, and a network that loses answers.
#[tokio::test]
async fn a_transaction_over_several_partitions_is_whole_and_in_order_under_retries() {
    let (cluster, client) = Cluster::with_topic(3).await;
    let config = ProducerConfig { batch_size: 0, ..settings() };
    let producer = client.producer(config).await.unwrap();
    for round in 0..10u32 {
        let transaction = producer.transaction().await.unwrap();
        cluster.fault([
            Fault::Pass,
            Fault::LoseAnswer,
            Fault::Refuse(ErrorCode::NotEnoughReplicas),
            Fault::Lose,
        ]);
        for n in 0..12 {
            let record = ProducerRecord::new("t").value((round * 12 + n).to_string());
            drop(transaction.send(record.partition(n % 3)).await.unwrap());
        }
        match round % 3 {
            2 => transaction.abort().await.unwrap(),
            _ => transaction.commit().await.unwrap(),
        }
    }
    let mut seen = Vec::new();
    for partition in 0..3 {
        let only = troupe_client::Partitions::Only(vec![PartitionId(partition)]);
        let config = ReaderConfig {
            partitions: only,
            isolation_level: IsolationLevel::ReadCommitted,
            until_end: true,
            ..ReaderConfig::default()
        };
        let mut reader = client.reader("t", config).await.unwrap();
        let mut numbers: Vec<u32> = Vec::new();
        while let Some(batch) = reader.next_batch().await {
            for record in batch.unwrap().records() {
                let value = record.unwrap().value.unwrap();
                numbers.push(std::str::from_utf8(&value).unwrap().parse().unwrap());
            }
        }
        assert!(numbers.is_sorted(), "{numbers:?}");
        seen.extend(numbers);
    }
    seen.sort_unstable();
    let committed = (0..120).filter(|n| n / 12 % 3 != 2);
    assert_eq!(seen, committed.collect::<Vec<_>>());
}

pub fn committed_reader() -> ConsumerConfig {
    ConsumerConfig { isolation_level: IsolationLevel::ReadCommitted, ..config() }
}

async fn reads_t(client: &Client) -> Consumer {
    let mut consumer = client.consumer(committed_reader()).unwrap();
    consumer.assign([p(0)]).unwrap();
    consumer
}

/// X12: nothing behind the first record of a transaction that is open; and the position moves over what is for nobody.
#[tokio::test]
async fn a_consumer_of_committed_records_waits_for_open_transactions_and_passes_over_markers() {
    let (_cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    for (numbers, commit) in [(0..2, true), (2..4, false)] {
        producer.begin_transaction().await.unwrap();
        for n in numbers {
            producer.send(record(n)).await.unwrap().await.unwrap();
        }
        match commit {
            true => producer.commit_transaction().await.unwrap(),
            false => producer.abort_transaction().await.unwrap(),
        }
    }
    let mut consumer = reads_t(&client).await;
    let records = take(&mut consumer, 2).await;
    assert_eq!(records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1]);
    assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
    assert_eq!(consumer.position(&p(0)).await.unwrap(), Offset(6));
    assert_eq!(consumer.current_lag(&p(0)), Some(0));

    producer.begin_transaction().await.unwrap();
    producer.send(record(4)).await.unwrap().await.unwrap();
    assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
    let ends = consumer.end_offsets(&[p(0)]).await.unwrap();
    assert_eq!(ends[&p(0)], Offset(6));
    let all = client.list_offsets("t", &[(PartitionId(0), OffsetSpec::Latest)]).await.unwrap();
    assert_eq!(all[0].offset, Some(Offset(7)));
    producer.commit_transaction().await.unwrap();
    assert_eq!(take(&mut consumer, 1).await[0].offset, Offset(6));
}

/// X15: who begins meanwhile would read again what the transaction has read.
#[tokio::test]
async fn committed_offsets_are_waited_for_while_a_transaction_has_others() {
    let (cluster, client) = Cluster::with_topic(1).await;
    let producer = transactional(&client).await;
    let transaction = producer.transaction().await.unwrap();
    let offsets = [(p(0), OffsetAndMetadata::new(5))];
    transaction.send_offsets(offsets, &ConsumerGroupMetadata::new("g")).await.unwrap();
    let mut consumer = reads_t(&client).await;
    let at = p(0);
    let position = consumer.position(&at);
    tokio::pin!(position);
    tokio::select! {
        found = &mut position => panic!("{found:?}"),
        () = cluster.group.until_said("unstable") => {}
    }
    transaction.commit().await.unwrap();
    assert_eq!(position.await.unwrap(), Offset(5));
}

/// X16, X17: consume, transform, produce.
#[tokio::test]
async fn what_a_transaction_has_read_is_committed_with_it_or_read_again() {
    let (cluster, client) = Cluster::with_topic(2).await;
    let input = client.producer(ProducerConfig::default()).await.unwrap();
    for n in 0..4 {
        input.send(record(n)).await.unwrap().await.unwrap();
    }
    cluster.group.state().newcomers.push_back(vec![0]);
    let config = ConsumerConfig { enable_auto_commit: false, ..committed_reader() };
    let mut consumer = client.consumer(config).unwrap();
    assert_eq!(consumer.group_metadata().unwrap().member_id(), None);
    consumer.subscribe(["t"]).unwrap();
    let before = consumer.group_metadata().unwrap_err();
    assert_eq!(before.reason(), ErrorCode::UnknownMember, "it is no member yet");
    let producer = client.producer(settings()).await.unwrap();
    for attempt in 0..2 {
        let records = take(&mut consumer, 4).await;
        let transaction = producer.transaction().await.unwrap();
        for record in &records {
            let value = record.value.clone().unwrap();
            let image = ProducerRecord::new("t").value(value).partition(1);
            drop(transaction.send(image).await.unwrap());
        }
        let next = records.last().unwrap().offset.plus(1);
        let offsets = [(p(0), OffsetAndMetadata::new(next))];
        let group = consumer.group_metadata().unwrap();
        if attempt == 0 {
            let stale = Call::Refuse(ErrorCode::StaleMemberEpoch);
            cluster.state().transactions.calls.push_back(stale);
            let error = transaction.send_offsets(offsets, &group).await.unwrap_err();
            assert!(error.is_abortable(), "{error}");
            assert!(transaction.commit().await.unwrap_err().is_abortable());
            consumer.seek_to_committed(&[]).await.unwrap();
        } else {
            transaction.send_offsets(offsets, &group).await.unwrap();
            transaction.commit().await.unwrap();
        }
    }
    assert_eq!(cluster.group.state().committed[&0], 4);
    assert!(said(&cluster).contains(&"offsets 2/1 m1@1".to_owned()), "{:?}", said(&cluster));
    let images = read(&client, IsolationLevel::ReadCommitted).await;
    assert_eq!(images.len(), 8, "each once, and its image once: {images:?}");
}
