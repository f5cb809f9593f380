//! What every service of a node shares.

use crate::NodeConfig;
use crate::admission::Admission;
use crate::control::Control;
use crate::forward::until_active;
use crate::groups::Coordinators;
use crate::metrics::NodeMetrics;
use crate::partition::{PartitionHandle, Supervisor};
use crate::peers::{Lease, Peers, Purpose};
use crate::registry::Registry;
use crate::replication::Replicator;
use crate::service::{DeliveryPool, Subscriptions};
use actix::Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use troupe_actor::StallDetector;
use troupe_machines::cluster::{ClusterImage, ProducerIdBlock};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{LeaderEpoch, MetadataOffset, NodeId, PartitionKey, ProducerId};
use troupe_proto::log::v1::TopicPartition;

/// `request.timeout.ms` of a producer that names none.
const DEFAULT_REQUEST_TIMEOUT_MS: u32 = 30_000;

pub struct Context {
    pub config: NodeConfig,
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub control: Control,
    /// The cluster as of the last committed change.
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub registry: Registry,
    /// Of the consumer groups that this node leads the partitions of.
    pub groups: Coordinators,
    /// By shard.
    pub supervisors: Vec<Addr<Supervisor>>,
    /// By shard: whether its thread runs.
    pub thread_stall_detectors: Vec<Arc<StallDetector>>,
    pub metrics: Arc<NodeMetrics>,
    /// What producers may have under way here at once.
    pub admission: Arc<Admission>,
    pub producer_ids: ProducerIds,
    /// The way to other brokers.
    pub peers: Peers,
    /// By shard: the streams from the leaders of what is followed here.
    pub replicators: Vec<Arc<Replicator>>,
    /// Group members that this node delivers to.
    pub subscriptions: Subscriptions,
    /// What the streams of records share.
    pub delivery: Arc<DeliveryPool>,
    /// Whether this process may promise anything.
    pub stall_detector: Arc<StallDetector>,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

impl Context {
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

    /// As [`Context::redirect`], for a partition as a request names it.
    pub fn hinted(&self, error: Error, partition: Option<&TopicPartition>) -> Error {
        let Some(named) = partition else { return error };
        match self.registry.partition(&named.topic, &named.topic_id, named.partition) {
            Ok((key, _)) => self.redirect(error, &key),
            Err(_) => error,
        }
    }

    /// The connection to another broker, for calls.
    pub fn channel_to(&self, endpoint: &str, purpose: Purpose) -> Result<Channel, Error> {
        self.peers.channel(endpoint, purpose, |endpoint| self.knows(endpoint))
    }

    /// A connection to another broker, for a stream that lasts.
    pub fn lease_to(&self, endpoint: &str, purpose: Purpose) -> Result<Lease, Error> {
        self.peers.lease(endpoint, purpose, |endpoint| self.knows(endpoint))
    }

    fn knows(&self, endpoint: &str) -> bool {
        self.image.borrow().brokers().any(|broker| broker.endpoint == endpoint)
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
            if known && self.config.is_broker() {
                self.registry.reached(offset).await;
            }
        };
        tokio::select! {
            () = wait => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// What a batch gets whose sender names no time.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(DEFAULT_REQUEST_TIMEOUT_MS.into())
    }

    pub fn request_timeout_ms(&self, asked: u32) -> u32 {
        if asked == 0 { DEFAULT_REQUEST_TIMEOUT_MS } else { asked }
    }
}

/// Where a partition's leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderAt {
    pub node_id: NodeId,
    pub endpoint: String,
    pub leader_epoch: LeaderEpoch,
}

/// Producer ids from the controller, a block at a time.
#[derive(Default)]
pub struct ProducerIds {
    block: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    /// An id that nobody has had. Two callers that find the block empty at once fetch two; one block's
    /// ids are then never given out.
    pub async fn next(&self, context: &Context) -> Result<ProducerId, Error> {
        loop {
            if let Some(id) = self.take() {
                return Ok(id);
            }
            // A block that was given out and did not arrive is lost, and that is all.
            let allocate = || async {
                context.control.allocate_producer_ids().await.map_err(|error| match error.code {
                    ErrorCode::OutcomeUnknown => Error { code: ErrorCode::NotController, ..error },
                    _ => error,
                })
            };
            let deadline = Instant::now() + context.request_timeout();
            let block = until_active(context, deadline, allocate).await?;
            *self.block.lock().unwrap_or_else(PoisonError::into_inner) = Some(block);
        }
    }

    fn take(&self) -> Option<ProducerId> {
        let mut block = self.block.lock().unwrap_or_else(PoisonError::into_inner);
        let left = block.as_mut().filter(|left| left.len > 0)?;
        let id = left.first;
        left.first = ProducerId(id.0 + 1);
        left.len -= 1;
        Some(id)
    }
}

#[cfg(test)]
impl Context {
    /// Of a node that serves nothing and knows this of the cluster.
    pub fn of(node_id: NodeId, image: ClusterImage) -> Arc<Context> {
        let config = NodeConfig { node_id: node_id.0, ..NodeConfig::default() };
        let image = watch::Sender::new(Arc::new(image)).subscribe();
        let identity = crate::control::Identity {
            cluster_id: "test".to_owned(),
            node_id,
            broker_epoch: Default::default(),
        };
        Arc::new(Context {
            admission: Admission::new(node_id.0),
            endpoint: String::new(),
            node_id,
            control: Control::new(None, Vec::new(), identity),
            groups: Coordinators::new(node_id, image.clone()),
            image,
            registry: Registry::default(),
            supervisors: Vec::new(),
            thread_stall_detectors: Vec::new(),
            replicators: Vec::new(),
            metrics: Arc::new(NodeMetrics::new(node_id.0)),
            producer_ids: ProducerIds::default(),
            peers: Peers::default(),
            subscriptions: Subscriptions::default(),
            delivery: Arc::new(DeliveryPool::new(config.unpack_memory.0 as usize)),
            stall_detector: Arc::new(StallDetector::unlimited()),
            shutdown: CancellationToken::new(),
            gone: CancellationToken::new(),
            config,
        })
    }
}
