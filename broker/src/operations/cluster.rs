//! The cluster as a whole: how it is by this node's image, what the replicas of this node hold, and what operators
//! have the active controller decide about nodes and leaders.

mod elections;
mod overview;
mod partitions;
mod replicas;

pub use elections::{ElectionResult, Elections, NamedPartitions};
pub use overview::{ClusterNode, ClusterOverview};
pub use partitions::{ListedPartitions, PartitionFilter, PartitionState};
pub use replicas::{ListedReplicas, Replica, ReplicaQuery, ReplicaRole};

use super::page::Page;
use crate::cleaner::CleaningTable;
use crate::forward::{ActiveController, Call, Decided, Relay};
use crate::metadata_cache::MetadataCache;
use std::sync::Arc;
use troupe_controller::ControllerHandle;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::NodeId;

pub struct Cluster {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
    cleanings: Arc<CleaningTable>,
}

/// What became of a node's leaderships.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    pub moved: usize,
    /// Those that nobody else could take.
    pub left: usize,
}

impl Cluster {
    pub fn new(
        metadata: Arc<MetadataCache>,
        controller: Arc<ActiveController>,
        cleanings: Arc<CleaningTable>,
    ) -> Self {
        Self { metadata, controller, cleanings }
    }

    pub fn overview(&self) -> ClusterOverview {
        let (image, channel) = (self.metadata.now(), &self.controller.channel);
        overview::of(&image, channel.active_controller(), channel.as_of(&image))
    }

    /// Who leads and who is in sync. `topic` is empty: of all topics.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`.
    pub fn list_partitions(
        &self,
        topic: &str,
        filter: PartitionFilter,
        page: &Page,
    ) -> Result<ListedPartitions, Error> {
        let image = self.metadata.now();
        let (partitions, next_page_token) = partitions::list(&image, topic, filter, page)?;
        let as_of = self.controller.channel.as_of(&image);
        Ok(ListedPartitions { partitions, next_page_token, as_of })
    }

    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`; `INVALID_REQUEST` of a page that cannot be.
    pub async fn list_replicas(&self, query: ReplicaQuery) -> Result<ListedReplicas, Error> {
        replicas::list(&self.metadata, &self.cleanings, query).await
    }

    /// Has leaders elected; each partition succeeds or fails for itself.
    ///
    /// # Errors
    /// Those of the controller.
    pub async fn elect_leaders<R: Send>(
        &self,
        call: &Call,
        elections: &Elections,
        relay: &impl Relay<R>,
    ) -> Result<Decided<Vec<ElectionResult>, R>, Error> {
        let here = |controller: ControllerHandle| async move { elections.hold(&controller).await };
        self.controller.decide(call, here, relay).await
    }

    /// Moves a node's leaderships away and takes it out of every ISR.
    ///
    /// # Errors
    /// `BROKER_NOT_REGISTERED`, and others of the controller.
    pub async fn drain_node<R: Send>(
        &self,
        call: &Call,
        node_id: NodeId,
        relay: &impl Relay<R>,
    ) -> Result<Decided<Drained, R>, Error> {
        let here = |controller: ControllerHandle| async move { drain(&controller, node_id).await };
        self.controller.decide(call, here, relay).await
    }

    /// Ends a drain.
    ///
    /// # Errors
    /// `BROKER_NOT_REGISTERED`, and others of the controller.
    pub async fn resume_node<R: Send>(
        &self,
        call: &Call,
        node_id: NodeId,
        relay: &impl Relay<R>,
    ) -> Result<Decided<(), R>, Error> {
        let here =
            |controller: ControllerHandle| async move { controller.resume_broker(node_id).await };
        self.controller.decide(call, here, relay).await
    }

    /// Forgets a node that has stopped for good.
    ///
    /// # Errors
    /// `BROKER_NOT_REGISTERED`, `INVALID_REQUEST`, `NODE_HOLDS_REPLICAS`, and others of the controller.
    pub async fn remove_node<R: Send>(
        &self,
        call: &Call,
        node_id: NodeId,
        relay: &impl Relay<R>,
    ) -> Result<Decided<(), R>, Error> {
        let here = |controller: ControllerHandle| async move {
            controller.unregister_broker(node_id).await
        };
        self.controller.decide(call, here, relay).await
    }
}

/// Moves a node's leaderships away; those are left that nobody else can take.
async fn drain(controller: &ControllerHandle, node_id: NodeId) -> Result<Drained, Error> {
    let image = controller.image().borrow().clone();
    let broker = image.broker(node_id).ok_or_else(|| {
        let message = format!("node {node_id} is not registered; `troupe node list` shows all");
        Error::new(ErrorCode::BrokerNotRegistered, message)
    })?;
    controller.begin_shutdown(node_id, broker.epoch).await?;
    let before = image.led_by(node_id).count();
    let left = controller.image().borrow().led_by(node_id).count();
    Ok(Drained { moved: before.saturating_sub(left), left })
}
