//! A slice of a segment file. Headers that are accepted encode back to the bytes they came from.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use troupe_proto::batch::{BatchHeader, Batches, FRAME_LEN, Limits, OVERHEAD, RecordSet};
use troupe_proto::ids::{PartitionId, PartitionKey, TopicId};

/// Where the header checksum stands; the input cannot guess it.
const CHECKSUM: std::ops::Range<usize> = FRAME_LEN + 72..FRAME_LEN + 76;
const LIMITS: Limits = Limits { max_bytes: 4 << 20, max_ratio: 1000 };

fuzz_target!(|input: &[u8]| {
    let key = PartitionKey { topic_id: TopicId(uuid::Uuid::nil()), partition: PartitionId(0) };
    let _ = BatchHeader::decode_verified(input, &key);
    let mut walk = Batches::new(Bytes::copy_from_slice(input));
    loop {
        let start = walk.position();
        let Some(Ok((header, payload))) = walk.next() else { return };
        let mut stored = input[start..start + OVERHEAD].to_vec();
        let mut encoded = header.encode(&key);
        stored[CHECKSUM].fill(0);
        encoded[CHECKSUM].fill(0);
        assert_eq!(stored, encoded);
        assert!(header.end_offset() > header.base_offset);
        // Let the checksum match, so that the records are read.
        let header = BatchHeader { payload_crc: crc_fast::crc32_iscsi(&payload), ..header };
        if let Ok(set) = RecordSet::decode(&header, payload, LIMITS) {
            set.iter().count();
        }
    }
});
