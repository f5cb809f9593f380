//! What a node's configuration says about groups.

use super::aliases::{GroupCoordinators, GroupRoute};
use crate::NodeConfig;
use crate::coordinator::InternalTopic;
use crate::forward::ActiveController;
use crate::node_settings::NodeSettings;
use crate::peers::Peers;
use std::sync::Arc;
use tokio::sync::watch;
use troupe_machines::cluster::OFFSETS_TOPIC;
use troupe_machines::group::Settings;

/// As coordinators take it, and every change of it.
pub fn settings(node: &NodeSettings) -> watch::Receiver<Settings> {
    node.watch_part(settings_of)
}

fn settings_of(config: &NodeConfig) -> Settings {
    let millis = |millis: u64| u32::try_from(millis).unwrap_or(u32::MAX);
    Settings {
        max_members: config.group_max_size as usize,
        retention_ms: config.offsets_retention.as_millis(),
        metadata_max_bytes: config.offset_metadata_max_bytes.0 as usize,
        producer_expiration_ms: config.producer_id_expiration.0,
        min_session_timeout_ms: millis(config.group_min_session_timeout.0),
        max_session_timeout_ms: millis(config.group_max_session_timeout.0),
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay.0,
        ..Settings::default()
    }
}

/// To all groups of the cluster.
pub fn group_route(
    config: &NodeConfig,
    coordinators: &Arc<GroupCoordinators>,
    controller: &Arc<ActiveController>,
    peers: &Arc<Peers>,
) -> GroupRoute {
    let topic = InternalTopic {
        name: OFFSETS_TOPIC,
        partitions: config.offsets_topic_partitions,
        replication_factor: config.offsets_topic_replication_factor,
        replication_factor_key: "offsets.topic.replication.factor",
        segment_bytes: config.offsets_topic_segment_bytes.0,
        min_insync_replicas: config.min_insync_replicas,
        own_min_insync_replicas: None,
    };
    GroupRoute::new(coordinators, controller, peers, config.max_request_bytes.0, topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    #[test]
    fn groups_remember_producers_for_as_long_as_partitions_do() {
        let config = NodeConfig { producer_id_expiration: Millis(7_000), ..NodeConfig::default() };
        assert_eq!(settings_of(&config).producer_expiration_ms, 7_000);
    }
}
