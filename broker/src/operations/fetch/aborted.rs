//! What readers of committed records are told of aborted transactions when what was read goes out in pieces.

use crate::partition::AbortedTransaction;
use bytes::Bytes;
use troupe_proto::batch::Batches;

/// Those that have records in these batches. Others must not be among them: of one that has ended before, the reader
/// would wait for the end here.
pub fn of_chunk(aborted: &[AbortedTransaction], batches: &Bytes) -> Vec<AbortedTransaction> {
    if aborted.is_empty() {
        return Vec::new();
    }
    let mut headers =
        Batches::new(batches.clone()).filter_map(Result::ok).map(|(header, _)| header);
    let Some(first) = headers.next() else { return Vec::new() };
    let last = headers.last().unwrap_or(first);
    let overlaps = |it: &&AbortedTransaction| it.overlaps(first.base_offset, last.end_offset());
    aborted.iter().filter(overlaps).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use troupe_proto::batch::{BatchHeader, Compression, RecordSetBuilder};
    use troupe_proto::ids::{Offset, PartitionId, PartitionKey, ProducerId, TopicId};

    fn batches(bases: std::ops::Range<u64>) -> Bytes {
        let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
        let key = PartitionKey { topic_id, partition: PartitionId(0) };
        let mut bytes = BytesMut::new();
        for base in bases {
            let mut records = RecordSetBuilder::new();
            records.push(0, None, Some(b"value"), &[]);
            let built = records.finish(Compression::None, None).unwrap();
            let header = BatchHeader { base_offset: Offset(base), ..built.header };
            bytes.extend_from_slice(&header.encode(&key));
            bytes.extend_from_slice(&built.payload);
        }
        bytes.freeze()
    }

    #[test]
    fn each_piece_has_word_of_its_own_aborted_transactions() {
        let aborted = |first, last| AbortedTransaction {
            producer_id: ProducerId(9),
            first_offset: Offset(first),
            last_offset: Offset(last),
        };
        let all = [aborted(0, 3), aborted(2, 9), aborted(5, 6)];
        assert_eq!(of_chunk(&all, &batches(0..2)), [aborted(0, 3)]);
        assert_eq!(of_chunk(&all, &batches(2..4)), [aborted(0, 3), aborted(2, 9)]);
        assert_eq!(of_chunk(&all, &batches(4..5)), [aborted(2, 9)]);
        assert_eq!(of_chunk(&all, &batches(6..8)), [aborted(2, 9), aborted(5, 6)]);
        assert_eq!(of_chunk(&all, &batches(10..11)), []);
    }
}
