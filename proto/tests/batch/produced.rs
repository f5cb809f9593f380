//! What producers send: built by our client, or by any protobuf library.

use super::*;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use troupe_proto::batch::{Attributes, BatchError, Limits, ProducedBatch};
use troupe_proto::error::ErrorCode;
use typed::record_batch::Payload;

/// The batch as a library would build it from messages.
fn typed_batch(records: &[Plain], compression: Compression, with_crc: bool) -> typed::RecordBatch {
    let set = typed_set(records);
    let (payload, content) = match compression {
        Compression::None => (Payload::Records(set.clone()), set.encode_to_vec().into()),
        _ => {
            let packed = compression.compress(&set.encode_to_vec()).unwrap();
            (Payload::CompressedRecords(packed.clone()), packed)
        }
    };
    typed::RecordBatch {
        last_offset_delta: records.len() as u32 - 1,
        base_timestamp: records[0].timestamp_ms,
        max_timestamp: records.iter().map(|record| record.timestamp_ms).max().unwrap(),
        record_count: records.len() as u32,
        attributes: compression.id(),
        payload_crc: if with_crc { crc_fast::crc32_iscsi(&content) } else { 0 },
        payload_crc_present: with_crc,
        payload: Some(payload),
        ..Default::default()
    }
}

fn valid() -> typed::RecordBatch {
    let record = |key: Option<&'static [u8]>| Plain {
        timestamp_ms: 100,
        key: key.map(Bytes::from_static),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    };
    typed_batch(&[record(Some(b"a")), record(Some(b""))], Compression::None, false)
}

fn decode(batch: &typed::RecordBatch) -> Result<ProducedBatch, BatchError> {
    ProducedBatch::decode(Bytes::from(batch.encode_to_vec()).into())
}

fn verify(batch: &typed::RecordBatch) -> Result<bool, BatchError> {
    Ok(decode(batch)?.verify(Limits::default())?.keyless)
}

/// The fields of a message, each with its tag.
fn split_fields(mut message: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let before = message;
        let (_, wire_type) = prost::encoding::decode_key(&mut message).unwrap();
        let len = match wire_type {
            WireType::Varint => {
                prost::encoding::decode_varint(&mut message).unwrap();
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => {
                prost::encoding::decode_varint(&mut message).unwrap() as usize
            }
            _ => 4,
        };
        message = &message[len..];
        fields.push(before[..before.len() - message.len()].to_vec());
    }
    fields
}

