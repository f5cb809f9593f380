//! Appending batches: T11–T15, T18, T19, P12–P14.

use crate::reason;
use troupe_proto::batch::Compression;
use troupe_proto::log::v1::record_batch::Payload;
use troupe_proto::log::v1::{
    FetchPosition, FetchRequest, PartitionProduce, ProduceRequest, ProduceStreamRequest,
    RecordBatch, RecordSet, TopicPartition,
};
use troupe_proto::v1::Acks;
use troupe_proto::v1::ErrorReason::*;
use troupe_tests::{Sample, Server, batch_of, eventually, samples};

fn at(topic: &str, partition: i32) -> Option<TopicPartition> {
    Some(TopicPartition { topic: topic.to_owned(), partition, ..Default::default() })
}

/// `batch` with its records packed.
fn packed(batch: RecordBatch, compression: Compression) -> RecordBatch {
    let Some(Payload::Records(records)) = &batch.payload else { panic!("plain records") };
    let bytes = compression.compress(&prost::Message::encode_to_vec(records)).unwrap();
    RecordBatch {
        attributes: compression.id(),
        payload: Some(Payload::CompressedRecords(bytes)),
        ..batch
    }
}

/// What is stored, as typed batches.
async fn stored(server: &Server, topic: &str) -> Vec<RecordBatch> {
    let request = FetchRequest {
        positions: vec![FetchPosition {
            partition: at(topic, 0),
            max_bytes: 3 << 20,
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = server.log().fetch(request).await.unwrap().into_inner();
    assert_eq!(answer.partitions[0].error, None);
    answer.partitions[0].batches.clone().unwrap_or_default().batches
}

/// T10, T11: every record comes back as it was, at the next offset, whatever the batches.
#[tokio::test]
async fn offsets_have_no_gaps_and_records_come_back_as_they_were() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let mut expected = Vec::new();
    for (n, size) in [1, 5, 1, 300, 2].into_iter().enumerate() {
        let records = samples(n as u64, size, 500);
        let result = server.produce(&topic, 0, batch_of(&records), Acks::All).await;
        assert_eq!(result.error, None);
        assert_eq!(result.base_offset, expected.len() as i64);
        assert!(!result.duplicate);
        for record in records {
            expected.push((expected.len() as i64, record));
        }
    }
    assert_eq!(server.read_all(&topic, 0).await, expected);
}

/// P12: no offset; appended all the same.
#[tokio::test]
async fn acks_none_answers_without_an_offset() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let record = Sample::of("unpromised", 5);
    let result =
        server.produce(&topic, 0, batch_of(std::slice::from_ref(&record)), Acks::None).await;
    assert_eq!((result.base_offset, result.error), (-1, None));
    eventually("the record is there", async || {
        (server.read_all(&topic, 0).await == [(0, record.clone())]).then_some(())
    })
    .await;
}

/// P13, P14: an offset, and the zero value means all.
#[tokio::test]
async fn acks_leader_and_all_answer_with_the_offset() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    for (n, acks) in [Acks::Leader, Acks::All, Acks::Unspecified].into_iter().enumerate() {
        let result =
            server.produce(&topic, 0, batch_of(&[Sample::of(vec![n as u8], 5)]), acks).await;
        assert_eq!((result.base_offset, result.error), (n as i64, None), "{acks:?}");
    }
}

/// P14: what is none of the three is refused.
#[tokio::test]
async fn other_acks_are_refused() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let request = ProduceRequest {
        acks: 7,
        partitions: vec![PartitionProduce {
            leader_epoch: None,
            partition: at(&topic, 0),
            batch: Some(batch_of(&[Sample::of("x", 1)])),
        }],
        ..Default::default()
    };
    match server.log().produce(request).await {
        Ok(answer) => {
            assert_eq!(reason(&answer.into_inner().results[0].error), InvalidRequest);
        }
        Err(status) => assert_eq!(crate::checked(&status).code, InvalidRequest),
    }
}

/// T16, T19: a compressed batch is kept as the producer packed it and read by everybody.
#[tokio::test]
async fn compressed_batches_are_kept_as_they_came() {
    let server = Server::get().await;
    for compression in Compression::ALL.into_iter().filter(|&one| one != Compression::None) {
        let topic = server.new_topic(1, &[]).await.name;
        let records = samples(9, 50, 300);
        let batch = packed(batch_of(&records), compression);
        let result = server.produce(&topic, 0, batch.clone(), Acks::All).await;
        assert_eq!(result.error, None, "{compression}");
        let kept = stored(&server, &topic).await;
        assert_eq!(kept[0].payload, batch.payload, "{compression}");
        assert_eq!(kept[0].attributes, compression.id());
        let read: Vec<Sample> =
            server.read_all(&topic, 0).await.into_iter().map(|(_, record)| record).collect();
        assert_eq!(read, records, "{compression}");
    }
}

