//! Builds the parts of a node, from the ground up, and hands each what it names.

use super::handles::Handles;
use super::start_error::StartError;
use crate::NodeConfig;
use crate::address_book::AddressBook;
use crate::admission::Admission;
use crate::cleaner::{Cleaner, CleaningTable, not_looked_at};
use crate::config::ReplicaSelector;
use crate::controller_channel::{ControllerChannel, Identity};
use crate::faults::NodeFaults;
use crate::forward::{ActiveController, Clocks, Leaders};
use crate::group::{GroupCoordinators, group_route};
use crate::grpc::{AdminServices, BrokerServices};
use crate::log_directories::{LogDirs, Parts};
use crate::metadata_cache::MetadataCache;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::operations::{
    Administration, Coordination, DeliveryPool, Fetch, Groups, Observed, Offsets, Operations,
    Produce, ProducerIds, Publish, PublishAtomically, Pulls, Scrubbing, Sessions, Settle,
    SubscriptionHandles, Subscriptions, Tail, TopicLookup, Transactions,
};
use crate::partition::{
    Beside, ControllerRequest, ControllerRequests, Flusher, ReplicaTimes, ReplicationThrottles,
    Shared, Supervisor, Volumes,
};
use crate::peers::Peers;
use crate::registry::Registry;
use crate::replication::Replicator;
use crate::txn::{Gate, MarkerReceiver, MarkerSender, TxnCoordinators, txn_route};
use crate::unpacker::Unpacker;
use actix::{Actor, Addr, Arbiter};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use troupe_actor::StallDetector;
use troupe_controller::{ControllerHandle, priority};
use troupe_log::{LogDirectories, Space};
use troupe_machines::cluster::ClusterImage;
use troupe_proto::ids::{BrokerEpoch, NodeId};

/// Logs that are recovered at the same time.
const RECOVERIES: usize = 4;
/// How long a new high watermark may wait for a batch to travel with to the followers. Few wait for it there, for
/// the next leader knows it soon enough.
const ENDS_DELAY: Duration = Duration::from_millis(50);
/// The same, where followers have readers, who see a record only then.
const ENDS_DELAY_FOR_READERS: Duration = Duration::from_millis(2);

/// What a node stands on.
pub(super) struct Ground {
    pub config: NodeConfig,
    pub cluster_id: String,
    /// host:port that clients are told.
    pub endpoint: String,
    /// This node's own controller.
    pub controller: Option<ControllerHandle>,
    pub image: watch::Receiver<Arc<ClusterImage>>,
    pub stall_detector: Arc<StallDetector>,
    pub directories: Arc<LogDirectories>,
    pub space: Arc<Space>,
    pub faults: Arc<NodeFaults>,
}

pub(super) struct Wired {
    pub handles: Arc<Handles>,
    pub shards: Vec<Arbiter>,
    pub cleaner: Cleaner,
    /// Until they are sent.
    pub controller_requests: UnboundedReceiver<ControllerRequest>,
}

