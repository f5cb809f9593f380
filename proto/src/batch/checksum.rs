//! CRC-32C, the only checksum of the format.

use crate::ids::PartitionKey;
use crate::rope::Rope;
use crc_fast::{CrcAlgorithm, Digest};

/// Of one slice.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Of a rope, as if it were joined.
pub(super) fn crc32c_of_rope(rope: &Rope) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for piece in rope.pieces() {
        digest.update(piece);
    }
    digest.finalize() as u32
}

/// Of the batch's identity and its header: all fields but the checksum itself, and the payload's frame.
pub(super) fn header_crc(key: &PartitionKey, fields: &[u8; 71], payload_frame: &[u8; 5]) -> u32 {
    let mut covered = [0; 16 + 4 + 71 + 5];
    covered[..16].copy_from_slice(key.topic_id.as_bytes());
    covered[16..20].copy_from_slice(&key.partition.0.to_le_bytes());
    covered[20..91].copy_from_slice(fields);
    covered[91..].copy_from_slice(payload_frame);
    crc32c(&covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn the_polynomial_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut rope = Rope::new();
        rope.push(Bytes::from_static(b"1234"));
        rope.push(Bytes::from_static(b"56789"));
        assert_eq!(crc32c_of_rope(&rope), 0xe306_9283);
        assert_eq!(crc32c_of_rope(&Rope::new()), crc32c(b""));
    }
}
