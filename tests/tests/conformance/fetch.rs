//! Reading batches: S28–S30 and the pushed stream.

use crate::reason;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, FetchStreamRequest, ListOffsetsRequest, OffsetQuery,
    PartitionFetch, RecordBatch, TopicPartition, offset_query,
};
use troupe_proto::v1::ErrorReason::*;
use troupe_proto::v1::{Acks, IsolationLevel};
use troupe_tests::{PATIENCE, Sample, Server, batch_of, samples};

fn at(topic: &str, offset: i64, max_bytes: u32) -> FetchPosition {
    let partition = TopicPartition { topic: topic.to_owned(), ..Default::default() };
    FetchPosition { partition: Some(partition), offset, max_bytes, ..Default::default() }
}

async fn fetch(server: &Server, position: FetchPosition) -> PartitionFetch {
    let request = FetchRequest { positions: vec![position], ..Default::default() };
    server.log().fetch(request).await.unwrap().into_inner().partitions.remove(0)
}

fn batches(answer: &PartitionFetch) -> &[RecordBatch] {
    answer.batches.as_ref().map_or(&[], |batches| &batches.batches)
}

/// Base offsets of the batches in an answer.
fn bases(answer: &PartitionFetch) -> Vec<u64> {
    batches(answer).iter().map(|batch| batch.base_offset).collect()
}

/// Four batches of ten records of 1000 bytes each.
async fn filled(server: &Server) -> String {
    let topic = server.new_topic(1, &[]).await.name;
    for n in 0..4u8 {
        let records: Vec<_> = (0..10).map(|_| Sample::of(vec![n; 1_000], 5)).collect();
        server.produce(&topic, 0, batch_of(&records), Acks::All).await;
    }
    topic
}

/// S28.
#[tokio::test]
async fn offsets_outside_of_the_log_are_refused_and_its_end_is_not() {
    let server = Server::get().await;
    let topic = filled(&server).await;
    let answer = fetch(&server, at(&topic, 41, 0)).await;
    assert_eq!(reason(&answer.error), OffsetOutOfRange);
    let facts = answer.error.unwrap().facts;
    assert_eq!(facts.get("latest").map(String::as_str), Some("40"), "{facts:?}");
    let answer = fetch(&server, at(&topic, -1, 0)).await;
    assert_eq!(reason(&answer.error), InvalidRequest);
    let answer = fetch(&server, at(&topic, 40, 0)).await;
    assert_eq!((answer.error, answer.high_watermark, answer.log_start_offset), (None, 40, 0));
    let answer = fetch(&server, at("no-such-topic", 0, 0)).await;
    assert_eq!(reason(&answer.error), UnknownTopic);
}

/// S29: soft limits, whole batches, at least one.
#[tokio::test]
async fn limits_are_soft_and_batches_whole() {
    let server = Server::get().await;
    let topic = filled(&server).await;
    assert_eq!(bases(&fetch(&server, at(&topic, 0, 0)).await), [0, 10, 20, 30]);
    assert_eq!(bases(&fetch(&server, at(&topic, 0, 1)).await), [0], "one batch in any case");
    assert_eq!(bases(&fetch(&server, at(&topic, 25, 1)).await), [20], "the batch that holds it");
    assert_eq!(bases(&fetch(&server, at(&topic, 10, 25_000)).await), [10, 20]);
    let answer = fetch(&server, at(&topic, 39, 0)).await;
    assert_eq!(bases(&answer), [30]);
    assert_eq!((answer.high_watermark, batches(&answer)[0].record_count), (40, 10));
}

/// S29: the limit over all partitions.
#[tokio::test]
async fn the_first_partition_that_has_something_is_always_served() {
    let server = Server::get().await;
    let (first, second) = (filled(&server).await, filled(&server).await);
    let request = FetchRequest {
        positions: vec![at(&first, 40, 0), at(&first, 0, 0), at(&second, 0, 0)],
        max_bytes: 1,
        ..Default::default()
    };
    let answer = server.log().fetch(request).await.unwrap().into_inner();
    let counts: Vec<usize> = answer.partitions.iter().map(|one| batches(one).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 1, "{counts:?}");
}