impl Ground {
    pub fn build(self) -> Result<Wired, StartError> {
        let (shutdown, gone) = (CancellationToken::new(), CancellationToken::new());
        let shards = self.shards()?;
        let controller = Arc::new(self.controller_channel()?);
        let metadata = Arc::new(MetadataCache {
            node_id: self.node_id(),
            image: self.image.clone(),
            registry: Registry::default(),
            has_replicas: self.config.is_broker(),
            looks_at_racks: self.config.replica_selector == ReplicaSelector::RackAware,
            shutdown: shutdown.clone(),
        });
        let settings = NodeSettings::new(self.config.clone());
        tokio::spawn(Arc::clone(&settings).follow(self.image.clone(), shutdown.clone()));
        let metrics = Arc::new(NodeMetrics::new(self.config.node_id));
        let fetch_bytes = self.config.replica_fetch_bytes.0;
        let throttles = ReplicationThrottles::new(&settings);
        let replicator = |shard| {
            let (metadata, controller) = (Arc::clone(&metadata), Arc::clone(&controller));
            Replicator::new(shard, metadata, controller, fetch_bytes, Arc::clone(&throttles))
        };
        let replicators: Vec<_> =
            (0..shards.len()).map(|shard| Arc::new(replicator(shard))).collect();
        let stall_detectors: Vec<_> =
            shards.iter().map(|_| Arc::new(StallDetector::unlimited())).collect();
        let (requests, controller_requests) = ControllerRequests::channel();
        let beside_cleaner = Arc::<Beside>::default();
        let wakes = (&requests, &beside_cleaner);
        // Partitions are there before the way to the coordinators of transactions is.
        let gate = Arc::<Gate>::default();
        let shared = (&metrics, &throttles, &gate);
        let supervisors =
            self.supervisors(&shards, (&replicators, &stall_detectors), shared, wakes)?;

        let leaders = self.leaders(&metadata);
        let active_controller = Arc::new(ActiveController {
            channel: Arc::clone(&controller),
            metadata: Arc::clone(&metadata),
            clocks: Arc::new(Clocks::default()),
        });
        let coordinators = Arc::new(GroupCoordinators::new(Arc::clone(&metadata)));
        let txn_coordinators = Arc::new(TxnCoordinators::new(Arc::clone(&metadata)));
        let (sessions, pulls) = (Arc::<Sessions>::default(), Arc::<Pulls<_>>::default());
        let counted = Arc::clone(&pulls);
        let cleanings = Arc::new(CleaningTable::new(not_looked_at(&self.config)));
        let cleaner = Cleaner::start(&settings, &metadata, &metrics, &cleanings, beside_cleaner);
        let cleaner = cleaner.map_err(StartError::Thread)?;
        let log_dirs = Arc::new(LogDirs::new(Parts {
            metadata: Arc::clone(&metadata),
            directories: Arc::clone(&self.directories),
            settings: Arc::clone(&settings),
            gone: gone.clone(),
        }));
        let administration = Administration::new(&Observed {
            config: &self.config,
            settings: &settings,
            endpoint: &self.endpoint,
            controller: &active_controller,
            leaders: &leaders,
            coordinators: &coordinators,
            txn_coordinators: &txn_coordinators,
            sessions: &sessions,
            pull_sessions: Arc::new(move || counted.count()),
            replicators: &replicators,
            thread_stall_detectors: &stall_detectors,
            metrics: &metrics,
            cleanings: &cleanings,
            log_dirs: &log_dirs,
            faults: &self.faults,
            volumes: &Volumes::new(Arc::clone(&self.directories)),
            gone: &gone,
        });
        let route = group_route(&self.config, &coordinators, &active_controller, &leaders.peers);
        let groups = Arc::new(Groups::new(route, Arc::clone(&leaders)));
        let peers = &leaders.peers;
        let route = Arc::new(txn_route(&self.config, &txn_coordinators, &active_controller, peers));
        gate.open(Arc::clone(&route));
        let receiver = MarkerReceiver::new(Arc::clone(&metadata), Arc::clone(&coordinators));
        let receiver = Arc::new(receiver);
        let markers = MarkerSender::new(Arc::clone(&route), Arc::clone(&receiver));
        tokio::spawn(Arc::new(markers).run(gone.clone()));
        let producer_ids = Arc::new(ProducerIds::new(Arc::clone(&active_controller)));
        let transactions = Arc::new(Transactions::new(
            Arc::clone(&route),
            Arc::clone(&leaders),
            receiver,
            Arc::clone(&groups),
            Arc::clone(&producer_ids),
        ));
        let topic_lookup = Arc::new(TopicLookup::new(
            Arc::clone(&metadata),
            Arc::clone(&active_controller),
            self.config.auto_create_topics,
        ));
        let delivery = Arc::<DeliveryPool>::default();
        let settle = Arc::new(Settle::new(
            Arc::clone(&metadata),
            Arc::clone(&sessions),
            Arc::clone(&leaders.peers),
            Arc::clone(&active_controller.clocks),
        ));
        let subscriptions = SubscriptionHandles {
            leaders: Arc::clone(&leaders),
            topic_lookup: Arc::clone(&topic_lookup),
            delivery: Arc::clone(&delivery),
            sessions,
            settle: Arc::clone(&settle),
            coordination: Coordination::new(Arc::clone(&groups)),
        };
        let max_unpacked = bytes(self.config.max_unpacked_batch.0);
        let operations = Operations {
            produce: Arc::new(Produce::new(
                Arc::clone(&metadata),
                Arc::clone(&leaders.admission),
                max_unpacked,
            )),
            fetch: Arc::new(Fetch::new(Arc::clone(&metadata))),
            offsets: Arc::new(Offsets::new(Arc::clone(&metadata), Arc::clone(&leaders.unpacker))),
            producer_ids: Arc::clone(&producer_ids),
            transactions,
            publish: Arc::new(Publish::new(Arc::clone(&leaders), Arc::clone(&topic_lookup))),
            publish_atomically: Arc::new(PublishAtomically::new(
                (Arc::clone(&leaders), Arc::clone(&topic_lookup)),
                (route, producer_ids),
                (Arc::clone(&settle), Coordination::new(Arc::clone(&groups))),
                Arc::clone(&settings),
            )),
            groups,
            tail: Arc::new(Tail::new(leaders, topic_lookup, delivery)),
            settle,
        };
        let scrubbing =
            Scrubbing { metadata: Arc::clone(&metadata), metrics: Arc::clone(&metrics) };
        tokio::spawn(scrubbing.run(Arc::clone(&settings)));
        let services = BrokerServices {
            admin: AdminServices(administration),
            addresses: AddressBook::of_nodes(&metadata),
            metadata: Arc::clone(&metadata),
            controller: Arc::clone(&controller),
            operations,
            subscriptions: Arc::new(Subscriptions::new(subscriptions, pulls)),
            max_request: bytes(self.config.max_request_bytes.0),
            shutdown: shutdown.clone(),
        };
        let handles = Handles {
            node_id: self.node_id(),
            endpoint: self.endpoint,
            controller,
            metadata,
            coordinators,
            txn_coordinators,
            supervisors,
            replicators,
            metrics,
            services,
            stall_detector: self.stall_detector,
            faults: self.faults,
            shutdown,
            gone,
            config: self.config,
            settings,
        };
        Ok(Wired { handles: Arc::new(handles), shards, cleaner, controller_requests })
    }

