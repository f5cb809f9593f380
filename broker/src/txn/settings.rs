//! What a node's configuration says about transactions.

use super::aliases::{TxnCoordinators, TxnRoute};
use crate::NodeConfig;
use crate::coordinator::InternalTopic;
use crate::forward::ActiveController;
use crate::node_settings::NodeSettings;
use crate::peers::Peers;
use std::sync::Arc;
use tokio::sync::watch;
use troupe_machines::cluster::TRANSACTION_TOPIC;
use troupe_machines::txn::Settings;

/// As coordinators take it, and every change of it.
pub fn settings(node: &NodeSettings) -> watch::Receiver<Settings> {
    node.watch_part(settings_of)
}

fn settings_of(config: &NodeConfig) -> Settings {
    Settings {
        max_timeout_ms: u32::try_from(config.transaction_max_timeout.0).unwrap_or(u32::MAX),
        expiration_ms: config.transactional_id_expiration.0,
        ..Settings::default()
    }
}

/// To all transactions of the cluster.
pub fn txn_route(
    config: &NodeConfig,
    coordinators: &Arc<TxnCoordinators>,
    controller: &Arc<ActiveController>,
    peers: &Arc<Peers>,
) -> TxnRoute {
    let topic = InternalTopic {
        name: TRANSACTION_TOPIC,
        partitions: config.transaction_topic_partitions,
        replication_factor: config.transaction_topic_replication_factor,
        replication_factor_key: "transaction.state.log.replication.factor",
        segment_bytes: config.transaction_topic_segment_bytes.0,
        min_insync_replicas: config.min_insync_replicas,
        own_min_insync_replicas: Some(config.transaction_topic_min_insync_replicas),
    };
    TxnRoute::new(coordinators, controller, peers, config.max_request_bytes.0, topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Millis;

    #[test]
    fn coordinators_go_by_the_nodes_configuration() {
        let config = NodeConfig {
            transaction_max_timeout: Millis(5_000),
            transactional_id_expiration: Millis(60_000),
            ..NodeConfig::default()
        };
        let settings = settings_of(&config);
        assert_eq!((settings.max_timeout_ms, settings.expiration_ms), (5_000, 60_000));
    }
}
