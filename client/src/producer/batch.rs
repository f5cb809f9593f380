//! One batch on its way: from the first record that opens it to its answer.

use super::delivery::{Completion, Outcome};
use super::sequences::Stamp;
use crate::error::ClientError;
use crate::metadata::Leadership;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;
use troupe_proto::batch::{
    BatchError, BatchHeader, Limits, OVERHEAD, Packing, ProducedBatch, ProducerStamp, RecordSet,
    RecordSetBuilder,
};
use troupe_proto::rope::Rope;

/// Where a batch stands.
#[derive(Debug)]
pub(crate) enum Status {
    Waiting,
    InFlight,
    /// Answered or given up, and waiting for the batches before it: callbacks run in order (P11).
    Settled(Outcome),
}

/// What a batch holds.
pub(crate) enum Content {
    /// Takes records.
    Open(RecordSetBuilder),
    Closed(RecordSetBuilder),
    /// With the sender, which encodes it outside of the lock.
    Out,
    /// As it was sent, in case it has to be sent again.
    Encoded(Encoded),
}

/// A batch in the form that goes over the wire.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub header: BatchHeader,
    pub wire: Bytes,
}

pub(crate) struct Batch {
    pub id: u64,
    /// 0 without transactions. Those of a queue stand in order.
    pub transaction: u64,
    pub created: Instant,
    pub content: Content,
    /// Position of the first record in the completion: not 0 for the later pieces of a split (P20).
    pub first: u32,
    pub records: u32,
    /// Buffer memory that is held until the batch is answered.
    pub reserved: usize,
    pub completion: Arc<Completion>,
    pub status: Status,
    pub stamp: Option<Stamp>,
    pub attempts: u32,
    /// Where it was sent last, and how often it failed there.
    pub sent_to: Option<Leadership>,
    pub failures: u32,
    /// It was sent at least once and no answer said that it surely was not appended.
    pub maybe_done: bool,
    /// Why it was not appended so far.
    pub last_error: Option<ClientError>,
}

impl Batch {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.status, Status::Waiting)
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.status, Status::InFlight)
    }

    /// 0: behind none, and so is what is in no transaction.
    pub(crate) fn is_behind(&self, transaction: u64) -> bool {
        transaction == 0 || self.transaction > transaction
    }

    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.status, Status::Settled(_))
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.content, Content::Open(_))
    }

    /// No more records from here on.
    pub(crate) fn close(&mut self) {
        if let Content::Open(builder) = &mut self.content {
            self.content = Content::Closed(std::mem::take(builder));
        }
    }
}

impl Encoded {
    /// The records as a batch on the wire.
    pub(crate) fn new(
        builder: RecordSetBuilder,
        packing: impl Into<Packing>,
        producer: Option<ProducerStamp>,
        transactional: bool,
    ) -> Result<Encoded, BatchError> {
        let mut built = builder.finish(packing, producer)?;
        built.header.attributes = built.header.attributes.with_transactional(transactional);
        Ok(Encoded { header: built.header, wire: built.into_wire() })
    }

    /// The same records in up to `pieces` builders of about the same size; none is empty.
    pub(crate) fn rebuild(&self, pieces: usize) -> Result<Vec<RecordSetBuilder>, BatchError> {
        let mut rope = Rope::new();
        rope.push(self.wire.clone());
        let payload = ProducedBatch::decode(rope)?.payload.into_bytes();
        // Its own records, which were under the limits uncompressed.
        let limits = Limits { max_bytes: 1 << 30, max_ratio: usize::MAX };
        let set = RecordSet::decode(&self.header, payload, limits)?;
        let share = set.payload().len() / pieces + 1;
        let mut builders = vec![RecordSetBuilder::new()];
        for record in set.iter() {
            let record = record?;
            let headers: Vec<_> = record.headers().collect();
            let started = builders.len();
            let builder = &mut builders[started - 1];
            let len =
                builder.encoded_len_of(record.timestamp_ms, record.key, record.value, &headers);
            let full = !builder.is_empty() && builder.len() + len > share && started < pieces;
            if full {
                builders.push(RecordSetBuilder::new());
            }
            let builder = builders.last_mut().expect("there is always one");
            builder.push(record.timestamp_ms, record.key, record.value, &headers);
        }
        Ok(builders)
    }
}

/// Bytes that a batch takes in the log with records of `payload_len` bytes, uncompressed.
pub(crate) const fn batch_len(payload_len: usize) -> usize {
    OVERHEAD + payload_len
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_proto::batch::Compression;

    fn records(builder: RecordSetBuilder) -> Vec<(i64, Option<Bytes>)> {
        let built = builder.finish(Compression::None, None).unwrap();
        let set = RecordSet::decode(&built.header, built.payload, Limits::default()).unwrap();
        set.records().map(|record| record.unwrap()).map(|r| (r.timestamp_ms, r.value)).collect()
    }

    /// P20.
    #[test]
    fn a_split_keeps_every_record_in_order() {
        for compression in [Compression::None, Compression::Zstd] {
            let mut builder = RecordSetBuilder::new();
            for n in 0..9i64 {
                let value = vec![n as u8; 100];
                builder.push(50 + n, Some(b"k"), Some(&value), &[("h", None)]);
            }
            let encoded = Encoded::new(builder.clone(), compression, None, false).unwrap();
            let pieces = encoded.rebuild(2).unwrap();
            assert_eq!(pieces.len(), 2);
            assert_eq!(pieces[0].count(), 4);
            let rejoined = pieces.into_iter().flat_map(records).collect::<Vec<_>>();
            assert_eq!(rejoined, records(builder));
        }
    }

    #[test]
    fn two_records_always_split_however_uneven() {
        for (first, second) in [(1, 10_000), (10_000, 1), (0, 0)] {
            let mut builder = RecordSetBuilder::new();
            for len in [first, second] {
                builder.push(0, None, Some(&vec![0; len]), &[]);
            }
            let encoded = Encoded::new(builder, Compression::None, None, false).unwrap();
            let counts = encoded.rebuild(2).unwrap().iter().map(|b| b.count()).collect::<Vec<_>>();
            assert_eq!(counts, [1, 1]);
        }
    }
}
