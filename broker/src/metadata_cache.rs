//! What this node knows of the cluster: the image of the last committed change, and by name the replicas that it has
//! itself. Asked by every request, without a lock that others wait for.
//!
//! Promise: who has heard here that something was decided finds it here.
//! Never here: a decision, or a way to another node.

use crate::partition::PartitionHandle;
use crate::registry::Registry;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_machines::cluster::{Broker, ClusterImage};
use troupe_machines::replica::Reader;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, NodeId, PartitionKey};
use troupe_proto::log::v1::TopicPartition;

pub struct MetadataCache {
    pub node_id: NodeId,
    /// The cluster as of the last committed change.
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub registry: Registry,
    /// This node is a broker.
    pub has_replicas: bool,
    /// Readers that name their rack are sent to replicas there.
    pub looks_at_racks: bool,
    /// Cancelled when the node begins to stop: then nothing more is waited for.
    pub shutdown: CancellationToken,
}

/// Where a partition's leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAt {
    pub node_id: NodeId,
    pub endpoint: String,
    pub leader_epoch: LeaderEpoch,
}

impl MetadataCache {
    /// The cluster of now.
    pub fn now(&self) -> Arc<ClusterImage> {
        self.image.borrow().clone()
    }

    /// This node's replica of the partition that a request names.
    ///
    /// # Errors
    /// Among others `NOT_LEADER` with a hint, if this node has no replica of it.
    pub fn partition(
        &self,
        partition: Option<&TopicPartition>,
    ) -> Result<Arc<PartitionHandle>, Error> {
        let named = partition.ok_or_else(|| {
            Error::new(ErrorCode::InvalidRequest, "the request names no partition")
        })?;
        let (key, handle) =
            self.registry.partition(&named.topic, &named.topic_id, named.partition)?;
        handle.ok_or_else(|| {
            let message = "this node has no replica of the partition; refresh metadata";
            self.redirect(Error::new(ErrorCode::NotLeader, message), &key)
        })
    }

    /// Who leads a partition, as far as this node knows.
    pub fn leader_of(&self, key: &PartitionKey) -> Option<LeaderAt> {
        let image = self.image.borrow();
        let partition = image.partition(key)?;
        let broker = image.broker(partition.leader?)?;
        Some(LeaderAt {
            node_id: broker.node_id,
            endpoint: broker.endpoint.clone(),
            leader_epoch: partition.leader_epoch,
        })
    }

    /// Who reads a partition, if it says that a follower will do by naming its rack.
    pub fn reader(&self, key: &PartitionKey, client_rack: Option<&str>) -> Reader {
        let Some(rack) = client_rack else { return Reader::OfLeader };
        if !self.looks_at_racks || rack.is_empty() {
            return Reader::OfAny { nearby: Vec::new() };
        }
        let image = self.image.borrow();
        let replicas = image.partition(key).map_or(&[][..], |partition| &partition.replicas);
        let near = |broker: &Broker| broker.is_active() && broker.rack.as_deref() == Some(rack);
        let is_near = |node: &&NodeId| image.broker(**node).is_some_and(near);
        Reader::OfAny { nearby: replicas.iter().filter(is_near).copied().collect() }
    }

    /// The same error; if another leader would help, with a hint where the leader is (P21).
    pub fn redirect(&self, error: Error, key: &PartitionKey) -> Error {
        let helps = matches!(
            error.code,
            ErrorCode::NotLeader
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::LeaderNotAvailable
        );
        match self.leader_of(key) {
            Some(leader) if helps && error.leader.is_none() => {
                error.with_leader_of(leader.node_id.0, leader.endpoint, leader.leader_epoch.0)
            }
            _ => error,
        }
    }

    /// As [`MetadataCache::redirect`], for a partition as a request names it.
    pub fn hinted(&self, error: Error, partition: Option<&TopicPartition>) -> Error {
        let Some(named) = partition else { return error };
        match self.registry.partition(&named.topic, &named.topic_id, named.partition) {
            Ok((key, _)) => self.redirect(error, &key),
            Err(_) => error,
        }
    }

    /// Waits until the partitions here are in step with the image of now.
    pub async fn caught_up(&self) {
        let offset = self.image.borrow().next_offset();
        tokio::select! {
            () = self.registry.reached(offset) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Waits until this node knows the metadata below `offset`, and its partitions are in step with it.
    pub async fn caught_up_to(&self, offset: MetadataOffset) {
        let mut images = self.image.clone();
        let wait = async {
            // Fails only if nobody writes images any more, and then the node stops.
            let known = images.wait_for(|image| image.next_offset() >= offset).await.is_ok();
            if known && self.has_replicas {
                self.registry.reached(offset).await;
            }
        };
        tokio::select! {
            () = wait => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
impl MetadataCache {
    /// Of a node that has nothing and knows this of the cluster.
    pub fn of(node_id: NodeId, image: ClusterImage) -> Arc<MetadataCache> {
        Arc::new(MetadataCache {
            node_id,
            image: watch::Sender::new(Arc::new(image)).subscribe(),
            registry: Registry::default(),
            has_replicas: true,
            looks_at_racks: false,
            shutdown: CancellationToken::new(),
        })
    }
}
