//! Settings that are changed while nodes run: which can be, for whom, and what they make of what a node was started with.
//!
//! Never here: where they are kept.

use super::declaration::UpdateMode;
use super::{ConfigFaults, NodeConfig, nearest};
use std::collections::BTreeMap;
use troupe_machines::config::{ConfigError, Scope};

type Overrides = BTreeMap<String, String>;

/// Keys whose values are lists.
const LISTS: [&str; 1] = ["log.cleanup.policy"];

impl NodeConfig {
    /// What holds once these are set: the cluster's, and over them the broker's own. What cannot be set while nodes run,
    /// here or in the version that set it, is passed over.
    ///
    /// # Errors
    /// They make no sense beside the rest.
    pub fn with_overrides(
        &self,
        cluster: &Overrides,
        own: &Overrides,
    ) -> Result<NodeConfig, ConfigFaults> {
        let (mut config, mut faults) = (self.clone(), Vec::new());
        for (scope, overrides) in [(Scope::Cluster, cluster), (Scope::OneBroker, own)] {
            for (key, value) in overrides {
                if Self::check_settable(scope, key).is_ok()
                    && let Err(fault) = config.set(key, value)
                {
                    faults.push(format!("{key}: {fault}"));
                }
            }
        }
        config.check(&mut faults);
        if faults.is_empty() { Ok(config) } else { Err(ConfigFaults(faults)) }
    }

    /// Whether the key can be set for that while nodes run.
    ///
    /// # Errors
    /// There is no such key, it needs a restart, or it is one for all brokers.
    pub fn check_settable(scope: Scope, key: &str) -> Result<(), ConfigError> {
        let owned = || key.to_owned();
        match (NodeConfig::update_mode(key), scope) {
            (Some(UpdateMode::Dynamic), _) | (Some(UpdateMode::ClusterWide), Scope::Cluster) => {
                Ok(())
            }
            (Some(UpdateMode::ClusterWide), Scope::OneBroker) => {
                Err(ConfigError::ForTheCluster { key: owned() })
            }
            (Some(UpdateMode::Restart), _) => Err(ConfigError::NeedsRestart { key: owned() }),
            (None, _) => {
                let keys = NodeConfig::keys();
                let suggestion = nearest(key, keys.iter().map(|key| key.name));
                Err(ConfigError::UnknownOfBroker { key: owned(), suggestion })
            }
        }
    }

    /// Whether something can be appended to the value of a key.
    pub fn is_list(key: &str) -> bool {
        LISTS.contains(&key)
    }
}
