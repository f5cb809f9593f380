//! Cuts a slice of canonical batches at batch boundaries, looking at nothing but their lengths.

use super::{FRAME_LEN, wire::Reader};
use bytes::Bytes;

/// Pieces of whole batches of at most `max_bytes`, in order; a larger batch is a piece of its own. What does
/// not look like a batch stays together with all that follows: whoever reads it finds out.
pub fn chunks(batches: Bytes, max_bytes: usize) -> impl Iterator<Item = Bytes> {
    let mut rest = batches;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut taken = 0;
        while taken < rest.len() {
            let Some(len) = frame_len(&rest[taken..]).filter(|len| taken + len <= rest.len())
            else {
                taken = rest.len();
                break;
            };
            if taken > 0 && taken + len > max_bytes {
                break;
            }
            taken += len;
        }
        Some(rest.split_to(taken))
    })
}

/// Bytes of the batch that begins here, with its frame.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let frame = bytes.get(1..FRAME_LEN)?;
    let len = Reader::new(frame).varint().ok()?;
    usize::try_from(len).ok()?.checked_add(FRAME_LEN)
}

#[cfg(test)]
mod tests {
    use super::super::{BatchHeader, Compression, RecordSetBuilder};
    use super::*;
    use crate::ids::{PartitionId, PartitionKey, TopicId};
    use proptest::prelude::*;

    fn batch(value_len: usize) -> Vec<u8> {
        let key = PartitionKey { topic_id: TopicId::random(), partition: PartitionId(0) };
        let mut builder = RecordSetBuilder::new();
        builder.push(0, None, Some(&vec![7; value_len]), &[]);
        let built = builder.finish(Compression::None, None).unwrap();
        let mut bytes = built.header.encode(&key).to_vec();
        bytes.extend_from_slice(&built.payload);
        bytes
    }

    proptest! {
        #[test]
        fn chunks_are_whole_batches_and_together_what_they_were(
            lens in prop::collection::vec(0usize..400, 1..20),
            max_bytes in 1usize..1500,
        ) {
            let bytes: Bytes = lens.iter().flat_map(|len| batch(*len)).collect::<Vec<u8>>().into();
            let mut joined = Vec::new();
            for chunk in chunks(bytes.clone(), max_bytes) {
                let mut headers = Vec::new();
                let mut at = 0;
                while at < chunk.len() {
                    let header = BatchHeader::decode(&chunk[at..]).unwrap().0;
                    at += header.encoded_len();
                    headers.push(header);
                }
                prop_assert_eq!(at, chunk.len());
                prop_assert!(chunk.len() <= max_bytes || headers.len() == 1);
                joined.extend_from_slice(&chunk);
            }
            prop_assert_eq!(joined, bytes.to_vec());
        }

        #[test]
        fn any_bytes_come_out_as_they_went_in(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            max_bytes in 1usize..300,
        ) {
            let joined: Vec<u8> = chunks(bytes.clone().into(), max_bytes).flatten().collect();
            prop_assert_eq!(joined, bytes);
        }
    }
}
