//! What every session of a node is given.

use super::coordination::Coordination;
use super::sessions::Sessions;
use super::settle::Settle;
use crate::forward::Leaders;
use crate::operations::delivery::DeliveryPool;
use crate::operations::topic_lookup::TopicLookup;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use troupe_proto::ids::NodeId;

pub struct Handles {
    pub leaders: Arc<Leaders>,
    pub topic_lookup: Arc<TopicLookup>,
    pub delivery: Arc<DeliveryPool>,
    pub sessions: Arc<Sessions>,
    pub settle: Arc<Settle>,
    pub coordination: Coordination,
}

impl Handles {
    pub fn node_id(&self) -> NodeId {
        self.leaders.metadata.node_id
    }

    /// Cancelled when the node begins to stop.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.leaders.metadata.shutdown
    }
}
