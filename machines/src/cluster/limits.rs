//! How many partitions there may be: per request, per node, in the cluster.

use super::{ClusterError, ClusterImage, PartitionLimits};
use std::collections::BTreeMap;
use std::fmt;
use troupe_proto::ids::NodeId;

/// A limit that would be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionLimit {
    Request,
    Node(NodeId),
    Cluster,
}

impl PartitionLimit {
    /// The key that sets it.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Request => "max.partitions.per.request",
            Self::Node(_) => "max.partitions.per.node",
            Self::Cluster => "max.partitions.per.cluster",
        }
    }
}

impl fmt::Display for PartitionLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => write!(f, "one request"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Cluster => write!(f, "the cluster"),
        }
    }
}

impl ClusterImage {
    /// What a request may create at all, before it is worked out where.
    pub(super) fn check_request_size(
        &self,
        limits: &PartitionLimits,
        asked: u32,
    ) -> Result<(), ClusterError> {
        check(PartitionLimit::Request, limits.per_request, 0, asked)?;
        let there = self.topics().map(|topic| topic.partitions.len() as u64).sum();
        check(PartitionLimit::Cluster, limits.per_cluster, there, asked)
    }

    /// Where these partitions are to be.
    pub(super) fn check_nodes(
        &self,
        limits: &PartitionLimits,
        assignments: &[Vec<NodeId>],
    ) -> Result<(), ClusterError> {
        let mut asked: BTreeMap<NodeId, u32> = BTreeMap::new();
        for node in assignments.iter().flatten() {
            *asked.entry(*node).or_default() += 1;
        }
        let mut there: BTreeMap<NodeId, u64> = BTreeMap::new();
        for partition in self.topics().flat_map(|topic| &topic.partitions) {
            for node in &partition.replicas {
                *there.entry(*node).or_default() += 1;
            }
        }
        for (node, asked) in asked {
            let there = there.get(&node).copied().unwrap_or_default();
            check(PartitionLimit::Node(node), limits.per_node, there, asked)?;
        }
        Ok(())
    }
}

fn check(scope: PartitionLimit, limit: u32, there: u64, asked: u32) -> Result<(), ClusterError> {
    let left = u64::from(limit).saturating_sub(there);
    if u64::from(asked) <= left {
        return Ok(());
    }
    Err(ClusterError::PartitionLimitReached { scope, limit, asked, left })
}
