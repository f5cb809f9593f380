use super::*;
use crate::commands::log::dump::facts::Facts;
use bytes::Bytes;
use troupe_proto::batch::{Attributes, Compression, Marker, ProducerStamp, RecordSetBuilder};
use troupe_proto::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

const OPTIONS: Options =
    Options { detail: Detail::BatchesAndRecords, max_bytes: u64::MAX, skip_record_metadata: false };

/// The batch with which the lines of Kafka 4.0's kafka-dump-log below were made.
fn batch() -> DumpedBatch {
    let stamp =
        ProducerStamp { id: ProducerId(1000), epoch: ProducerEpoch(0), base_sequence: Sequence(0) };
    let header = BatchHeader {
        base_offset: Offset(0),
        leader_epoch: LeaderEpoch(7),
        last_offset_delta: 2,
        base_timestamp: 1_700_000_000_000,
        max_timestamp: 1_700_000_000_005,
        producer: Some(stamp),
        record_count: 3,
        attributes: Attributes::default(),
        payload_crc: 2_634_533_453,
        payload_len: 19,
    };
    DumpedBatch { position: 0, header, header_crc: 1, payload: Bytes::new(), fault: None }
}

fn text(facts: Facts) -> String {
    let told = facts.into_iter().filter_map(|fact| Some(format!("{}: {}", fact.name, fact.text?)));
    told.collect::<Vec<_>>().join(" ")
}

/// S31: behind `isvalid` stands what only Troupe has.
#[test]
fn a_batch_is_told_in_kafka_s_words() {
    let kafka = "baseOffset: 0 lastOffset: 2 count: 3 baseSequence: 0 lastSequence: 2 producerId: 1000 \
                 producerEpoch: 0 partitionLeaderEpoch: 7 isTransactional: false isControl: false \
                 deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: 1700000000005 size: 105 magic: 2 \
                 compresscodec: none crc: 2634533453 isvalid: true";
    let ours = text(batch_facts(&batch()));
    assert_eq!(ours, format!("{kafka} headerCrc: 1 baseTimestamp: 1700000000000"));
}

#[test]
fn a_batch_without_producer_and_of_log_append_time_is_told_in_kafka_s_words() {
    let mut batch = batch();
    batch.header.base_offset = Offset(3);
    batch.header.last_offset_delta = 0;
    batch.header.record_count = 1;
    batch.header.producer = None;
    batch.header.leader_epoch = LeaderEpoch(8);
    batch.header.max_timestamp = 1_795_989_989_286;
    batch.header.attributes =
        batch.header.attributes.with_log_append_time(true).with_compression(Compression::Gzip);
    batch.position = 105;
    let kafka = "baseOffset: 3 lastOffset: 3 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 \
                 producerEpoch: -1 partitionLeaderEpoch: 8 isTransactional: false isControl: false \
                 deleteHorizonMs: OptionalLong.empty position: 105 LogAppendTime: 1795989989286 size: 105 magic: 2 \
                 compresscodec: gzip crc: 2634533453 isvalid: true";
    assert!(text(batch_facts(&batch)).starts_with(kafka));
}

/// S23: when its tombstones may go, as Java shows what may be missing.
#[test]
fn a_delete_horizon_is_told_in_kafka_s_words() {
    let mut batch = batch();
    batch.header.attributes = batch.header.attributes.with_delete_horizon(true);
    batch.header.base_timestamp = 1_700_000_099_000;
    let line = text(batch_facts(&batch));
    assert!(line.contains(" deleteHorizonMs: OptionalLong[1700000099000] position: 0 "), "{line}");
}

/// What compaction has left of a batch keeps its offsets and sequences.
#[test]
fn a_batch_without_records_keeps_its_sequences() {
    let mut batch = batch();
    batch.header.record_count = 0;
    let line = text(batch_facts(&batch));
    assert!(
        line.starts_with("baseOffset: 0 lastOffset: 2 count: 0 baseSequence: 0 lastSequence: 2 ")
    );
}

/// S31: a record without a key or a value has none in its line.
#[test]
fn a_record_is_told_in_kafka_s_words() {
    let mut builder = RecordSetBuilder::new();
    let headers = [("trace", Some(b"1".as_slice())), ("trace", None)];
    builder.push(1_700_000_000_000, Some(b"k1"), Some(b"v1"), &headers);
    builder.push(1_700_000_000_005, None, Some(b"v2"), &[]);
    builder.push(1_700_000_000_003, Some(b"k1"), None, &[]);
    let built = builder.finish(Compression::None, None).unwrap();
    let BatchHeader { base_timestamp, payload_crc, payload_len, .. } = built.header;
    let header = BatchHeader { base_timestamp, payload_crc, payload_len, ..batch().header };
    let records = RecordSet::decode(&header, built.payload, Limits::default()).unwrap();
    let lines: Vec<String> = records
        .iter()
        .map(|record| text(record_facts(&header, &record.unwrap(), &OPTIONS, false)))
        .collect();
    assert_eq!(
        lines,
        [
            "offset: 0 CreateTime: 1700000000000 keySize: 2 valueSize: 2 sequence: 0 headerKeys: [trace,trace] key: k1 payload: v1",
            "offset: 1 CreateTime: 1700000000005 keySize: -1 valueSize: 2 sequence: 1 headerKeys: [] payload: v2",
            "offset: 2 CreateTime: 1700000000003 keySize: 2 valueSize: -1 sequence: 2 headerKeys: [] key: k1",
        ]
    );
}

/// X5: as Kafka 4.0's kafka-dump-log tells of one, which has no sequence there.
#[test]
fn a_marker_is_told_in_kafka_s_words() {
    for (committed, name) in [(true, "COMMIT"), (false, "ABORT")] {
        let marker = Marker { committed, coordinator_epoch: LeaderEpoch(3) };
        let built = marker.batch(ProducerId(1000), ProducerEpoch(2), 1_700_000_000_000).unwrap();
        let header = BatchHeader { base_offset: Offset(9), ..built.header };
        let dumped = DumpedBatch { header, payload: built.payload.clone(), ..batch() };
        let line = text(batch_facts(&dumped));
        let kafka = "baseOffset: 9 lastOffset: 9 count: 1 baseSequence: -1 lastSequence: -1 producerId: 1000 \
                     producerEpoch: 2 partitionLeaderEpoch: 0 isTransactional: true isControl: true ";
        assert!(line.starts_with(kafka), "{line}");
        assert!(line.ends_with(&format!(" endTxnMarker: {name} coordinatorEpoch: 3")), "{line}");
        let records = RecordSet::decode(&header, built.payload, Limits::default()).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert_eq!(
            text(record_facts(&header, &record, &OPTIONS, false)),
            format!(
                "offset: 9 CreateTime: 1700000000000 keySize: 4 valueSize: 6 sequence: -1 headerKeys: [] \
                 endTxnMarker: {name} coordinatorEpoch: 3"
            )
        );
    }
}
