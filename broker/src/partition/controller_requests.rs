//! What replicas ask of the controller: another ISR, another leader, to know of lost data and
//! of disks that are away. Sent in `replication`.

use super::replica_handle::ReplicaHandle;
use std::sync::Arc;
use tokio::sync::mpsc;
use troupe_machines::replica::AlterPartition;
use troupe_proto::ids::{LeaderEpoch, PartitionKey};

pub enum ControllerRequest {
    AlterPartition { replica: Arc<dyn ReplicaHandle>, request: AlterPartition },
    FailedLeader { key: PartitionKey, leader_epoch: LeaderEpoch },
    LostData(Arc<dyn ReplicaHandle>),
    OfflineReplica(Arc<dyn ReplicaHandle>),
}

/// Where replicas leave them. A partition has one of each kind at a time, which bounds the queue.
#[derive(Clone)]
pub struct ControllerRequests {
    queue: mpsc::UnboundedSender<ControllerRequest>,
}

impl ControllerRequests {
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<ControllerRequest>) {
        let (queue, requests) = mpsc::unbounded_channel();
        (Self { queue }, requests)
    }

    /// Answered with [`IsrAnswer`](super::IsrAnswer).
    pub fn alter_partition(&self, replica: &Arc<dyn ReplicaHandle>, request: AlterPartition) {
        let replica = Arc::clone(replica);
        // Fails only when the node has stopped.
        let _ = self.queue.send(ControllerRequest::AlterPartition { replica, request });
    }

    /// The leader replica here is dead, or cannot lead in this epoch: another is to be elected.
    pub fn report_failed_leader(&self, key: PartitionKey, leader_epoch: LeaderEpoch) {
        let _ = self.queue.send(ControllerRequest::FailedLeader { key, leader_epoch });
    }

    /// The replica lacks what it had acknowledged. Answered with [`LossKnown`](super::LossKnown), and on its board.
    pub fn report_lost_data(&self, replica: Arc<dyn ReplicaHandle>) {
        let _ = self.queue.send(ControllerRequest::LostData(replica));
    }

    /// The replica's disk has failed, or is not there. Answered on its board.
    pub fn report_offline(&self, replica: Arc<dyn ReplicaHandle>) {
        let _ = self.queue.send(ControllerRequest::OfflineReplica(replica));
    }
}
