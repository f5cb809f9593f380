//! Idempotent producers over the wire: I1–I6.

use crate::publishing::lose_replies;
use crate::reason;
use std::collections::BTreeSet;
use troupe_proto::log::v1::{InitProducerRequest, PartitionProduceResult, RecordBatch};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Sample, Server, batch_of};

async fn init(server: &Server) -> (u64, u32) {
    let answer = server.log().init_producer(InitProducerRequest {}).await.unwrap().into_inner();
    (answer.producer_id, answer.producer_epoch)
}

/// A producer and its partition.
struct Producer {
    server: Server,
    topic: String,
    id: u64,
    epoch: u32,
}

impl Producer {
    async fn new() -> Producer {
        let server = Server::get().await;
        let topic = server.new_topic(2, &[]).await.name;
        let (id, epoch) = init(&server).await;
        Producer { server, topic, id, epoch }
    }

    fn batch(&self, sequence: u32, count: u32) -> RecordBatch {
        let value = |n| format!("{}:{}", self.epoch, u64::from(sequence) + n);
        let records: Vec<_> = (0..u64::from(count)).map(|n| Sample::of(value(n), 5)).collect();
        RecordBatch {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence: sequence,
            ..batch_of(&records)
        }
    }

    async fn send(&self, sequence: u32, count: u32) -> PartitionProduceResult {
        self.send_to(0, sequence, count).await
    }

    async fn send_to(&self, partition: i32, sequence: u32, count: u32) -> PartitionProduceResult {
        let batch = self.batch(sequence, count);
        self.server.produce(&self.topic, partition, batch, Acks::All).await
    }

    async fn values(&self) -> Vec<String> {
        let read = self.server.read_all(&self.topic, 0).await;
        read.into_iter().map(|(_, one)| String::from_utf8(one.value.unwrap()).unwrap()).collect()
    }
}

#[track_caller]
fn assert_appended(result: &PartitionProduceResult, offset: i64) {
    assert_eq!((&result.error, result.duplicate, result.base_offset), (&None, false, offset));
}

#[track_caller]
fn assert_duplicate(result: &PartitionProduceResult, offset: i64) {
    assert_eq!((&result.error, result.duplicate, result.base_offset), (&None, true, offset));
}

/// I1.
#[tokio::test]
async fn producer_ids_are_new_every_time() {
    let server = Server::get().await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        let (id, epoch) = init(&server).await;
        assert_ne!(id, 0, "0 means none");
        assert_eq!(epoch, 0);
        assert!(ids.insert(id), "{id} twice");
    }
}

/// I4: the answer that was lost is given again.
#[tokio::test]
async fn a_batch_sent_again_is_answered_with_its_first_offset() {
    let producer = Producer::new().await;
    assert_appended(&producer.send(0, 3).await, 0);
    assert_duplicate(&producer.send(0, 3).await, 0);
    assert_appended(&producer.send(3, 2).await, 3);
    assert_duplicate(&producer.send(0, 3).await, 0);
    assert_duplicate(&producer.send(3, 2).await, 3);
    assert_eq!(producer.values().await, ["0:0", "0:1", "0:2", "0:3", "0:4"]);
}

/// I3: five batches are remembered; I5: what is older is out of order.
#[tokio::test]
async fn the_last_five_batches_are_remembered() {
    let producer = Producer::new().await;
    for sequence in 0..6 {
        assert_appended(&producer.send(sequence, 1).await, sequence.into());
    }
    for sequence in 1..6 {
        assert_duplicate(&producer.send(sequence, 1).await, sequence.into());
    }
    assert_eq!(reason(&producer.send(0, 1).await.error), OutOfOrderSequence);
    assert_eq!(producer.values().await.len(), 6);
}

