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
use super::scrubbing::Scrubbing;
use crate::cleaner::CleaningTable;
use crate::forward::{ActiveController, Call, Decided, Relay};
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::partition::ScrubResult;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;
use troupe_controller::ControllerHandle;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, Offset, PartitionId};

pub struct Cluster {
    metadata: Arc<MetadataCache>,
    controller: Arc<ActiveController>,
    cleanings: Arc<CleaningTable>,
    scrubbing: Arc<Scrubbing>,
}

/// What was found in a replica, one `of` so many.
pub struct ScrubbedReplica {
    pub topic: String,
    pub partition: PartitionId,
    pub result: Result<ScrubResult, Error>,
    pub of: usize,
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
        metrics: Arc<NodeMetrics>,
    ) -> Self {
        let scrubbing = Scrubbing { metadata: Arc::clone(&metadata), metrics };
        Self { metadata, controller, cleanings, scrubbing: Arc::new(scrubbing) }
    }

    /// What is damaged in a partition that this node leads, and no other replica has, is given up; says which offsets.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`, `NOT_LEADER`; `INVALID_REQUEST` if there is nothing to
    /// give up.
    pub async fn recover_partition(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Vec<Range<Offset>>, Error> {
        let topic = self.metadata.registry.topic(topic)?;
        let Some(handle) = topic.partition(partition)?.1 else {
            let message = "this node has no replica of the partition; ask its leader";
            return Err(Error::new(ErrorCode::NotLeader, message));
        };
        handle.give_up_damage().await
    }

    /// Has replicas of this node looked through, one after the other. What was found in each comes when it is done.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC`, `INVALID_TOPIC`, `UNKNOWN_PARTITION`.
    pub fn scrub_replicas(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<mpsc::Receiver<ScrubbedReplica>, Error> {
        let mut replicas = self.scrubbing.of(topic, partitions)?;
        replicas
            .sort_by(|a, b| (a.topic(), a.key().partition).cmp(&(b.topic(), b.key().partition)));
        let (found, receiver) = mpsc::channel(1);
        let scrubbing = Arc::clone(&self.scrubbing);
        tokio::spawn(async move {
            let of = replicas.len();
            for handle in replicas {
                let result = scrubbing.one(&handle, 0).await;
                let (topic, partition) = (handle.topic().to_owned(), handle.key().partition);
                if found.send(ScrubbedReplica { topic, partition, result, of }).await.is_err() {
                    // Whoever asked is gone.
                    return;
                }
            }
        });
        Ok(receiver)
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
