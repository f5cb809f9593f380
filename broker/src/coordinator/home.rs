//! What a coordinator's actor shares with those who ask it, for as long as this node leads the partition in that epoch.

use super::machine::{Machine, Surroundings};
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::partition::PartitionHandle;
use std::fmt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use troupe_actor::{Mailbox, StallDetector};
use troupe_proto::ids::{LeaderEpoch, NodeId, PartitionId};

/// What coordinators take from their node.
#[derive(Clone)]
pub struct Node {
    pub metadata: Arc<MetadataCache>,
    /// host:port that clients are told.
    pub endpoint: String,
    pub metrics: Arc<NodeMetrics>,
    pub stall_detector: Arc<StallDetector>,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

pub struct Home<M: Machine> {
    /// The partition that the machine is remembered in.
    pub log: Arc<PartitionHandle>,
    pub leader_epoch: LeaderEpoch,
    pub node: Arc<Node>,
    pub mailbox: Mailbox,
    pub shared: Arc<M::Shared>,
    pub common: Arc<M::Common>,
}

impl<M: Machine> Home<M> {
    pub fn new(
        log: Arc<PartitionHandle>,
        leader_epoch: LeaderEpoch,
        node: Arc<Node>,
        common: Arc<M::Common>,
    ) -> Self {
        let (mailbox, shared) = (Mailbox::default(), Arc::default());
        Self { log, leader_epoch, node, mailbox, shared, common }
    }

    pub fn surroundings(&self) -> Surroundings<M> {
        Surroundings {
            partition: self.partition(),
            leader_epoch: self.leader_epoch,
            metrics: Arc::clone(&self.node.metrics),
            shared: Arc::clone(&self.shared),
            common: Arc::clone(&self.common),
        }
    }

    /// Of the internal topic.
    pub fn partition(&self) -> PartitionId {
        self.log.key().partition
    }

    pub fn node_id(&self) -> NodeId {
        self.node.metadata.node_id
    }

    /// The shard that the actor lives on.
    pub fn shard(&self) -> usize {
        self.log.shard
    }

    /// Returns when the replica does not lead any more, as far as it knows itself.
    pub async fn deposed(&self) {
        let board = &self.log.board;
        board.wait_for(|| (!board.leads() || board.is_gone()).then_some(())).await;
    }
}

impl<M: Machine> fmt::Display for Home<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.log.board)
    }
}
