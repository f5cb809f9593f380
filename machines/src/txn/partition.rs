//! What transactions are about: producers, and partitions of topics.

use std::fmt;
use std::sync::Arc;
use troupe_proto::ids::{PartitionId, PartitionKey, TopicId};

pub(super) use crate::producer::LAST_EPOCH;
pub use crate::producer::{ClientVersion, Producer};

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
