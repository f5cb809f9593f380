//! Bytes that nobody should have sent.

use super::*;
use crate::stored::{batches, store};
use prost::Message;
use troupe_proto::batch::{BatchHeader, Batches, Limits, ProducedBatch, RecordSet};
use troupe_proto::ids::{LeaderEpoch, Offset};

const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_ratio: 1000 };

/// Reads everything that can be read.
fn read_all(bytes: &Bytes) {
    let _ = BatchHeader::decode(bytes);
    let _ = BatchHeader::decode_verified(bytes, &partition_key());
    for (header, payload) in Batches::new(bytes.clone()).flatten() {
        let _ = (header.last_offset(), header.end_offset(), header.encoded_len());
        let _ = read_set(&header, payload);
    }
    let _ = ProducedBatch::decode(bytes.clone().into()).map(|produced| produced.verify(LIMITS));
}

/// The checksum is made to match, so that the records themselves are read.
fn read_set(
    header: &BatchHeader,
    payload: Bytes,
) -> Result<usize, troupe_proto::batch::BatchError> {
    let header = BatchHeader { payload_crc: crc_fast::crc32_iscsi(&payload), ..*header };
    let set = RecordSet::decode(&header, payload, LIMITS)?;
    for record in set.iter().flatten() {
        record.headers().count();
    }
    set.records().try_fold(0, |count, record| record.map(|_| count + 1))
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
}

fn damaged(bytes: &[u8], damage: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, byte) in damage {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn bytes_at_random_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes.into());
    }

    #[test]
    fn damaged_batches_never_panic(made in batches(), damage in damage()) {
        let stored = store(made.into_iter().map(|(_, built)| built).collect(), Offset(1));
        read_all(&damaged(&stored.bytes, &damage).into());
        let body = &stored.bytes[troupe_proto::batch::FRAME_LEN..stored.starts[1]];
        read_all(&damaged(body, &damage).into());
    }

    /// The promise of `verify`: whoever reads the batch later can.
    #[test]
    fn what_passes_verification_is_read_alike_by_the_generated_code_and_by_the_walk(
        records in plain_records(), damage in damage(), cuts in cuts(),
    ) {
        let built = build(&records, Compression::None, None);
        let payload = damaged(&built.payload, &damage);
        let mut message = built.header.encode(&partition_key())[5..].to_vec();
        message[66..71].fill(0);
        message[66] = 0x5D;
        message.extend(&payload);
        let produced = ProducedBatch::decode(cut(&message, &cuts)).unwrap();
        let verdict = produced.verify(LIMITS);
        let joined = ProducedBatch::decode(Bytes::from(message).into()).unwrap();
        prop_assert_eq!(&verdict, &joined.verify(LIMITS));
        if let Ok(verified) = verdict {
            let set = typed::RecordSet::decode(&payload[..]).unwrap();
            prop_assert_eq!(set.records.len(), produced.record_count as usize);
            let header = produced.header(Offset(5), LeaderEpoch(1), verified.payload_crc);
            let walked = RecordSet::decode(&header, payload.into(), LIMITS).unwrap();
            let owned = walked.records().collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert_eq!(owned.len(), set.records.len());
            for (record, message) in owned.into_iter().zip(set.records) {
                prop_assert_eq!(record.offset.0, 5 + u64::from(message.offset_delta));
                prop_assert_eq!(record.timestamp_ms, header.base_timestamp.wrapping_add(message.timestamp_delta));
                prop_assert_eq!(record.key, message.key);
                prop_assert_eq!(record.value, message.value);
                let headers = message.headers.into_iter().map(|header| (header.key, header.value));
                prop_assert_eq!(record.headers, headers.collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn a_record_that_claims_to_be_huge_is_refused_without_room_for_it() {
    for claim in [&b"\x0a\xff\xff\xff\xff\x0f"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]
    {
        for cut_at in 0..claim.len() {
            let mut payload = Rope::new();
            payload.push(Bytes::copy_from_slice(&claim[..cut_at]));
            payload.push(Bytes::copy_from_slice(&claim[cut_at..]));
            let built = build(
                &[Plain { timestamp_ms: 0, key: None, value: None, headers: Vec::new() }],
                Compression::None,
                None,
            );
            let produced = ProducedBatch::decode(built.into_wire().into()).unwrap();
            let lying = ProducedBatch { payload, payload_crc: None, ..produced };
            assert!(lying.verify(LIMITS).is_err());
        }
    }
}
