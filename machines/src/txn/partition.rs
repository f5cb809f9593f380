//! What transactions are about: producers, and partitions of topics.

use std::fmt;
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, PartitionKey, ProducerEpoch, ProducerId, TopicId};

/// Epochs have 15 bits for Kafka's clients, and the last one is for markers alone (X9).
pub(super) const LAST_EPOCH: ProducerEpoch = ProducerEpoch(32_766);

/// What a producer calls itself by. Of one id, a newer epoch fences the older ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    pub id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Producer {
    /// The first epoch of a new id.
    pub(super) fn first(id: ProducerId) -> Producer {
        Producer { id, epoch: ProducerEpoch(0) }
    }

    /// The same id in its next epoch.
    pub(super) fn next_epoch(self) -> Producer {
        Producer { id: self.id, epoch: ProducerEpoch(self.epoch.0 + 1) }
    }

    /// There is no next epoch for a client.
    pub(super) fn is_exhausted(self) -> bool {
        self.epoch >= LAST_EPOCH
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {} in epoch {}", self.id, self.epoch)
    }
}

/// How a client speaks of its transactions (X19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientVersion {
    /// The epoch stays from transaction to transaction: a late request is told from one of the next by time alone, and
    /// partitions are verified when the transaction opens there.
    First = 1,
    /// KIP-890: every transaction has an epoch of its own.
    Second = 2,
}

/// One partition of a transaction. In order of topic, then partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TxnPartition {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: PartitionId,
}

impl TxnPartition {
    pub fn key(&self) -> PartitionKey {
        PartitionKey { topic_id: self.topic_id, partition: self.partition }
    }
}

impl fmt::Display for TxnPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