/// T18: refused with the limit; nothing is appended; the next one is.
#[tokio::test]
async fn a_batch_over_the_limit_is_refused_whole() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("max.message.bytes", "10000")]).await.name;
    let large = batch_of(&[Sample::of("small", 1), Sample::of(vec![b'x'; 20_000], 2)]);
    let result = server.produce(&topic, 0, large, Acks::All).await;
    assert_eq!(result.base_offset, -1);
    assert_eq!(reason(&result.error), RecordTooLarge);
    assert_eq!(result.error.unwrap().facts["limit"], "10000");
    let fits = batch_of(&[Sample::of(vec![b'x'; 9_000], 2)]);
    assert_eq!(server.produce(&topic, 0, fits, Acks::All).await.base_offset, 0);
}

/// T18: what is not what it says it is.
#[tokio::test]
async fn batches_that_are_not_what_they_say_are_refused() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let good = batch_of(&samples(4, 3, 50));
    let plain = |attributes| RecordBatch { attributes, ..good.clone() };
    let bytes = |bytes: &'static [u8], compression: Compression| RecordBatch {
        attributes: compression.id(),
        payload: Some(Payload::CompressedRecords(bytes.into())),
        ..good.clone()
    };
    let cases = [
        (
            "a wrong checksum",
            RecordBatch { payload_crc: 7, payload_crc_present: true, ..good.clone() },
            CorruptBatch,
        ),
        (
            "no records",
            RecordBatch { payload: Some(Payload::Records(RecordSet::default())), ..good.clone() },
            InvalidRecord,
        ),
        ("no payload", RecordBatch { payload: None, ..good.clone() }, InvalidRecord),
        (
            "a wrong count",
            RecordBatch { record_count: 4, last_offset_delta: 3, ..good.clone() },
            InvalidRecord,
        ),
        (
            "count and delta apart",
            RecordBatch { last_offset_delta: 5, ..good.clone() },
            InvalidRecord,
        ),
        (
            "a wrong largest timestamp",
            RecordBatch { max_timestamp: 1, ..good.clone() },
            InvalidRecord,
        ),
        ("plain records called packed", plain(Compression::Zstd.id()), InvalidRecord),
        ("packed records called plain", bytes(b"x", Compression::None), InvalidRecord),
        ("an unknown compression", plain(7), UnsupportedCompression),
        ("unknown attributes", plain(1 << 9), InvalidRecord),
        ("no gzip", bytes(b"not packed at all", Compression::Gzip), CorruptBatch),
        ("no snappy", bytes(b"\xff\xff\xff\xff\xff\xff", Compression::Snappy), CorruptBatch),
        ("no lz4", bytes(b"not packed at all", Compression::Lz4), CorruptBatch),
        ("no zstd", bytes(b"not packed at all", Compression::Zstd), CorruptBatch),
        ("a control batch", plain(1 << 5), InvalidRecord),
    ];
    for (what, batch, expected) in cases {
        let result = server.produce(&topic, 0, batch, Acks::All).await;
        assert_eq!(reason(&result.error), expected, "{what}: {:?}", result.error);
        assert_eq!(result.base_offset, -1, "{what}");
    }
    let result = server.produce(&topic, 0, good, Acks::All).await;
    assert_eq!((result.base_offset, result.error), (0, None), "none of them was appended");
}

/// T13.
#[tokio::test]
async fn log_append_time_is_the_leaders() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("message.timestamp.type", "LogAppendTime")]).await.name;
    let result = server.produce(&topic, 0, batch_of(&[Sample::of("x", 5)]), Acks::All).await;
    assert!(result.log_append_time_ms > 1_700_000_000_000, "{result:?}");
    let read = server.read_all(&topic, 0).await;
    assert_eq!(read[0].1.timestamp_ms, result.log_append_time_ms);

    let create_time = server.new_topic(1, &[]).await.name;
    let batch = RecordBatch { attributes: 1 << 3, ..batch_of(&[Sample::of("x", 5)]) };
    let result = server.produce(&create_time, 0, batch, Acks::All).await;
    assert_eq!(reason(&result.error), InvalidTimestamp);
}

/// T14.
#[tokio::test]
async fn timestamps_outside_of_what_is_allowed_are_refused() {
    let server = Server::get().await;
    let before = server.new_topic(1, &[("message.timestamp.before.max.ms", "1000")]).await.name;
    let result = server.produce(&before, 0, batch_of(&[Sample::of("old", 5)]), Acks::All).await;
    assert_eq!(reason(&result.error), InvalidTimestamp);
    let after = server.new_topic(1, &[("message.timestamp.after.max.ms", "1000")]).await.name;
    let far = Sample::of("early", 9_000_000_000_000);
    let result = server.produce(&after, 0, batch_of(&[far]), Acks::All).await;
    assert_eq!(reason(&result.error), InvalidTimestamp);
}

