//! Control batches: how a transaction has ended, in the log of each partition that it wrote to (X5).
//!
//! What replicas go by stands in the header, so that replaying headers is enough. The record says the same in Kafka's
//! form, for whoever reads records: key (version, kind) and value (version, coordinator epoch), big-endian.

use super::{BatchError, BatchHeader, BuiltBatch, Compression, ProducerStamp, RecordSetBuilder};
use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};

const COMMIT_BIT: u32 = 1;

/// How a transaction has ended, and in which epoch coordinated who decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub committed: bool,
    /// Of the partition of `__transaction_state`. An older one is fenced.
    pub coordinator_epoch: LeaderEpoch,
}

impl Marker {
    /// As it stands in a header. The epoch has 30 bits.
    pub const fn to_sequence(self) -> Sequence {
        Sequence(self.coordinator_epoch.0 << 1 | self.committed as u32)
    }

    pub const fn from_sequence(sequence: Sequence) -> Marker {
        Marker {
            committed: sequence.0 & COMMIT_BIT != 0,
            coordinator_epoch: LeaderEpoch(sequence.0 >> 1),
        }
    }

    /// The control batch that says so of a producer's transaction.
    ///
    /// # Errors
    /// None: so small a batch can always be built.
    pub fn batch(
        self,
        id: ProducerId,
        epoch: ProducerEpoch,
        timestamp_ms: i64,
    ) -> Result<BuiltBatch, BatchError> {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&u16::from(self.committed).to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.0.to_be_bytes());
        let mut records = RecordSetBuilder::new();
        records.push(timestamp_ms, Some(&key), Some(&value), &[]);
        let stamp = ProducerStamp { id, epoch, base_sequence: self.to_sequence() };
        let mut batch = records.finish(Compression::None, Some(stamp))?;
        let attributes = batch.header.attributes;
        batch.header.attributes = attributes.with_transactional(true).with_control(true);
        Ok(batch)
    }
}

impl BatchHeader {
    /// What a control batch says; `None` of any other.
    pub const fn marker(&self) -> Option<Marker> {
        match self.producer {
            Some(stamp) if self.attributes.is_control() => {
                Some(Marker::from_sequence(stamp.base_sequence))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Limits, RecordSet};
    use crate::ids::{PartitionId, PartitionKey, TopicId};

    /// There are logs that have them, and other software that reads them: Kafka's key and value, and our header.
    #[test]
    fn the_bytes_of_a_marker_are_as_they_were_in_the_first_version() {
        let marker = Marker { committed: true, coordinator_epoch: LeaderEpoch(0x0102) };
        let BuiltBatch { header, payload, .. } =
            marker.batch(ProducerId(5), ProducerEpoch(3), 1_000).unwrap();
        assert_eq!(header.attributes.bits(), 0x30);
        let stamp = header.producer.unwrap();
        assert_eq!((stamp.base_sequence.0, header.record_count), (0x0205, 1));
        let record = [&[0x1a, 4, 0, 0, 0, 1][..], &[0x22, 6, 0, 0, 0, 0, 1, 2]].concat();
        assert!(payload.ends_with(&record), "{payload:02x?}");
    }

    #[test]
    fn header_and_record_say_the_same_of_a_transaction() {
        for (committed, epoch) in [(true, 0), (false, 7), (true, (1 << 30) - 1)] {
            let marker = Marker { committed, coordinator_epoch: LeaderEpoch(epoch) };
            let batch = marker.batch(ProducerId(5), ProducerEpoch(3), 1_000).unwrap();
            assert_eq!(batch.header.marker(), Some(marker));
            let topic_id = TopicId::from_wire(&[7; 16]).unwrap();
            let key = PartitionKey { topic_id, partition: PartitionId(0) };
            let encoded = batch.header.encode(&key);
            assert_eq!(BatchHeader::decode_verified(&encoded, &key), Ok(batch.header));
            let data = BatchHeader { attributes: Default::default(), ..batch.header };
            assert_eq!(data.marker(), None, "a batch of records says nothing");
            let records =
                RecordSet::decode(&batch.header, batch.payload, Limits::default()).unwrap();
            let record = records.iter().next().unwrap().unwrap();
            assert_eq!(record.key, Some(&[0, 0, 0, u8::from(committed)][..]));
            let said = [&[0, 0], &epoch.to_be_bytes()[..]].concat();
            assert_eq!(record.value, Some(&said[..]));
        }
    }
}
