//! What stands in a file and in a fetch.

use super::*;
use prost::Message;
use troupe_proto::batch::{
    BatchError, BatchHeader, Batches, FRAME_LEN, Limits, OVERHEAD, Record, RecordSet,
};
use troupe_proto::ids::{LeaderEpoch, Offset};
use typed::record_batch::Payload;

pub struct Stored {
    pub bytes: Bytes,
    pub headers: Vec<BatchHeader>,
    /// Where each batch starts, and the end.
    pub starts: Vec<usize>,
}

/// Appends as a leader does.
pub fn store(batches: Vec<BuiltBatch>, first: Offset) -> Stored {
    let mut stored = Stored { bytes: Bytes::new(), headers: Vec::new(), starts: vec![0] };
    let mut file = Vec::new();
    let mut end = first;
    for (index, built) in batches.into_iter().enumerate() {
        let header = BatchHeader {
            base_offset: end,
            leader_epoch: LeaderEpoch(index as u32),
            ..built.header
        };
        end = header.end_offset();
        file.extend(header.encode(&partition_key()));
        file.extend(&built.payload);
        assert_eq!(file.len(), stored.starts[index] + header.encoded_len());
        stored.headers.push(header);
        stored.starts.push(file.len());
    }
    stored.bytes = file.into();
    stored
}

pub fn batches() -> impl Strategy<Value = Vec<(Vec<Plain>, BuiltBatch)>> {
    let batch =
        (plain_records(), compression(), producer()).prop_map(|(records, codec, producer)| {
            let built = build(&records, codec, producer);
            (records, built)
        });
    prop::collection::vec(batch, 1..5)
}

fn expected_records(records: &[Plain], base: Offset) -> Vec<Record> {
    let expected = |(index, record): (usize, &Plain)| Record {
        offset: base.plus(index as u64),
        timestamp_ms: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    };
    records.iter().enumerate().map(expected).collect()
}

fn headers() -> impl Strategy<Value = BatchHeader> {
    let numbers = (0..1u64 << 62, any::<u32>(), any::<u32>(), any::<i64>(), any::<i64>());
    (
        numbers,
        producer(),
        any::<prop::sample::Index>(),
        0..5u32,
        0..16u32,
        any::<u32>(),
        0..1u32 << 28,
    )
        .prop_map(|(numbers, producer, count, codec, flags, payload_crc, payload_len)| {
            let (base_offset, leader_epoch, last_offset_delta, base_timestamp, max_timestamp) =
                numbers;
            BatchHeader {
                base_offset: Offset(base_offset),
                leader_epoch: LeaderEpoch(leader_epoch),
                last_offset_delta,
                base_timestamp,
                max_timestamp,
                producer,
                record_count: count.index(last_offset_delta as usize + 1) as u32,
                attributes: troupe_proto::batch::Attributes::from_bits(codec | flags << 3).unwrap(),
                payload_crc,
                payload_len: payload_len.min(troupe_proto::batch::MAX_PAYLOAD as u32),
            }
        })
}