proptest! {
    #[test]
    fn a_built_batch_is_what_a_library_would_have_encoded(
        records in plain_records(), compression in compression(), producer in producer(), late in any::<bool>(),
    ) {
        let mut built = build(&records, compression, if late { None } else { producer });
        built.header.producer = producer;
        let header = built.header;
        let shared = late.then(|| built.payload.clone());
        let expected_len = built.wire_len();
        let wire = built.into_wire();
        prop_assert_eq!(wire.len(), expected_len);
        if let Some(payload) = shared {
            prop_assert!(wire.ends_with(&payload));
        }

        let batch = typed::RecordBatch::decode(wire.clone()).unwrap();
        let stamp = producer.map(|stamp| (stamp.id.0, stamp.epoch.0, stamp.base_sequence.0)).unwrap_or_default();
        prop_assert_eq!((batch.producer_id, batch.producer_epoch, batch.base_sequence), stamp);
        let mut expected = typed_batch(&records, compression, true);
        (expected.producer_id, expected.producer_epoch, expected.base_sequence) = stamp;
        prop_assert_eq!(batch, expected);

        let produced = ProducedBatch::decode(wire.into()).unwrap();
        let verified = produced.verify(Limits::default()).unwrap();
        prop_assert_eq!(produced.header(header.base_offset, header.leader_epoch, verified.payload_crc), header);
    }

    #[test]
    fn the_builder_writes_the_same_bytes_as_the_generated_code(records in plain_records()) {
        let mut builder = RecordSetBuilder::with_capacity(100);
        for record in &records {
            let Plain { timestamp_ms, key, value, headers } = record;
            let before = builder.len();
            let headers = borrowed(headers);
            let expected = builder.encoded_len_of(*timestamp_ms, key.as_deref(), value.as_deref(), &headers);
            builder.push(*timestamp_ms, key.as_deref(), value.as_deref(), &headers);
            prop_assert_eq!(builder.len(), before + expected);
        }
        prop_assert_eq!(builder.count() as usize, records.len());
        prop_assert_eq!(builder.max_timestamp(), records.iter().map(|record| record.timestamp_ms).max());
        let built = builder.finish(Compression::None, None).unwrap();
        prop_assert_eq!(&built.payload[..], &typed_set(&records).encode_to_vec()[..]);
    }

    #[test]
    fn a_batch_from_any_library_is_read_in_whatever_pieces_it_comes(
        records in plain_records(), compression in compression(), with_crc in any::<bool>(), cuts in cuts(),
    ) {
        let batch = typed_batch(&records, compression, with_crc);
        let encoded = batch.encode_to_vec();
        let produced = ProducedBatch::decode(cut(&encoded, &cuts)).unwrap();
        prop_assert_eq!(produced.record_count, batch.record_count);
        prop_assert_eq!(produced.last_offset_delta, batch.last_offset_delta);
        prop_assert_eq!(produced.base_timestamp, batch.base_timestamp);
        prop_assert_eq!(produced.max_timestamp, batch.max_timestamp);
        prop_assert_eq!(produced.payload_crc, with_crc.then_some(batch.payload_crc));
        let verified = produced.verify(Limits::default()).unwrap();
        prop_assert_eq!(verified.keyless, records.iter().any(|record| record.key.is_none()));
        let times: Vec<i64> = records.iter().map(|record| record.timestamp_ms).collect();
        prop_assert_eq!(Some(verified.min_timestamp), times.iter().min().copied());
        prop_assert_eq!(Some(verified.max_timestamp), times.iter().max().copied());
        let mut again = Vec::new();
        let each = |index, timestamp, has_key| again.push((index, timestamp, has_key));
        produced.each_record(Limits::default(), each).unwrap();
        let expected = (0..).zip(&records).map(|(n, one)| (n, one.timestamp_ms, one.key.is_some()));
        prop_assert_eq!(again, expected.collect::<Vec<_>>());
        let payload = produced.payload.into_bytes();
        prop_assert_eq!(verified.payload_crc, crc_fast::crc32_iscsi(&payload));
        let content = match batch.payload.unwrap() {
            Payload::Records(set) => set.encode_to_vec().into(),
            Payload::CompressedRecords(packed) => packed,
        };
        prop_assert_eq!(payload, content);
    }

    #[test]
    fn the_order_of_fields_and_unknown_fields_do_not_matter(
        records in plain_records(), order in any::<prop::sample::Selector>(), cuts in cuts(), unknown in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let batch = typed_batch(&records, Compression::None, true);
        let mut fields = split_fields(&batch.encode_to_vec());
        let mut newer = Vec::new();
        encode_key(16, WireType::LengthDelimited, &mut newer);
        encode_varint(unknown.len() as u64, &mut newer);
        newer.extend_from_slice(&unknown);
        fields.push(newer);
        fields.push(vec![0x88, 0x01, 0x96, 0x01]);
        fields.push([&[0x95, 0x01][..], &[1; 4]].concat());
        fields.push([&[0x91, 0x01][..], &[1; 8]].concat());
        let mut shuffled = Vec::new();
        while !fields.is_empty() {
            let at = order.select(0..fields.len());
            shuffled.extend(fields.remove(at));
        }
        let produced = ProducedBatch::decode(cut(&shuffled, &cuts)).unwrap();
        prop_assert!(produced.verify(Limits::default()).is_ok());
        prop_assert_eq!(typed::RecordBatch::decode(&shuffled[..]).unwrap(), batch);
    }

    #[test]
    fn a_payload_that_comes_twice_is_read_as_the_generated_code_reads_it(
        first in plain_records(), second in plain_records(), cuts in cuts(),
    ) {
        let mut twice = typed_batch(&first, Compression::None, false).encode_to_vec();
        twice.extend(typed_batch(&second, Compression::None, false).encode_to_vec());
        let merged = typed::RecordBatch::decode(&twice[..]).unwrap();
        let Some(Payload::Records(set)) = merged.payload else { panic!("records were sent") };
        let produced = ProducedBatch::decode(cut(&twice, &cuts)).unwrap();
        prop_assert_eq!(produced.payload.into_bytes(), set.encode_to_vec());
    }
}

#[test]
fn wide_lengths_are_read() {
    let batch = valid();
    let Some(Payload::Records(set)) = &batch.payload else { panic!("records") };
    let content = set.encode_to_vec();
    let mut encoded = typed::RecordBatch { payload: None, ..batch.clone() }.encode_to_vec();
    let len = content.len() as u8;
    encoded.extend([0x7A, len | 0x80, 0x80, 0x80, 0x80, 0]);
    encoded.extend(&content);
    let produced = ProducedBatch::decode(Bytes::from(encoded).into()).unwrap();
    assert_eq!(produced.payload.clone().into_bytes(), content);
    assert!(produced.verify(Limits::default()).is_ok());
}

