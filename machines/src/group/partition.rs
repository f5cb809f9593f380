//! A partition as groups know it: by the name of its topic.

use std::fmt;
use std::sync::Arc;
use troupe_proto::ids::PartitionId;

/// One partition of one topic, by name. In order of topic, then partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPartition {
    pub topic: Arc<str>,
    pub partition: PartitionId,
}

impl fmt::Display for GroupPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