/// What a generated client is ready to take.
#[tokio::test]
async fn an_answer_is_never_larger_than_generated_clients_accept() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    for _ in 0..8 {
        let records: Vec<_> = (0..9).map(|n| Sample::of(vec![n; 100_000], 5)).collect();
        server.produce(&topic, 0, batch_of(&records), Acks::All).await;
    }
    let answer = fetch(&server, at(&topic, 0, 100 << 20)).await;
    assert!(batches(&answer).len() >= 3, "{:?}", bases(&answer));
}

/// S30: woken by what is appended.
#[tokio::test]
async fn a_fetch_waits_for_records() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = FetchRequest {
        positions: vec![at(&topic, 0, 0)],
        max_wait_ms: u32::try_from(PATIENCE.as_millis()).unwrap(),
        min_bytes: 1,
        ..Default::default()
    };
    let mut log = server.log();
    let waiting = tokio::spawn(async move { log.fetch(request).await });
    server.produce(&topic, 0, batch_of(&[Sample::of("awaited", 1)]), Acks::All).await;
    let answer = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(bases(&answer.partitions[0]), [0]);
}

/// S30: the time passed, or something is wrong, or there will be no more than this.
#[tokio::test]
async fn a_fetch_that_can_get_no_more_is_answered() {
    let server = Server::get().await;
    let topic = filled(&server).await;
    let request = |offset, max_wait_ms, max_bytes| FetchRequest {
        positions: vec![at(&topic, offset, 0)],
        max_wait_ms,
        min_bytes: 1 << 30,
        max_bytes,
    };
    let answer = server.log().fetch(request(40, 20, 0)).await.unwrap().into_inner();
    assert_eq!((bases(&answer.partitions[0]), answer.partitions[0].high_watermark), (vec![], 40));
    let long = u32::try_from(2 * PATIENCE.as_millis()).unwrap();
    let answer = server.log().fetch(request(41, long, 0)).await.unwrap().into_inner();
    assert_eq!(reason(&answer.partitions[0].error), OffsetOutOfRange);
    // More than max_bytes it will never be, whatever min_bytes says.
    let full = tokio::time::timeout(PATIENCE, server.log().fetch(request(0, long, 15_000))).await;
    let answer = full.expect("answered when it is full").unwrap().into_inner();
    assert_eq!(bases(&answer.partitions[0]), [0]);
}

/// A FetchStream and the channel of its requests.
async fn open(
    server: &Server,
    first: FetchStreamRequest,
) -> (mpsc::Sender<FetchStreamRequest>, tonic::Streaming<troupe_proto::log::v1::FetchStreamResponse>)
{
    let (requests, stream) = mpsc::channel(8);
    requests.send(first).await.unwrap();
    let answers = server.log().fetch_stream(ReceiverStream::new(stream)).await.unwrap();
    (requests, answers.into_inner())
}

#[tokio::test]
async fn a_stream_pushes_what_is_there_and_what_comes() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let first = FetchStreamRequest {
        positions: vec![at(&topic, 0, 0)],
        credit_bytes: 10 << 20,
        ..Default::default()
    };
    let (_requests, mut answers) = open(&server, first).await;
    let told = answers.message().await.unwrap().unwrap();
    assert_eq!((told.batches, told.high_watermark), (None, 0), "caught up");
    let mut expected = Vec::new();
    let mut pushed = Vec::new();
    for n in 0..20 {
        let records = samples(n, 3, 100);
        server.produce(&topic, 0, batch_of(&records), Acks::All).await;
        expected.extend(records);
        while pushed.len() < expected.len() {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.error, None);
            for batch in answer.batches.unwrap_or_default().batches {
                assert_eq!(batch.base_offset as usize, pushed.len());
                let Some(troupe_proto::log::v1::record_batch::Payload::Records(set)) =
                    &batch.payload
                else {
                    panic!("plain records")
                };
                let base = batch.base_timestamp;
                pushed.extend(set.records.iter().map(|one| Sample::from_log_record(one, base)));
            }
        }
    }
    assert_eq!(pushed, expected);
}

