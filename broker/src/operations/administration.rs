//! What every listener serves, on brokers and on controllers alike: how the cluster and this node are, and what
//! operators do about it.
//!
//! Only wires: each family is given its own handles here, and keeps no more.

use super::chaos::{ActorTree, Chaos};
use super::cluster::Cluster;
use super::configs::Configs;
use super::disk::Disk;
use super::health::Health;
use super::metadata::ClusterMetadata;
use super::observation::{Observation, PullSessions};
use super::placement::Placement;
use super::readiness::Readiness;
use super::reassignments::Reassignments;
use super::record_deletion::RecordDeletion;
use super::subscriptions::Sessions;
use super::topic_lookup::TopicLookup;
use super::topics::Topics;
use crate::NodeConfig;
use crate::cleaner::CleaningTable;
use crate::faults::NodeFaults;
use crate::forward::{ActiveController, Leaders};
use crate::group::GroupCoordinators;
use crate::log_directories::LogDirs;
use crate::metrics::NodeMetrics;
use crate::node_settings::NodeSettings;
use crate::partition::Volumes;
use crate::replication::Replicator;
use crate::txn::TxnCoordinators;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use troupe_actor::StallDetector;

#[derive(Clone)]
pub struct Administration {
    pub topics: Arc<Topics>,
    pub configs: Arc<Configs>,
    pub record_deletion: Arc<RecordDeletion>,
    pub cluster: Arc<Cluster>,
    pub placement: Arc<Placement>,
    pub reassignments: Arc<Reassignments>,
    pub metadata: Arc<ClusterMetadata>,
    pub health: Arc<Health>,
    pub log_dirs: Arc<LogDirs>,
    pub readiness: Arc<Readiness>,
    pub chaos: Arc<Chaos>,
    pub observation: Arc<Observation>,
}

/// The parts of a node that are looked at.
pub struct Observed<'a> {
    pub config: &'a NodeConfig,
    pub settings: &'a Arc<NodeSettings>,
    /// host:port that clients are told.
    pub endpoint: &'a str,
    pub controller: &'a Arc<ActiveController>,
    pub leaders: &'a Arc<Leaders>,
    pub coordinators: &'a Arc<GroupCoordinators>,
    pub txn_coordinators: &'a Arc<TxnCoordinators>,
    pub sessions: &'a Arc<Sessions>,
    /// How many sessions are held between calls.
    pub pull_sessions: PullSessions,
    /// By shard.
    pub replicators: &'a [Arc<Replicator>],
    /// By shard: whether its thread runs.
    pub thread_stall_detectors: &'a [Arc<StallDetector>],
    pub metrics: &'a Arc<NodeMetrics>,
    /// How the compaction of this node's replicas stands.
    pub cleanings: &'a Arc<CleaningTable>,
    pub volumes: &'a Volumes,
    pub log_dirs: &'a Arc<LogDirs>,
    /// What the node suffers, as somebody wants it.
    pub faults: &'a Arc<NodeFaults>,
    /// Cancelled when the node has stopped.
    pub gone: &'a CancellationToken,
}

impl Administration {
    pub fn new(observed: &Observed<'_>) -> Self {
        let Observed { config, controller, metrics, .. } = *observed;
        let (metadata, channel) = (&observed.leaders.metadata, &controller.channel);
        let disk = Arc::new(Disk::new(observed.volumes.clone(), metrics.disk_full.clone()));
        let tree = ActorTree {
            endpoint: observed.endpoint.to_owned(),
            metadata: Arc::clone(metadata),
            controller: Arc::clone(channel),
            coordinators: Arc::clone(observed.coordinators),
            txn_coordinators: Arc::clone(observed.txn_coordinators),
            thread_stall_detectors: observed.thread_stall_detectors.to_vec(),
            replicators: observed.replicators.to_vec(),
            faults: Arc::clone(observed.faults),
        };
        let observation = Observation {
            metrics: Arc::clone(metrics),
            leaders: Arc::clone(observed.leaders),
            controller: Arc::clone(channel),
            coordinators: Arc::clone(observed.coordinators),
            txn_coordinators: Arc::clone(observed.txn_coordinators),
            sessions: Arc::clone(observed.sessions),
            pull_sessions: Arc::clone(&observed.pull_sessions),
            replicators: observed.replicators.to_vec(),
            disk: Arc::clone(&disk),
            cleanings: Arc::clone(observed.cleanings),
            faults: Arc::clone(observed.faults),
        };
        let cluster = Cluster::new(
            Arc::clone(metadata),
            Arc::clone(controller),
            Arc::clone(observed.cleanings),
            Arc::clone(metrics),
        );
        let placement = Placement::new(Arc::clone(metadata), Arc::clone(controller));
        let reassignments = Reassignments::new(Arc::clone(metadata), Arc::clone(controller));
        let health =
            Health::new(Arc::clone(metadata), Arc::clone(channel), disk, config.session_timeout.0);
        let settings = Arc::clone(observed.settings);
        let topics = Topics::new(Arc::clone(metadata), Arc::clone(controller), settings);
        let configs = Configs::new(
            Arc::clone(metadata),
            Arc::clone(controller),
            Arc::clone(observed.settings),
            Arc::clone(&observed.leaders.peers),
        );
        let readiness =
            Readiness::new(Arc::clone(metadata), Arc::clone(channel), observed.gone.clone());
        let topic_lookup = TopicLookup::new(
            Arc::clone(metadata),
            Arc::clone(controller),
            config.auto_create_topics,
        );
        let cluster_metadata =
            ClusterMetadata::new(Arc::clone(metadata), Arc::clone(channel), topic_lookup);
        Self {
            topics: Arc::new(topics),
            configs: Arc::new(configs),
            record_deletion: Arc::new(RecordDeletion::new(Arc::clone(observed.leaders))),
            cluster: Arc::new(cluster),
            placement: Arc::new(placement),
            reassignments: Arc::new(reassignments),
            metadata: Arc::new(cluster_metadata),
            health: Arc::new(health),
            log_dirs: Arc::clone(observed.log_dirs),
            readiness: Arc::new(readiness),
            chaos: Arc::new(Chaos::new(tree, Arc::clone(observed.faults), Arc::clone(metrics))),
            observation: Arc::new(observation),
        }
    }
}
