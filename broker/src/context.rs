//! What every service of a node shares.

use crate::NodeConfig;
use crate::admission::Admission;
use crate::controller_channel::ControllerChannel;
use crate::forward::{ActiveController, Clocks, Leaders, until_active};
use crate::groups::Coordinators;
use crate::grpc::AnswerWriter;
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::operations::{
    DeliveryPool, Publish, Pulls, Sessions, Settle, Tail, TopicLookup, Topics,
};
use crate::partition::Supervisor;
use crate::peers::Peers;
use crate::replication::Replicator;
use actix::Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use troupe_actor::StallDetector;
#[cfg(test)]
use troupe_machines::cluster::ClusterImage;
use troupe_machines::cluster::ProducerIdBlock;
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{NodeId, ProducerId};

/// `request.timeout.ms` of a producer that names none.
const DEFAULT_REQUEST_TIMEOUT_MS: u32 = 30_000;

pub struct Context {
    pub config: NodeConfig,
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub controller: Arc<ControllerChannel>,
    pub active_controller: Arc<ActiveController>,
    pub metadata: Arc<MetadataCache>,
    pub leaders: Arc<Leaders>,
    pub clocks: Arc<Clocks>,
    pub topics: Arc<Topics>,
    pub topic_lookup: Arc<TopicLookup>,
    pub publish: Arc<Publish>,
    /// Of the consumer groups that this node leads the partitions of.
    pub groups: Arc<Coordinators>,
    /// By shard.
    pub supervisors: Vec<Addr<Supervisor>>,
    /// By shard: whether its thread runs.
    pub thread_stall_detectors: Vec<Arc<StallDetector>>,
    pub metrics: Arc<NodeMetrics>,
    /// What producers may have under way here at once.
    pub admission: Arc<Admission>,
    pub producer_ids: Arc<ProducerIds>,
    /// The way to other brokers.
    pub peers: Arc<Peers>,
    /// By shard: the streams from the leaders of what is followed here.
    pub replicators: Vec<Arc<Replicator>>,
    /// Group members that this node delivers to.
    pub sessions: Arc<Sessions>,
    /// Those of them that are held between calls.
    pub pulls: Arc<Pulls<AnswerWriter>>,
    pub settle: Arc<Settle>,
    pub tail: Arc<Tail>,
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
    /// What a batch gets whose sender names no time.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(DEFAULT_REQUEST_TIMEOUT_MS.into())
    }

    pub fn request_timeout_ms(&self, asked: u32) -> u32 {
        if asked == 0 { DEFAULT_REQUEST_TIMEOUT_MS } else { asked }
    }
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
                context.controller.allocate_producer_ids().await.map_err(|error| match error.code {
                    ErrorCode::OutcomeUnknown => Error { code: ErrorCode::NotController, ..error },
                    _ => error,
                })
            };
            let deadline = Instant::now() + context.request_timeout();
            let block = until_active(&context.metadata, deadline, allocate).await?;
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
        let identity = crate::controller_channel::Identity {
            cluster_id: "test".to_owned(),
            node_id,
            broker_epoch: Default::default(),
        };
        let leaders = Leaders::of(node_id, image);
        let metadata = Arc::clone(&leaders.metadata);
        let controller = Arc::new(ControllerChannel::new(None, Vec::new(), identity, 2_000));
        let clocks = Arc::new(Clocks::default());
        let active_controller = Arc::new(ActiveController {
            channel: Arc::clone(&controller),
            metadata: Arc::clone(&metadata),
            clocks: Arc::clone(&clocks),
        });
        let topics = Arc::new(Topics::new(Arc::clone(&metadata), Arc::clone(&active_controller)));
        let topic_lookup = Arc::new(TopicLookup::new(
            Arc::clone(&metadata),
            Arc::clone(&active_controller),
            config.auto_create_topics,
        ));
        let (sessions, delivery) = (Arc::<Sessions>::default(), Arc::<DeliveryPool>::default());
        Arc::new(Context {
            admission: Arc::clone(&leaders.admission),
            endpoint: String::new(),
            node_id,
            active_controller,
            topics,
            settle: Arc::new(Settle::new(
                Arc::clone(&metadata),
                Arc::clone(&sessions),
                Arc::clone(&leaders.peers),
                Arc::clone(&clocks),
            )),
            tail: Arc::new(Tail::new(
                Arc::clone(&leaders),
                Arc::clone(&topic_lookup),
                Arc::clone(&delivery),
            )),
            publish: Arc::new(Publish::new(Arc::clone(&leaders), Arc::clone(&topic_lookup))),
            topic_lookup,
            controller,
            groups: Arc::new(Coordinators::new(node_id, metadata.image.clone())),
            peers: Arc::clone(&leaders.peers),
            shutdown: metadata.shutdown.clone(),
            metadata,
            leaders,
            clocks,
            supervisors: Vec::new(),
            thread_stall_detectors: Vec::new(),
            replicators: Vec::new(),
            metrics: Arc::new(NodeMetrics::new(node_id.0)),
            producer_ids: Arc::default(),
            pulls: Arc::default(),
            sessions,
            delivery,
            stall_detector: Arc::new(StallDetector::unlimited()),
            gone: CancellationToken::new(),
            config,
        })
    }
}