    fn node_id(&self) -> NodeId {
        NodeId(self.config.node_id)
    }

    /// The threads that own partitions and connections.
    fn shards(&self) -> Result<Vec<Arbiter>, StartError> {
        let count = if self.config.is_broker() { self.config.shard_count() } else { 0 };
        let shards: Vec<Arbiter> = (0..count)
            .map(|_| Arbiter::try_new().map_err(StartError::Thread))
            .collect::<Result<_, _>>()?;
        for shard in &shards {
            shard.spawn(async { priority::after_decisions() });
            shard.spawn(self.faults.take_part());
        }
        Ok(shards)
    }

    fn controller_channel(&self) -> Result<ControllerChannel, StartError> {
        let (cluster_id, node_id) = (self.cluster_id.clone(), self.node_id());
        let identity = Identity { cluster_id, node_id, broker_epoch: BrokerEpoch(0) };
        let voters = self.config.voters().map_err(StartError::Voters)?;
        let session_timeout_ms = self.config.session_timeout.0;
        let own = self.controller.clone();
        let network = self.faults.network();
        Ok(ControllerChannel::new(own, voters, identity, session_timeout_ms, network))
    }

    fn supervisors(
        &self,
        shards: &[Arbiter],
        (replicators, stall_detectors): (&[Arc<Replicator>], &[Arc<StallDetector>]),
        (metrics, throttles, gate): (&Arc<NodeMetrics>, &Arc<ReplicationThrottles>, &Arc<Gate>),
        (requests, cleaner): (&ControllerRequests, &Arc<Beside>),
    ) -> Result<Vec<Addr<Supervisor>>, StartError> {
        let flusher = Flusher::start(self.config.flush_threads).map_err(StartError::Thread)?;
        let recoveries = Arc::new(Semaphore::new(RECOVERIES));
        let each = shards.iter().zip(replicators).zip(stall_detectors);
        let supervisors = each.map(|((shard, replicator), detector)| {
            let shared = Shared {
                node_id: self.node_id(),
                recoveries: Arc::clone(&recoveries),
                flusher: flusher.clone(),
                metrics: Arc::clone(metrics),
                controller: requests.clone(),
                leader_streams: replicator.clone(),
                stall_detector: Arc::clone(&self.stall_detector),
                thread_stall_detector: Arc::clone(detector),
                ends_delay: ends_delay(self.config.replica_selector),
                times: ReplicaTimes {
                    lag_max_ms: self.config.replica_lag_time_max.0,
                    producer_id_expiration_ms: self.config.producer_id_expiration.0,
                },
                directories: Arc::clone(&self.directories),
                space: Arc::clone(&self.space),
                throttles: Arc::clone(throttles),
                cleaner: Arc::clone(cleaner),
                transactions: Arc::<Gate>::clone(gate),
            };
            let config = self.config.clone();
            Supervisor::start_in_arbiter(&shard.handle(), move |_| Supervisor::new(shared, &config))
        });
        Ok(supervisors.collect())
    }

    /// The way to partitions, wherever they are led.
    fn leaders(&self, metadata: &Arc<MetadataCache>) -> Arc<Leaders> {
        let peers = Arc::new(Peers::new(self.image.clone(), self.faults.network()));
        let unpacker = Arc::new(Unpacker::new(bytes(self.config.unpack_memory.0)));
        let admission = Admission::new(self.config.node_id);
        Arc::new(Leaders::new(Arc::clone(metadata), peers, admission, unpacker))
    }
}

fn ends_delay(selector: ReplicaSelector) -> Duration {
    match selector {
        ReplicaSelector::Leader => ENDS_DELAY,
        ReplicaSelector::RackAware => ENDS_DELAY_FOR_READERS,
    }
}

fn bytes(configured: u64) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX)
}
