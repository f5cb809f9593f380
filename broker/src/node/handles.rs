//! What a node holds of its parts. Here alone all of them are seen: everything else is given what it names.

use crate::NodeConfig;
use crate::controller_channel::ControllerChannel;
use crate::faults::NodeFaults;
use crate::group::GroupCoordinators;
use crate::grpc::{BrokerServices, IntakeLayer};
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::partition::Supervisor;
use crate::replication::Replicator;
use crate::server::Terms;
use crate::txn::TxnCoordinators;
use actix::Addr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use troupe_actor::StallDetector;
use troupe_proto::ids::NodeId;

pub(super) struct Handles {
    /// What the node was started with.
    pub config: NodeConfig,
    /// What holds now.
    pub settings: Arc<NodeSettings>,
    pub node_id: NodeId,
    /// host:port that clients are told.
    pub endpoint: String,
    pub controller: Arc<ControllerChannel>,
    pub metadata: Arc<MetadataCache>,
    /// Of the consumer groups that this node leads the partitions of.
    pub coordinators: Arc<GroupCoordinators>,
    /// Of transactions, alike.
    pub txn_coordinators: Arc<TxnCoordinators>,
    /// By shard.
    pub supervisors: Vec<Addr<Supervisor>>,
    /// By shard: the streams from the leaders of what is followed here.
    pub replicators: Vec<Arc<Replicator>>,
    pub metrics: Arc<NodeMetrics>,
    /// What is served; of a controller alone, only what every listener serves.
    pub services: BrokerServices,
    /// Whether this process may promise anything.
    pub stall_detector: Arc<StallDetector>,
    /// What the node suffers, as somebody wants it.
    pub faults: Arc<NodeFaults>,
    /// Cancelled when the node begins to stop.
    pub shutdown: CancellationToken,
    /// Cancelled when the node has stopped.
    pub gone: CancellationToken,
}

impl Handles {
    /// On which a listener serves, until it is told to stop.
    pub fn terms(&self, stop: &CancellationToken) -> Terms {
        let intake = IntakeLayer {
            max_request: self.services.max_request,
            arrival_ms: self.config.connection_setup_timeout.0,
        };
        Terms { intake, calls: Arc::clone(&self.metrics.calls), stop: stop.clone() }
    }
}
