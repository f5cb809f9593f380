//! Which node has which replicas, and which had better: plans by this node's image, and nodes that the active controller
//! is to mark as being retired.

use crate::controller_channel::AsOf;
use crate::forward::{ActiveController, Call, Decided, Relay};
use crate::metadata_cache::MetadataCache;
use std::collections::BTreeMap;
use std::sync::Arc;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{Plan, PlanRequest};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, PartitionId, PartitionKey};

pub struct Placement {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
}

/// Bytes of a partition, as somebody has counted them.
pub struct NamedSize {
    pub topic: String,
    pub partition: u32,
    pub bytes: u64,
}

impl Placement {
    pub fn new(metadata: Arc<MetadataCache>, controller: Arc<ActiveController>) -> Self {
        Self { metadata, controller }
    }

    /// What would have to move. Sizes of what is not there are passed over.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `BROKER_NOT_REGISTERED`, `INVALID_REPLICATION_FACTOR`, `INVALID_REQUEST`.
    pub async fn plan(
        &self,
        mut request: PlanRequest,
        sizes: &[NamedSize],
    ) -> Result<(Plan, AsOf), Error> {
        let image = self.metadata.now();
        let mut known = BTreeMap::new();
        for NamedSize { topic, partition, bytes } in sizes {
            if let Some(topic) = image.topic(topic) {
                let partition = PartitionId(*partition);
                known.insert(PartitionKey { topic_id: topic.id, partition }, *bytes);
            }
        }
        request.sizes = known;
        let as_of = self.controller.channel.as_of(&image);
        // A plan for a hundred thousand partitions takes its time.
        let planned = tokio::task::spawn_blocking(move || image.plan_reassignment(&request));
        let plan = planned.await.map_err(|_| crate::shutdown::shutting_down())??;
        Ok((plan, as_of))
    }

    /// Marks a node, and has others lead in its place; or ends that. How many leaderships moved.
    ///
    /// # Errors
    /// `BROKER_NOT_REGISTERED`, `INVALID_REPLICATION_FACTOR`, `INVALID_REQUEST`, and others of the controller.
    pub async fn retire_node<R: Send>(
        &self,
        call: &Call,
        node_id: NodeId,
        cancel: bool,
        relay: &impl Relay<R>,
    ) -> Result<Decided<usize, R>, Error> {
        if !cancel && self.voters() == [node_id] {
            let message = format!(
                "node {node_id} is the last voter: without it nothing would be decided; name others first, by \
                 controller.quorum.voters of every node"
            );
            return Err(Error::new(ErrorCode::InvalidRequest, message).with("node_id", node_id));
        }
        let here = |controller: ControllerHandle| async move {
            if cancel {
                controller.keep_broker(node_id).await.map(|()| 0)
            } else {
                controller.retire_broker(node_id).await
            }
        };
        self.controller.decide(call, here, relay).await
    }

    /// Who decides for the cluster, as this node's settings name them.
    pub fn voters(&self) -> Vec<NodeId> {
        self.controller.channel.voters().iter().map(|voter| voter.node_id).collect()
    }
}