#[test]
fn decoding_copies_no_payload() {
    let encoded = Bytes::from(valid().encode_to_vec());
    let range = encoded.as_ptr_range();
    let produced = ProducedBatch::decode(encoded.clone().into()).unwrap();
    for piece in produced.payload.pieces() {
        assert!(range.contains(&piece.as_ptr()));
    }
}

#[test]
fn an_uncompressed_batch_goes_out_where_it_was_built() {
    let mut builder = RecordSetBuilder::new();
    builder.push(1, None, Some(&[7; 1000]), &[]);
    let built = builder.finish(Compression::None, None).unwrap();
    let payload = built.payload.as_ptr_range();
    let wire = built.into_wire();
    assert!(wire.as_ptr_range().contains(&payload.start));
    assert_eq!(wire.as_ptr_range().end, payload.end);
}

#[test]
fn an_empty_builder_makes_no_batch() {
    let empty = RecordSetBuilder::new();
    assert!(empty.is_empty() && empty.max_timestamp().is_none());
    assert_eq!(empty.finish(Compression::None, None).unwrap_err(), BatchError::Empty);
}

#[test]
fn a_header_that_does_not_tell_the_truth_is_refused() {
    assert_eq!(verify(&valid()), Ok(false));
    let wrong = |change: fn(&mut typed::RecordBatch)| {
        let mut batch = valid();
        change(&mut batch);
        verify(&batch).unwrap_err()
    };
    assert_eq!(wrong(|batch| batch.record_count = 0), BatchError::Empty);
    assert!(matches!(wrong(|batch| batch.last_offset_delta = 2), BatchError::BadHeader { .. }));
    assert_eq!(
        wrong(|batch| (batch.record_count, batch.last_offset_delta) = (3, 2)),
        BatchError::CountMismatch { declared: 3, found: 2 }
    );
    assert_eq!(
        wrong(|batch| batch.max_timestamp = 101),
        BatchError::MaxTimestamp { declared: 101, found: 100 }
    );
    assert!(matches!(
        wrong(|batch| batch.payload_crc_present = true),
        BatchError::PayloadChecksum { stored: 0, .. }
    ));
    assert!(matches!(wrong(|batch| batch.attributes = 1), BatchError::BadHeader { .. }));
    assert!(matches!(wrong(|batch| batch.attributes = 1 << 6), BatchError::BadHeader { .. }));
    let unsupported = wrong(|batch| batch.attributes = 5);
    assert_eq!(unsupported, BatchError::UnsupportedCompression { id: 5 });
    assert_eq!(unsupported.code(), ErrorCode::UnsupportedCompression);
    assert!(matches!(wrong(|batch| batch.base_sequence = 1 << 31), BatchError::BadHeader { .. }));
    assert_eq!(wrong(|batch| batch.payload = None), BatchError::Empty);
    assert!(matches!(
        wrong(|batch| batch.payload = Some(Payload::CompressedRecords(Bytes::new()))),
        BatchError::BadHeader { .. }
    ));
}

#[test]
fn records_whose_offsets_are_not_counted_from_zero_are_refused() {
    let mut batch = valid();
    let Some(Payload::Records(set)) = &mut batch.payload else { panic!("records") };
    set.records[1].offset_delta = 2;
    assert!(matches!(verify(&batch), Err(BatchError::BadRecord { index: 1, .. })));
}

/// T13: with log append time the records keep the producer's timestamps, and the header has the leader's.
#[test]
fn append_time_frees_the_header_from_the_records_timestamps() {
    let mut batch = valid();
    batch.attributes = Attributes::default().with_log_append_time(true).bits();
    batch.max_timestamp = 5;
    assert_eq!(verify(&batch), Ok(false));
    assert!(decode(&batch).unwrap().attributes.is_log_append_time());
}

#[test]
fn a_bomb_is_refused_as_too_large() {
    for compression in Compression::ALL.into_iter().filter(|codec| *codec != Compression::None) {
        let zeros = Plain {
            timestamp_ms: 1,
            key: None,
            value: Some(vec![0; 8 << 20].into()),
            headers: Vec::new(),
        };
        let batch = decode(&typed_batch(&[zeros], compression, true)).unwrap();
        let limits = Limits { max_bytes: 2 << 20, max_ratio: usize::MAX };
        let error = batch.verify(limits).unwrap_err();
        assert_eq!(error, BatchError::Bomb { limit: 2 << 20 });
        assert_eq!(error.code(), ErrorCode::RecordTooLarge);
        assert!(batch.verify(Limits { max_bytes: 9 << 20, ..limits }).unwrap().keyless);
    }
}
