//! A batch that was built on this node, for a leader wherever it is.

use bytes::Bytes;
use troupe_proto::batch::{BatchError, BuiltBatch, ProducedBatch, ProducerStamp, Verified};
use troupe_proto::rope::Rope;

/// As long as it is only tried here it stays as it was built; for a peer it is encoded, once, where it lies.
#[derive(Clone, Debug)]
pub struct Batch {
    content: Content,
    keyless: bool,
    /// Of the records.
    timestamps: (i64, i64),
    payload_crc: u32,
    payload_len: usize,
}

#[derive(Clone, Debug)]
enum Content {
    Built(BuiltBatch),
    /// A serialised `RecordBatch`.
    Wire(Bytes),
}

impl Batch {
    /// `keyless`: some record has no key.
    pub fn new(built: BuiltBatch, keyless: bool) -> Self {
        let (payload_crc, payload_len) = (built.header.payload_crc, built.payload.len());
        let timestamps = (built.min_timestamp, built.header.max_timestamp);
        Self { content: Content::Built(built), keyless, timestamps, payload_crc, payload_len }
    }

    /// Makes it part of that producer's transaction. Not any more when it has gone to a peer.
    pub fn join_transaction(&mut self, stamp: ProducerStamp) {
        debug_assert!(matches!(self.content, Content::Built(_)), "it may be on its way");
        if let Content::Built(BuiltBatch { header, .. }) = &mut self.content {
            header.producer = Some(stamp);
            header.attributes = header.attributes.with_transactional(true);
        }
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        self.payload_len
    }

    /// For a partition of this node. What this node built needs no checking.
    pub fn produced(&self) -> Result<(ProducedBatch, Verified), BatchError> {
        let produced = match &self.content {
            Content::Built(BuiltBatch { header, payload, .. }) => ProducedBatch {
                last_offset_delta: header.last_offset_delta,
                base_timestamp: header.base_timestamp,
                max_timestamp: header.max_timestamp,
                producer: header.producer,
                record_count: header.record_count,
                attributes: header.attributes,
                payload_crc: Some(header.payload_crc),
                payload: Rope::from(payload.clone()),
            },
            Content::Wire(bytes) => ProducedBatch::decode(Rope::from(bytes.clone()))?,
        };
        let (min_timestamp, max_timestamp) = self.timestamps;
        let (payload_crc, keyless) = (self.payload_crc, self.keyless);
        Ok((produced, Verified { payload_crc, keyless, min_timestamp, max_timestamp }))
    }

    /// For a peer.
    pub fn wire(&mut self) -> Bytes {
        let content = std::mem::replace(&mut self.content, Content::Wire(Bytes::new()));
        let bytes = match content {
            Content::Built(built) => built.into_wire(),
            Content::Wire(bytes) => bytes,
        };
        self.content = Content::Wire(bytes.clone());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::{Compression, Limits, RecordSetBuilder};
    use troupe_proto::ids::{ProducerEpoch, ProducerId, Sequence};

    #[test]
    fn a_batch_is_the_same_for_a_peer_and_for_this_node() {
        let mut builder = RecordSetBuilder::new();
        builder.push(5, Some(b"k"), Some(b"v"), &[]);
        builder.push(3, None, None, &[("h", None)]);
        let mut batch = Batch::new(builder.finish(Compression::None, None).unwrap(), true);
        let (built, verified) = batch.produced().unwrap();
        assert_eq!(batch.len(), built.payload.len());
        let sent = ProducedBatch::decode(Rope::from(batch.wire())).unwrap();
        assert_eq!(sent.verify(Limits::default()).unwrap(), verified);
        assert_eq!(batch.wire(), batch.wire());
        let (decoded, again) = batch.produced().unwrap();
        assert_eq!(again, verified);
        for other in [sent, decoded] {
            assert_eq!(other.payload.into_bytes(), built.payload.clone().into_bytes());
            assert_eq!(other.record_count, built.record_count);
            assert_eq!(other.max_timestamp, built.max_timestamp);
        }
    }

    #[test]
    fn a_batch_of_a_transaction_is_one_for_a_peer_and_for_this_node() {
        let mut builder = RecordSetBuilder::new();
        builder.push(5, Some(b"k"), Some(b"v"), &[]);
        let mut batch = Batch::new(builder.finish(Compression::None, None).unwrap(), false);
        let (id, epoch) = (ProducerId(7), ProducerEpoch(3));
        let stamp = ProducerStamp { id, epoch, base_sequence: Sequence(9) };
        batch.join_transaction(stamp);
        let (here, verified) = batch.produced().unwrap();
        let there = ProducedBatch::decode(Rope::from(batch.wire())).unwrap();
        assert_eq!(there.verify(Limits::default()).unwrap(), verified);
        for batch in [here, there, batch.produced().unwrap().0] {
            assert_eq!(batch.producer, Some(stamp));
            assert!(batch.attributes.is_transactional());
        }
    }
}
