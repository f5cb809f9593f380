//! What one poll returned.

use super::assigned::{OffsetAndMetadata, Offsets};
use crate::fetcher::ConsumerRecord;
use crate::topic_partition::TopicPartition;
use std::collections::{BTreeMap, BTreeSet};

/// Records of some partitions: in order for each, one partition's batch after another's (C23).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerRecords {
    records: Vec<ConsumerRecord>,
    next_offsets: Offsets,
}

impl ConsumerRecords {
    pub(super) fn new(records: Vec<ConsumerRecord>, next_offsets: Offsets) -> Self {
        Self { records, next_offsets }
    }

    /// What to commit when all of these are processed (KIP-1094): where reading goes on, of each partition that has moved.
    /// Behind a transaction that is behind its marker too, so that nothing is left to be read; one more than the last
    /// record's offset would be one short of it.
    pub fn next_offsets(&self) -> &BTreeMap<TopicPartition, OffsetAndMetadata> {
        &self.next_offsets
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, ConsumerRecord> {
        self.records.iter()
    }

    /// Those of one partition.
    pub fn of<'a>(&'a self, at: &'a TopicPartition) -> impl Iterator<Item = &'a ConsumerRecord> {
        let is_of =
            |record: &&ConsumerRecord| record.partition == at.partition && record.topic == at.topic;
        self.records.iter().filter(is_of)
    }

    /// The partitions that there are records of.
    pub fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.records.iter().map(ConsumerRecord::topic_partition).collect()
    }
}

impl IntoIterator for ConsumerRecords {
    type Item = ConsumerRecord;
    type IntoIter = std::vec::IntoIter<ConsumerRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = &'a ConsumerRecord;
    type IntoIter = std::slice::Iter<'a, ConsumerRecord>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}