/// I5.
#[tokio::test]
async fn gaps_and_overlaps_are_refused() {
    let producer = Producer::new().await;
    assert_appended(&producer.send(0, 3).await, 0);
    for (sequence, count) in [(4, 1), (2, 1), (0, 2), (0, 4), (1, 2)] {
        let result = producer.send(sequence, count).await;
        assert_eq!(reason(&result.error), OutOfOrderSequence, "{sequence} + {count}");
        assert_eq!(result.base_offset, -1);
    }
    assert_eq!(producer.send(5, 1).await.error.unwrap().facts["expected_sequence"], "3");
    assert_appended(&producer.send(3, 1).await, 3);
}

/// I2: sequences are counted by partition.
#[tokio::test]
async fn partitions_count_for_themselves() {
    let producer = Producer::new().await;
    assert_appended(&producer.send_to(0, 0, 2).await, 0);
    assert_appended(&producer.send_to(1, 0, 1).await, 0);
    assert_appended(&producer.send_to(0, 2, 1).await, 2);
    assert_appended(&producer.send_to(1, 1, 1).await, 1);
}

/// I6: a newer epoch begins at 0 and ends the older one.
#[tokio::test]
async fn a_newer_epoch_fences_the_older() {
    let mut producer = Producer::new().await;
    assert_appended(&producer.send(0, 1).await, 0);
    producer.epoch = 1;
    assert_eq!(reason(&producer.send(1, 1).await.error), OutOfOrderSequence);
    assert_appended(&producer.send(0, 1).await, 1);
    producer.epoch = 0;
    assert_eq!(reason(&producer.send(1, 1).await.error), ProducerFenced);
    assert_eq!(producer.values().await, ["0:0", "1:0"]);
}

/// I6: of a producer that the partition does not know, any sequence; I2: it wraps behind 2^31 - 1.
#[tokio::test]
async fn sequences_wrap() {
    let producer = Producer::new().await;
    const LAST: u32 = i32::MAX as u32;
    assert_appended(&producer.send(LAST - 1, 4).await, 0);
    assert_duplicate(&producer.send(LAST - 1, 4).await, 0);
    assert_eq!(reason(&producer.send(LAST, 1).await.error), OutOfOrderSequence);
    assert_appended(&producer.send(2, 1).await, 4);
    let beyond = producer.send(LAST + 1, 1).await;
    assert_eq!(reason(&beyond.error), InvalidRecord, "sequences have 31 bits");
}

/// Without a producer id nothing is recognised (I11).
#[tokio::test]
async fn without_a_producer_id_everything_is_new() {
    let producer = Producer { id: 0, ..Producer::new().await };
    for offset in 0..3 {
        assert_appended(&producer.send(0, 1).await, offset);
    }
}

/// What may be stored may be sent again only where it is stored once all the same.
#[tokio::test]
async fn an_unknown_outcome_is_retriable_only_of_a_batch_with_a_producer_id() {
    let producer = Producer::new().await;
    let server = &producer.server;
    let ends = lose_replies(server, &producer.topic, 0, 1.0).await;
    let stamped = producer.send(0, 2).await.error;
    let unstamped = batch_of(&[Sample::of("unstamped", 5)]);
    let unstamped = server.produce(&producer.topic, 0, unstamped, Acks::All).await.error;
    ends.await.unwrap();
    for (error, retriable) in [(&stamped, true), (&unstamped, false)] {
        assert_eq!(reason(error), OutcomeUnknown);
        let error = error.as_ref().unwrap();
        assert_eq!((error.retriable, error.surely_not_done), (retriable, false), "{error:?}");
    }
    assert_duplicate(&producer.send(0, 2).await, 0);
    assert_eq!(producer.values().await, ["0:0", "0:1", "unstamped"]);
    // What surely was not done may be sent again by anybody.
    let nowhere = batch_of(&[Sample::of("nowhere", 5)]);
    let error = server.produce("no-such-topic", 0, nowhere, Acks::All).await.error;
    assert_eq!(reason(&error), UnknownTopic);
}
