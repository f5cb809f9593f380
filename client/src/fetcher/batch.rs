//! What was read: batches, and the records in them.

use crate::error::ClientError;
use crate::topic_partition::TopicPartition;
use bytes::Bytes;
use std::sync::Arc;
use troupe_proto::batch::{BatchHeader, RecordRef, RecordSet};
use troupe_proto::ids::{LeaderEpoch, Offset, PartitionId};

/// A batch as it was appended, unpacked, its checksum checked.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    pub partition: PartitionId,
    pub header: BatchHeader,
    /// Of the partition, when the batch was pushed.
    pub high_watermark: Offset,
    pub(super) topic: Arc<str>,
    /// Records before this one were not asked for: a batch comes whole.
    pub(crate) wanted: Offset,
    pub(super) records: RecordSet,
}

/// A record on its own. Key and value are slices of the batch, which they keep alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    pub topic: Arc<str>,
    pub partition: PartitionId,
    pub offset: Offset,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// None is no key; empty is an empty key.
    pub key: Option<Bytes>,
    /// None is a tombstone; empty is an empty value.
    pub value: Option<Bytes>,
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Of the leader that took the record.
    pub leader_epoch: LeaderEpoch,
}

impl ConsumerRecord {
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

impl FetchedBatch {
    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// Where reading goes on: that of the first record that was asked for, or of one before it that is not there.
    pub fn position(&self) -> Offset {
        self.wanted.max(self.header.base_offset)
    }

    pub(crate) fn is_of(&self, at: &TopicPartition) -> bool {
        self.partition == at.partition && self.topic == at.topic
    }

    /// Bytes that it takes in the log.
    pub fn encoded_len(&self) -> usize {
        self.header.encoded_len()
    }

    /// The records from the offset asked for on, borrowed: nothing is copied or allocated.
    pub fn iter(&self) -> impl Iterator<Item = Result<RecordRef<'_>, ClientError>> {
        let wanted = self.wanted;
        self.records.iter().filter_map(move |record| match record {
            Ok(record) if record.offset < wanted => None,
            Ok(record) => Some(Ok(record)),
            Err(cause) => Some(Err(self.corrupt(cause))),
        })
    }

    /// The same records, each on its own.
    pub fn records(&self) -> impl Iterator<Item = Result<ConsumerRecord, ClientError>> + use<> {
        let this = self.clone();
        self.records.records().filter_map(move |record| match record {
            Ok(record) if record.offset < this.wanted => None,
            Ok(record) => Some(Ok(ConsumerRecord {
                topic: this.topic.clone(),
                partition: this.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
                leader_epoch: this.header.leader_epoch,
            })),
            Err(cause) => Some(Err(this.corrupt(cause))),
        })
    }

    fn corrupt(&self, cause: troupe_proto::batch::BatchError) -> ClientError {
        ClientError::Corrupt {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset: self.header.base_offset,
            cause,
        }
    }
}