/// T15.
#[tokio::test]
async fn a_compacted_topic_wants_keys() {
    let server = Server::get().await;
    let topic = server.new_topic(1, &[("cleanup.policy", "compact")]).await.name;
    let keyed = Sample { key: Some(b"k".to_vec()), ..Sample::of("v", 1) };
    let mixed = batch_of(&[keyed.clone(), Sample::of("v", 1)]);
    let result = server.produce(&topic, 0, mixed, Acks::All).await;
    assert_eq!(reason(&result.error), InvalidRecord);
    let result = server.produce(&topic, 0, batch_of(&[keyed]), Acks::All).await;
    assert_eq!((result.base_offset, result.error), (0, None));
}

#[tokio::test]
async fn partitions_of_one_call_succeed_and_fail_for_themselves() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let entry = |topic: &str, partition| PartitionProduce {
        leader_epoch: None,
        partition: at(topic, partition),
        batch: Some(batch_of(&[Sample::of("x", 1)])),
    };
    let request = ProduceRequest {
        partitions: vec![
            entry(&topic, 0),
            entry("no-such-topic", 0),
            entry(&topic, 1),
            entry(&topic, 2),
            entry(&topic, -1),
        ],
        ..Default::default()
    };
    let results = server.log().produce(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 5);
    assert_eq!((results[0].base_offset, results[2].base_offset), (0, 0));
    assert_eq!(reason(&results[1].error), UnknownTopic);
    assert_eq!(reason(&results[3].error), UnknownPartition);
    assert_eq!(reason(&results[4].error), UnknownPartition);
    assert_eq!(results[3].partition, at(&topic, 2), "results name their partitions");
}

/// Pipelined: every request has its answer, those of a partition's appends in order; an error ends nothing.
#[tokio::test]
async fn a_stream_goes_on_behind_an_error() {
    let server = Server::get().await;
    let topic = server.new_topic(2, &[]).await.name;
    let requests: Vec<ProduceStreamRequest> = (0..100)
        .map(|n| {
            let record = Sample::of(format!("{n}"), n);
            let mut batch = batch_of(&[record]);
            if n % 10 == 7 {
                batch.payload_crc_present = true;
            }
            ProduceStreamRequest {
                correlation_id: n as u64 * 3,
                partition: at(&topic, n as i32 % 2),
                batch: Some(batch),
                ..Default::default()
            }
        })
        .collect();
    let stream = tokio_stream::iter(requests);
    let mut answers = server.log().produce_stream(stream).await.unwrap().into_inner();
    let (mut next, mut seen) = ([0, 0], 0);
    let mut last = [None, None];
    while let Some(answer) = answers.message().await.unwrap() {
        let result = answer.result.unwrap();
        let partition = result.partition.as_ref().unwrap().partition as usize;
        assert_eq!(answer.correlation_id % 3, 0);
        if answer.correlation_id / 3 % 10 == 7 {
            assert_eq!(reason(&result.error), CorruptBatch);
        } else {
            assert_eq!((result.error, result.base_offset), (None, next[partition]));
            assert!(last[partition] < Some(answer.correlation_id), "in the order of the requests");
            last[partition] = Some(answer.correlation_id);
            next[partition] += 1;
        }
        seen += 1;
    }
    assert_eq!((seen, next), (100, [50, 40]));
}

/// X11, X19: what a batch says of itself and what its request says of it are the same.
#[tokio::test]
async fn a_batch_and_its_request_agree_on_whether_it_is_of_a_transaction() {
    const TRANSACTIONAL: u32 = 1 << 4;
    const CONTROL: u32 = 1 << 5;
    let server = Server::get().await;
    let topic = server.new_topic(1, &[]).await.name;
    let batch = |attributes, producer_id| RecordBatch {
        attributes,
        producer_id,
        ..batch_of(&[Sample::of("x", 1)])
    };
    for (batch, transactional_id, part) in [
        (batch(TRANSACTIONAL, 7), "", "without a transactional id"),
        (batch(TRANSACTIONAL, 0), "tx", "without a producer"),
        (batch(0, 7), "tx", "of no transaction"),
        (batch(TRANSACTIONAL | CONTROL, 7), "tx", "the broker's to write"),
    ] {
        let transactional_id = transactional_id.to_owned();
        let one = PartitionProduce {
            partition: at(&topic, 0),
            batch: Some(batch.clone()),
            ..Default::default()
        };
        let request = ProduceRequest {
            transactional_id: transactional_id.clone(),
            partitions: vec![one],
            ..Default::default()
        };
        let answer = server.log().produce(request).await.unwrap().into_inner();
        let called = answer.results[0].error.clone();
        let request = ProduceStreamRequest {
            transactional_id,
            partition: at(&topic, 0),
            batch: Some(batch),
            ..Default::default()
        };
        let stream = tokio_stream::iter([request]);
        let mut answers = server.log().produce_stream(stream).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        for error in [called, answer.result.unwrap().error] {
            assert_eq!(reason(&error), InvalidRecord);
            let message = error.unwrap().message;
            assert!(message.contains(part), "{message}");
        }
    }
}
