//! The same by the Rust client: what it says, and what is left to do (X20).

use super::Transactional;
use std::time::Duration;
use troupe_client::{
    AutoOffsetReset, Client, ClientConfig, Consumer, ConsumerConfig, ConsumerGroupMetadata,
    ConsumerRecords, IsolationLevel, OffsetAndMetadata, OffsetSpec, Producer, ProducerConfig,
    ProducerRecord, TopicPartition, TransactionError,
};
use troupe_proto::ids::PartitionId;
use troupe_proto::log::v1::CommittedOffset;
use troupe_proto::v1::ErrorReason::{self, *};
use troupe_proto::v1::{
    PullRequest, SettleRequest, StartPosition, SubscriptionOptions, start_position,
};
use troupe_tests::{Server, eventually};

async fn client(server: &Server) -> Client {
    Client::connect(ClientConfig::new([server.address()])).await.unwrap()
}

fn settings(id: &str) -> ProducerConfig {
    ProducerConfig { transactional_id: Some(id.to_owned()), ..ProducerConfig::default() }
}

fn reads(group: &str) -> ConsumerConfig {
    ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        isolation_level: IsolationLevel::ReadCommitted,
        enable_auto_commit: false,
        ..ConsumerConfig::new(group)
    }
}

fn reason(error: &TransactionError) -> ErrorReason {
    error.cause().unwrap().reason()
}

fn is_illegal(result: Result<(), TransactionError>, part: &str) {
    match result {
        Err(TransactionError::IllegalState { what }) => assert!(what.contains(part), "{what}"),
        other => panic!("{other:?}"),
    }
}