/// Credit is back-pressure: without it nothing comes, and more of it brings the rest.
#[tokio::test]
async fn a_stream_pushes_no_more_than_it_has_credit_for() {
    let server = Server::get().await;
    let topic = filled(&server).await;
    let first = FetchStreamRequest {
        positions: vec![at(&topic, 0, 0)],
        credit_bytes: 15_000,
        ..Default::default()
    };
    let (requests, mut answers) = open(&server, first).await;
    let mut seen = Vec::new();
    // Soft: the batch that uses the credit up comes whole.
    while seen.len() < 2 {
        let answer = answers.message().await.unwrap().unwrap();
        seen.extend(answer.batches.unwrap().batches.iter().map(|batch| batch.base_offset));
    }
    let more = tokio::time::timeout(Duration::from_millis(100), answers.message()).await;
    assert!(more.is_err(), "{more:?} beyond the credit, after {seen:?}");
    let grant = FetchStreamRequest { credit_bytes: 1 << 20, ..Default::default() };
    requests.send(grant).await.unwrap();
    while seen.last() < Some(&30) {
        let answer = answers.message().await.unwrap().unwrap();
        seen.extend(answer.batches.unwrap().batches.iter().map(|batch| batch.base_offset));
    }
    assert_eq!(seen, [0, 10, 20, 30]);
}

/// An error concerns its partition; the others go on; it may be added again.
#[tokio::test]
async fn a_stream_drops_a_partition_that_fails_and_takes_it_back() {
    let server = Server::get().await;
    let (good, bad) = (filled(&server).await, filled(&server).await);
    let first = FetchStreamRequest {
        positions: vec![at(&bad, 99, 0), at("no-such-topic", 0, 0), at(&good, 30, 0)],
        credit_bytes: 10 << 20,
        ..Default::default()
    };
    let (requests, mut answers) = open(&server, first).await;
    let (mut errors, mut served) = (Vec::new(), false);
    while errors.len() < 2 || !served {
        let answer = answers.message().await.unwrap().unwrap();
        match &answer.error {
            Some(_) => errors.push(reason(&answer.error)),
            None => served |= answer.partition.unwrap().topic == good,
        }
    }
    errors.sort_by_key(|code| code.reason());
    assert_eq!(errors, [OffsetOutOfRange, UnknownTopic]);
    let again = FetchStreamRequest { positions: vec![at(&bad, 30, 0)], ..Default::default() };
    requests.send(again).await.unwrap();
    loop {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.error, None);
        if answer.partition.unwrap().topic == bad {
            break;
        }
    }
}

/// X12: without transactions, readers of committed records are given all that others are.
#[tokio::test]
async fn where_no_transaction_is_open_everything_that_is_committed_is_stable() {
    let server = Server::get().await;
    let topic = filled(&server).await;
    for isolation in [IsolationLevel::ReadCommitted, IsolationLevel::ReadUncommitted] {
        let position =
            FetchPosition { isolation_level: isolation.into(), ..at(&topic, 0, 3 << 20) };
        let answer = fetch(&server, position).await;
        assert_eq!(bases(&answer), [0, 10, 20, 30]);
        assert_eq!((answer.high_watermark, answer.last_stable_offset), (40, 40));
        assert_eq!(answer.aborted_transactions, []);
        let query = OffsetQuery {
            partition: at(&topic, 0, 0).partition,
            at: Some(offset_query::At::Latest(true)),
            isolation_level: isolation.into(),
        };
        let request = ListOffsetsRequest { queries: vec![query] };
        let answer = server.log().list_offsets(request).await.unwrap().into_inner();
        assert_eq!(answer.results[0].offset, 40);
    }
    let answer = fetch(&server, at("no-such-topic", 0, 0)).await;
    assert_eq!((answer.high_watermark, answer.last_stable_offset), (-1, -1));
}
