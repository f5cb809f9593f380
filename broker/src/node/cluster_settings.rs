//! What the controller on this node goes by: the node's own settings, and over them what is set for the cluster.

use crate::NodeConfig;
use crate::node_keys::NodeKeys;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use troupe_controller::{ClusterSettings, Upkeep};
use troupe_machines::cluster::{ClusterPolicy, PartitionLimits};
use troupe_machines::config::{BrokerKeys, ConfigError, Scope};

type Overrides = BTreeMap<String, String>;

pub(super) struct OwnSettings {
    started: NodeConfig,
    /// What was last asked for: every decision asks, and hardly ever for another.
    last: Mutex<(Overrides, Settled)>,
}

#[derive(Clone)]
struct Settled {
    policy: ClusterPolicy,
    upkeep: Upkeep,
}

impl OwnSettings {
    pub fn new(started: NodeConfig) -> Self {
        let last = Mutex::new((Overrides::new(), settled(&started, &started)));
        Self { started, last }
    }

    fn with(&self, cluster: &Overrides) -> Settled {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != *cluster {
            let now = self.started.with_overrides(cluster, &Overrides::new());
            // What makes no sense here is told where the node's own settings follow.
            let now = now.as_ref().unwrap_or(&self.started);
            *last = (cluster.clone(), settled(&self.started, now));
        }
        last.1.clone()
    }
}

fn settled(started: &NodeConfig, now: &NodeConfig) -> Settled {
    let policy = ClusterPolicy {
        num_partitions: now.num_partitions,
        default_replication_factor: now.default_replication_factor,
        // Topics follow what is set for the cluster; they keep what the controller was started with.
        min_insync_replicas: started.min_insync_replicas,
        unclean_leader_election: started.unclean_leader_election,
        delete_topic_enable: now.delete_topic,
        partition_limits: PartitionLimits {
            per_request: now.max_partitions_per_request,
            per_node: now.max_partitions_per_node,
            per_cluster: now.max_partitions_per_cluster,
        },
    };
    let upkeep = Upkeep {
        leader_rebalance: now.leader_rebalance,
        imbalance_check: now.leader_imbalance_interval.duration(),
        imbalance_percentage: now.leader_imbalance_percentage,
        ..Upkeep::default()
    };
    Settled { policy, upkeep }
}

impl ClusterSettings for OwnSettings {
    fn policy(&self, cluster: &Overrides) -> ClusterPolicy {
        self.with(cluster).policy
    }

    fn upkeep(&self, cluster: &Overrides) -> Upkeep {
        self.with(cluster).upkeep
    }
}

impl BrokerKeys for OwnSettings {
    fn canonical(&self, scope: Scope, key: &str, value: &str) -> Result<String, ConfigError> {
        NodeKeys.canonical(scope, key, value)
    }

    fn check_key(&self, scope: Scope, key: &str) -> Result<(), ConfigError> {
        NodeKeys.check_key(scope, key)
    }

    fn default_list(&self, key: &str) -> Option<String> {
        NodeKeys.default_list(key)
    }

    fn check(&self, cluster: &Overrides, own: &Overrides) -> Result<(), ConfigError> {
        NodeKeys.check(cluster, own)
    }
}
