//! A record set, unpacked or not: borrowed and owned walks agree, and never leave the payload.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use troupe_proto::batch::{Attributes, BatchHeader, Compression, Limits, RecordSet};
use troupe_proto::ids::{LeaderEpoch, Offset};

const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_ratio: 1000 };

fuzz_target!(|input: &[u8]| {
    let Some((&[codec, count], content)) = input.split_first_chunk::<2>() else { return };
    let compression = Compression::ALL[usize::from(codec) % Compression::ALL.len()];
    let payload = Bytes::copy_from_slice(content);
    let header = BatchHeader {
        base_offset: Offset(1),
        leader_epoch: LeaderEpoch(0),
        last_offset_delta: u32::from(count),
        base_timestamp: 0,
        max_timestamp: 0,
        producer: None,
        record_count: u32::from(count),
        attributes: Attributes::default().with_compression(compression),
        payload_crc: crc_fast::crc32_iscsi(&payload),
        payload_len: payload.len() as u32,
    };
    let Ok(set) = RecordSet::decode(&header, payload, LIMITS) else { return };
    assert!(set.payload().len() <= LIMITS.max_bytes.max(content.len()));
    for (borrowed, owned) in set.iter().zip(set.records()) {
        match (borrowed, owned) {
            (Ok(borrowed), Ok(owned)) => {
                assert_eq!(borrowed.offset, owned.offset);
                assert_eq!(borrowed.value, owned.value.as_deref());
                assert_eq!(borrowed.headers().count(), owned.headers.len());
            }
            (borrowed, owned) => assert_eq!(borrowed.err(), owned.err()),
        }
    }
});
