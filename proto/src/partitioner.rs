//! Which partition a key belongs to: the same everywhere, or order per key is lost.

use crate::ids::PartitionId;

const SEED: u32 = 0x9747_b28c;
const MULTIPLIER: u32 = 0x5bd1_e995;
const SHIFT: u32 = 24;

/// 32-bit murmur2 as Kafka's clients compute it (T24).
pub fn murmur2(bytes: &[u8]) -> u32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        let mut k = u32::from_le_bytes(*block).wrapping_mul(MULTIPLIER);
        k ^= k >> SHIFT;
        hash = hash.wrapping_mul(MULTIPLIER) ^ k.wrapping_mul(MULTIPLIER);
    }
    for (index, byte) in tail.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !tail.is_empty() {
        hash = hash.wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

/// The partition of a record that has a key, over all of the topic's partitions (T23).
///
/// # Panics
/// If there are no partitions.
pub fn partition_of_key(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T24.
    #[test]
    fn murmur2_agrees_with_kafka() {
        for (key, hash) in [
            ("", 275_646_681),
            ("a", -1_563_381_124),
            ("abc", 479_470_107),
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("key1", 28_543_940),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
        assert_eq!(partition_of_key(b"key1", 3), PartitionId(2));
        assert_eq!(partition_of_key(b"key1", 4), PartitionId(0));
    }
}