fn at(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

async fn send(producer: &Producer, topic: &str, value: &str) {
    let record = ProducerRecord::new(topic).value(value.to_owned()).partition(0);
    producer.send(record).await.unwrap().await.unwrap();
}

/// The next poll that has any.
async fn poll(consumer: &mut Consumer) -> ConsumerRecords {
    eventually("records", async || {
        let records = consumer.poll(Duration::from_millis(100)).await.unwrap();
        (!records.is_empty()).then_some(records)
    })
    .await
}

/// What `troupe group describe` counts.
async fn lag(client: &Client, group: &str, topic: &str) -> i64 {
    let committed = client.admin().list_group_offsets(group, Vec::new()).await.unwrap();
    let first = |it: &&CommittedOffset| it.partition.as_ref().is_some_and(|at| at.partition == 0);
    let offset = committed.iter().find(first).unwrap().offset.as_ref().unwrap().offset;
    let query = [(PartitionId(0), OffsetSpec::Latest)];
    let end = client.list_offsets(topic, &query).await.unwrap()[0].offset.unwrap();
    end.to_wire() - offset
}

#[tokio::test]
async fn calls_in_the_wrong_order_say_which_comes_first() {
    let one = Transactional::new().await;
    let client = client(&one.server).await;
    let plain = client.producer(ProducerConfig::default()).await.unwrap();
    is_illegal(plain.begin_transaction().await, "set one");
    let producer = client.producer(settings(&one.id)).await.unwrap();
    is_illegal(producer.begin_transaction().await, "init_transactions first");
    is_illegal(producer.commit_transaction().await, "begin one first");
    producer.init_transactions().await.unwrap();
    is_illegal(producer.init_transactions().await, "already");
    let unsent = producer.send(ProducerRecord::new(&one.topic)).await.map(drop).unwrap_err();
    assert!(unsent.to_string().contains("begin one"), "{unsent}");
    let (offsets, group) =
        ([(at(&one.topic, 0), OffsetAndMetadata::new(1))], ConsumerGroupMetadata::new("g"));
    is_illegal(producer.send_offsets_to_transaction(offsets, &group).await, "begin one");
    is_illegal(producer.abort_transaction().await, "begin one first");
    producer.begin_transaction().await.unwrap();
    is_illegal(producer.begin_transaction().await, "open already");
    send(&producer, &one.topic, "kept").await;
    producer.commit_transaction().await.unwrap();
    is_illegal(producer.commit_transaction().await, "begin one first");
    one.until_values(0, &["kept"]).await;
}

/// X20: each is fatal, and says why.
#[tokio::test]
async fn what_can_never_be_is_fatal() {
    let one = Transactional::new().await;
    let client = client(&one.server).await;
    let too_long = Duration::from_secs(901);
    for (config, expected) in [
        (settings(&"i".repeat(256)), InvalidTransactionalId),
        (settings("line\nend"), InvalidTransactionalId),
        (
            ProducerConfig { transaction_timeout: too_long, ..settings(&one.id) },
            InvalidTransactionTimeout,
        ),
    ] {
        let producer = client.producer(config).await.unwrap();
        for _ in 0..2 {
            let error = producer.init_transactions().await.unwrap_err();
            assert!(error.is_fatal(), "{error}");
            assert_eq!(reason(&error), expected, "{error}");
        }
    }
    assert!(client.producer(settings("")).await.is_err(), "an id that is empty");
}

/// X9: whoever was fenced says so at each call, and what it sends is nowhere.
#[tokio::test]
async fn an_instance_that_was_replaced_can_only_be_closed() {
    let one = Transactional::new().await;
    let client = client(&one.server).await;
    let old = client.producer(settings(&one.id)).await.unwrap();
    old.init_transactions().await.unwrap();
    old.begin_transaction().await.unwrap();
    send(&old, &one.topic, "left open").await;
    let new = client.producer(settings(&one.id)).await.unwrap();
    new.init_transactions().await.unwrap();
    let error = old.commit_transaction().await.unwrap_err();
    assert!(error.is_fatal() && reason(&error) == ProducerFenced, "{error}");
    assert!(old.begin_transaction().await.unwrap_err().is_fatal());
    assert!(old.abort_transaction().await.unwrap_err().is_fatal());
    old.close(Duration::from_secs(10)).await.unwrap();
    new.begin_transaction().await.unwrap();
    send(&new, &one.topic, "kept").await;
    new.commit_transaction().await.unwrap();
    one.until_values(0, &["kept"]).await;
}

/// X16: of a member that the group has gone on without, by each way in which it may.
#[tokio::test]
async fn offsets_of_a_group_that_has_gone_on_abort_their_transaction() {
    let one = Transactional::new().await;
    let client = client(&one.server).await;
    let input = client.producer(ProducerConfig::default()).await.unwrap();
    send(&input, &one.topic, "in").await;
    let mut consumer = client.consumer(reads(&one.id)).unwrap();
    consumer.subscribe([&one.topic]).unwrap();
    let records = poll(&mut consumer).await;
    let now = consumer.group_metadata().unwrap();
    let producer = client.producer(settings(&one.id)).await.unwrap();

    // Another member comes and takes a partition: whoever asked before it gave that up has an old epoch.
    let mut other = client.consumer(reads(&one.id)).unwrap();
    other.subscribe([&one.topic]).unwrap();
    eventually("each has one", async || {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
        other.poll(Duration::from_millis(10)).await.unwrap();
        (consumer.assignment().len() == 1 && other.assignment().len() == 1).then_some(())
    })
    .await;
    let moved = other.assignment()[0].clone();
    let transaction = producer.transaction().await.unwrap();
    let image = ProducerRecord::new(&one.topic).value("image").partition(1);
    drop(transaction.send(image).await.unwrap());
    let offsets = [(moved.clone(), OffsetAndMetadata::new(1))];
    for _ in 0..2 {
        let error = transaction.send_offsets(offsets.clone(), &now).await.unwrap_err();
        assert!(error.is_abortable(), "what failed once stays so: {error}");
        assert_eq!(reason(&error), StaleMemberEpoch, "{error}");
    }
    let error = transaction.commit().await.unwrap_err();
    assert_eq!(reason(&error), StaleMemberEpoch, "{error}");
    // It has left.
    let gone = other.group_metadata().unwrap();
    other.close(Duration::from_secs(10)).await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    let offsets = [(moved, OffsetAndMetadata::new(1))];
    let error = transaction.send_offsets(offsets, &gone).await.unwrap_err();
    assert!(error.is_abortable() && reason(&error) == UnknownMember, "{error}");
    transaction.abort().await.unwrap();
    let committed = client.admin().list_group_offsets(&one.id, Vec::new()).await.unwrap();
    assert!(committed.is_empty(), "{committed:?}");
    // And the member that is there goes on.
    let group = eventually("all is the member's", async || {
        consumer.poll(Duration::from_millis(10)).await.unwrap();
        (consumer.assignment().len() == 2).then(|| consumer.group_metadata().unwrap())
    })
    .await;
    let transaction = producer.transaction().await.unwrap();
    let image = ProducerRecord::new(&one.topic).value("image").partition(1);
    drop(transaction.send(image).await.unwrap());
    transaction.send_offsets(records.next_offsets().clone(), &group).await.unwrap();
    transaction.commit().await.unwrap();
    one.until_values(1, &["image"]).await;
    assert_eq!(one.values(0).await, ["in"]);
}

/// X5, X20: what was appended to it is gone with it; the rest of the transaction is committed.
#[tokio::test]
async fn a_commit_ends_though_a_topic_of_it_is_deleted() {
    let (one, gone) = (Transactional::new().await, Transactional::new().await);
    let client = client(&one.server).await;
    let producer = client.producer(settings(&one.id)).await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    for topic in [&one.topic, &gone.topic] {
        let record = ProducerRecord::new(topic).value("before").partition(0);
        transaction.send(record).await.unwrap().await.unwrap();
    }
    one.server.delete_topic(&gone.topic).await;
    transaction.commit().await.unwrap();
    let transaction = producer.transaction().await.unwrap();
    let record = ProducerRecord::new(&one.topic).value("after").partition(0);
    drop(transaction.send(record).await.unwrap());
    transaction.commit().await.unwrap();
    one.until_values(0, &["before", "after"]).await;
}

/// C12, KIP-1094: a marker takes an offset, and nobody has to read it.
#[tokio::test]
async fn a_group_that_has_read_all_has_no_lag_behind_a_marker() {
    let one = Transactional::new().await;
    let client = client(&one.server).await;
    let group = |what: &str| format!("{}-{what}", one.id);
    let producer = client.producer(settings(&one.id)).await.unwrap();
    let output = one.server.new_topic(1, &[]).await.name;
    let mut in_transactions = client.consumer(reads(&group("transactions"))).unwrap();
    // As many as there are of each: it is at the end of its batch when the poll returns.
    let exact = ConsumerConfig { max_poll_records: 2, ..reads(&group("exact")) };
    let mut exact = client.consumer(exact).unwrap();
    for consumer in [&mut in_transactions, &mut exact] {
        consumer.subscribe([&one.topic]).unwrap();
    }
    let copier = client.producer(settings(&group("copier"))).await.unwrap();
    for round in 0..3 {
        producer.transaction().await.unwrap().abort().await.unwrap();
        let transaction = producer.transaction().await.unwrap();
        for _ in 0..2 {
            let record = ProducerRecord::new(&one.topic).value("x").partition(0);
            drop(transaction.send(record).await.unwrap());
        }
        match round {
            1 => transaction.abort().await.unwrap(),
            _ => transaction.commit().await.unwrap(),
        }
        if round == 1 {
            continue;
        }
        let records = poll(&mut in_transactions).await;
        let transaction = copier.transaction().await.unwrap();
        let image = ProducerRecord::new(&output).value("image").partition(0);
        drop(transaction.send(image).await.unwrap());
        let metadata = in_transactions.group_metadata().unwrap();
        transaction.send_offsets(records.next_offsets().clone(), &metadata).await.unwrap();
        transaction.commit().await.unwrap();
        poll(&mut exact).await;
        exact.commit_sync().await.unwrap();
        for name in ["transactions", "exact"] {
            let behind = eventually("the offsets are committed", async || {
                let lag = lag(&client, &group(name), &one.topic).await;
                (lag <= 1).then_some(lag)
            });
            assert_eq!(behind.await, 0, "{name}, {round}");
        }
    }

    // By the thin API, which commits what is acknowledged.
    let name = group("thin");
    let start = StartPosition { at: Some(start_position::At::Earliest(true)) };
    let options = SubscriptionOptions {
        group: name.clone(),
        topics: vec![one.topic.clone()],
        start_position: Some(start),
        ..Default::default()
    };
    eventually("all is read, and no lag is left", async || {
        let options = Some(options.clone());
        let max_wait = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
        let request = PullRequest { options, max_wait, ..Default::default() };
        let answer = one.server.bus().pull(request).await.unwrap().into_inner();
        let ack_ids = answer.deliveries.into_iter().map(|it| it.ack_id).collect();
        let request = SettleRequest { ack_ids, ..Default::default() };
        one.server.bus().settle(request).await.unwrap();
        let committed = client.admin().list_group_offsets(&name, Vec::new()).await.unwrap();
        let is_zero = !committed.is_empty() && lag(&client, &name, &one.topic).await == 0;
        is_zero.then_some(())
    })
    .await;
}