proptest! {
    #[test]
    fn a_header_reads_back_and_stands_where_the_format_says(header in headers()) {
        let encoded = header.encode(&partition_key());
        prop_assert_eq!(BatchHeader::decode_verified(&encoded, &partition_key()), Ok(header));
        prop_assert_eq!(encoded[FRAME_LEN + 1..][..8].to_vec(), header.base_offset.0.to_le_bytes());
        prop_assert_eq!(encoded[FRAME_LEN + 57..][..4].to_vec(), header.record_count.to_le_bytes());
        prop_assert_eq!(header.end_offset(), header.last_offset().plus(1));
        let elsewhere = PartitionKey { partition: PartitionId(4), ..partition_key() };
        let misplaced = BatchHeader::decode_verified(&encoded, &elsewhere);
        prop_assert!(matches!(misplaced, Err(BatchError::HeaderChecksum { .. })), "{:?}", misplaced);
        let short = BatchHeader::decode(&encoded[..OVERHEAD - 1]);
        prop_assert_eq!(short, Err(BatchError::Truncated));
    }

    #[test]
    fn any_run_of_whole_batches_is_a_message(made in batches(), base in 0..1u64 << 40, from in any::<prop::sample::Index>(), to in any::<prop::sample::Index>()) {
        let (records, built): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let stored = store(built, Offset(base));
        let (a, b) = (from.index(records.len() + 1), to.index(records.len() + 1));
        let (a, b) = (a.min(b), a.max(b));
        let run = stored.bytes.slice(stored.starts[a]..stored.starts[b]);
        let message = typed::RecordBatches::decode(run.clone()).unwrap();
        prop_assert_eq!(message.batches.len(), b - a);
        for (batch, (header, records)) in message.batches.iter().zip(stored.headers[a..b].iter().zip(&records[a..b])) {
            prop_assert_eq!(batch.base_offset, header.base_offset.0);
            prop_assert_eq!(batch.leader_epoch, header.leader_epoch.0);
            prop_assert_eq!(batch.last_offset_delta, header.last_offset_delta);
            prop_assert_eq!(batch.base_timestamp, header.base_timestamp);
            prop_assert_eq!(batch.max_timestamp, header.max_timestamp);
            prop_assert_eq!(batch.producer_id, header.producer.map_or(0, |stamp| stamp.id.0));
            prop_assert_eq!(batch.record_count, header.record_count);
            prop_assert_eq!(batch.attributes, header.attributes.bits());
            prop_assert_eq!(batch.payload_crc, header.payload_crc);
            prop_assert!(!batch.payload_crc_present);
            let set = match batch.payload.clone().unwrap() {
                Payload::Records(set) => set,
                Payload::CompressedRecords(packed) => {
                    let unpacked = header.attributes.compression().decompress(&packed, Limits::default()).unwrap();
                    typed::RecordSet::decode(unpacked).unwrap()
                }
            };
            prop_assert_eq!(set, typed_set(records));
        }
    }

    #[test]
    fn records_read_back_borrowed_and_owned(made in batches(), base in 0..1u64 << 40) {
        let (records, built): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let stored = store(built, Offset(base));
        let mut walk = Batches::verified(stored.bytes.clone(), partition_key());
        for (index, records) in records.iter().enumerate() {
            prop_assert_eq!(walk.position(), stored.starts[index]);
            let (header, payload) = walk.next().unwrap().unwrap();
            prop_assert_eq!(header, stored.headers[index]);
            let set = RecordSet::decode(&header, payload, Limits::default()).unwrap();
            let expected = expected_records(records, header.base_offset);
            let owned: Vec<Record> = set.records().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(&owned, &expected);
            prop_assert_eq!(set.iter().count(), expected.len());
            for (record, expected) in set.iter().map(Result::unwrap).zip(&expected) {
                prop_assert_eq!(record.offset, expected.offset);
                prop_assert_eq!(record.timestamp_ms, expected.timestamp_ms);
                prop_assert_eq!(record.key, expected.key.as_deref());
                prop_assert_eq!(record.value, expected.value.as_deref());
                prop_assert_eq!(record.headers().collect::<Vec<_>>(), borrowed(&expected.headers));
            }
        }
        prop_assert!(walk.next().is_none());
        prop_assert_eq!(walk.position(), stored.bytes.len());
    }

    #[test]
    fn a_slice_that_ends_within_a_batch_yields_the_whole_ones_and_then_says_so(made in batches(), end in any::<prop::sample::Index>()) {
        let stored = store(made.into_iter().map(|(_, built)| built).collect(), Offset(9));
        let end = end.index(stored.bytes.len());
        let whole = stored.starts.iter().skip(1).filter(|start| **start <= end).count();
        let mut walk = Batches::new(stored.bytes.slice(..end));
        for header in &stored.headers[..whole] {
            prop_assert_eq!(&walk.next().unwrap().unwrap().0, header);
        }
        if end > stored.starts[whole] {
            prop_assert_eq!(walk.next(), Some(Err(BatchError::Truncated)));
        }
        prop_assert_eq!(walk.next(), None);
        prop_assert_eq!(walk.position(), stored.starts[whole]);
    }

    #[test]
    fn every_flipped_bit_is_found(made in batches(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let stored = store(made.into_iter().map(|(_, built)| built).collect(), Offset(9));
        let mut rotten = stored.bytes.to_vec();
        let at = at.index(rotten.len());
        rotten[at] ^= 1u8 << bit;
        let hit = stored.starts.iter().skip(1).filter(|start| **start <= at).count();
        let mut found = None;
        for (index, batch) in Batches::verified(rotten.into(), partition_key()).enumerate() {
            let intact = batch.and_then(|(header, payload)| RecordSet::decode(&header, payload, Limits::default()));
            if intact.is_err() {
                found = Some(index);
                break;
            }
        }
        prop_assert_eq!(found, Some(hit));
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_found() {
    let records = [Plain { timestamp_ms: 3, key: None, value: None, headers: Vec::new() }];
    for compression in [Compression::None, Compression::Zstd] {
        let stored = store(vec![build(&records, compression, None)], Offset(5));
        for bit in 0..OVERHEAD * 8 {
            let mut rotten = stored.bytes.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(BatchHeader::decode_verified(&rotten, &partition_key()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn lengths_take_four_bytes_whatever_they_are() {
    for len in [0, 1, 300, 70_000] {
        let mut builder = RecordSetBuilder::new();
        builder.push(1, None, Some(&vec![1; len]), &[]);
        let stored = store(vec![builder.finish(Compression::None, None).unwrap()], Offset(0));
        assert_eq!(
            stored.bytes[..5].iter().map(|byte| byte >> 7).collect::<Vec<_>>(),
            [0, 1, 1, 1, 0]
        );
        assert_eq!(stored.bytes[FRAME_LEN + 76], 0x7A);
        let frame = stored.bytes[FRAME_LEN + 77..][..4].iter().map(|byte| byte >> 7);
        assert_eq!(frame.collect::<Vec<_>>(), [1, 1, 1, 0]);
        assert_eq!(typed::RecordBatches::decode(stored.bytes).unwrap().batches.len(), 1);
    }
}

/// T13.
#[test]
fn with_append_time_every_record_has_the_batchs_timestamp() {
    let records = [10, 20].map(|timestamp_ms| Plain {
        timestamp_ms,
        key: None,
        value: None,
        headers: Vec::new(),
    });
    let mut built = build(&records, Compression::None, None);
    built.header.attributes = built.header.attributes.with_log_append_time(true);
    built.header.max_timestamp = 99;
    let set = RecordSet::decode(&built.header, built.payload, Limits::default()).unwrap();
    assert!(set.iter().all(|record| record.unwrap().timestamp_ms == 99));
}

/// T11: compaction leaves gaps; the range of offsets and the order stay.
#[test]
fn gaps_within_the_range_are_read_and_disorder_is_refused() {
    let read = |deltas: &[u32]| {
        let records =
            deltas.iter().map(|delta| typed::Record { offset_delta: *delta, ..Default::default() });
        let payload = Bytes::from(typed::RecordSet { records: records.collect() }.encode_to_vec());
        let records = [Plain { timestamp_ms: 0, key: None, value: None, headers: Vec::new() }];
        let header = BatchHeader {
            base_offset: Offset(100),
            last_offset_delta: 9,
            record_count: 2,
            payload_crc: crc_fast::crc32_iscsi(&payload),
            ..build(&records, Compression::None, None).header
        };
        let set = RecordSet::decode(&header, payload, Limits::default()).unwrap();
        let offsets = set.iter().map(|record| record.map(|record| record.offset.0));
        offsets.collect::<Result<Vec<_>, _>>()
    };
    assert_eq!(read(&[2, 9]), Ok(vec![102, 109]));
    assert!(matches!(read(&[9, 2]), Err(BatchError::BadRecord { index: 1, .. })));
    assert!(matches!(read(&[2, 2]), Err(BatchError::BadRecord { index: 1, .. })));
    assert!(matches!(read(&[2, 10]), Err(BatchError::BadRecord { index: 1, .. })));
    assert_eq!(read(&[2]), Err(BatchError::CountMismatch { declared: 2, found: 1 }));
    assert_eq!(read(&[2, 3, 4]), Err(BatchError::CountMismatch { declared: 2, found: 3 }));
}

/// I2.
#[test]
fn the_last_sequence_wraps() {
    let stamp = ProducerStamp {
        id: ProducerId(1),
        epoch: ProducerEpoch(0),
        base_sequence: Sequence(Sequence::MODULUS - 2),
    };
    assert_eq!(stamp.last_sequence(1), Sequence(Sequence::MODULUS - 2));
    assert_eq!(stamp.last_sequence(4), Sequence(1));
}

proptest! {
    /// S22, S23: offsets and timestamps of what stays, also for whoever does not know of delete horizons.
    #[test]
    fn what_compaction_leaves_reads_as_it_did(
        made in batches(),
        stays in prop::collection::vec(any::<bool>(), 64),
        horizon in prop::option::of(prop_oneof![any::<i64>(), 0..1i64 << 42]),
    ) {
        let mut compactor = troupe_proto::batch::Compactor::default();
        for (_, built) in made {
            let header = built.header;
            let before = RecordSet::decode(&header, built.payload, Limits::default()).unwrap();
            let all: Vec<Record> = before.records().map(Result::unwrap).collect();
            let mut answers = stays.iter().cycle();
            let expected: Vec<Record> =
                all.iter().filter(|_| *answers.next().unwrap()).cloned().collect();
            let mut answers = stays.iter().cycle();
            let selected = compactor
                .select(&header, before.payload(), |_| *answers.next().unwrap())
                .unwrap();
            prop_assert_eq!(selected.kept as usize, expected.len());
            prop_assert_eq!((selected.kept + selected.gone) as usize, all.len());
            let (left, payload) =
                compactor.rewrite(&header, before.payload(), &selected, horizon).unwrap();
            let payload = Bytes::copy_from_slice(payload);
            prop_assert_eq!(left.payload_len as usize, payload.len());
            let encoded = left.encode(&partition_key());
            prop_assert_eq!(BatchHeader::decode_verified(&encoded, &partition_key()), Ok(left));
            let typed = [&encoded[..], &payload[..]].concat();
            typed::RecordBatches::decode(&typed[..]).unwrap();
            let after = RecordSet::decode(&left, payload, Limits::default()).unwrap();
            let found: Vec<Record> = after.records().map(Result::unwrap).collect();
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(left.last_offset(), header.last_offset());
            prop_assert_eq!(left.producer, header.producer);
            let largest = expected.iter().map(|record| record.timestamp_ms).max();
            prop_assert_eq!(left.max_timestamp, largest.unwrap_or(header.max_timestamp));
            if !expected.is_empty() {
                let compression = header.attributes.compression();
                prop_assert_eq!(left.attributes.compression(), compression);
                prop_assert_eq!(left.delete_horizon_ms(), horizon);
            }
        }
    }
}

#[test]
fn a_delete_horizon_is_the_cleaners_to_set() {
    let records = [Plain { timestamp_ms: 3, key: None, value: None, headers: Vec::new() }];
    let mut built = build(&records, Compression::None, None);
    built.header.attributes = built.header.attributes.with_delete_horizon(true);
    assert_eq!(built.header.delete_horizon_ms(), Some(3));
    let wire = troupe_proto::rope::Rope::from(built.into_wire());
    let refused = troupe_proto::batch::ProducedBatch::decode(wire).unwrap_err();
    assert!(matches!(refused, BatchError::BadHeader { .. }), "{refused}");
    assert!(refused.to_string().contains("bit 6"), "{refused}");
}
