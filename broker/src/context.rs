//! What every service of a node shares.

use crate::NodeConfig;
use crate::metrics::NodeMetrics;
use crate::partition::{PartitionHandle, Supervisor};
use crate::registry::Registry;
use actix::Addr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use troupe_controller::ControllerHandle;
use troupe_machines::cluster::{ClusterImage, ProducerIdBlock};
use troupe_proto::error::{Error, ErrorCode};
use troupe_proto::ids::{BrokerEpoch, NodeId, ProducerId};
use troupe_proto::log::v1::TopicPartition;

/// `request.timeout.ms` of a producer that names none.
const DEFAULT_REQUEST_TIMEOUT_MS: u32 = 30_000;

pub struct Context {
    pub config: NodeConfig,
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// host:port that clients are told.
    pub endpoint: String,
    pub controller: ControllerHandle,
    /// The cluster as of the last committed change.
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub registry: Registry,
    /// By shard.
    pub supervisors: Vec<Addr<Supervisor>>,
    pub metrics: Arc<NodeMetrics>,
    pub producer_ids: ProducerIds,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
}

impl Context {
    /// The partition that a request names.
    pub fn partition(
        &self,
        partition: Option<&TopicPartition>,
    ) -> Result<Arc<PartitionHandle>, Error> {
        let named = partition.ok_or_else(|| {
            Error::new(ErrorCode::InvalidRequest, "the request names no partition")
        })?;
        self.registry.partition(&named.topic, &named.topic_id, named.partition)
    }

    /// Waits until the partitions here are in step with the image of now.
    pub async fn caught_up(&self) {
        let offset = self.image.borrow().next_offset();
        tokio::select! {
            () = self.registry.reached(offset) => {}
            () = self.shutdown.cancelled() => {}
        }
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
            let block = context
                .controller
                .allocate_producer_ids(context.node_id, context.broker_epoch)
                .await?;
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
