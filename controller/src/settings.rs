//! What the controller goes by: what its node was started with, and over it what is set for the cluster.
//!
//! Which settings there are the node knows; it says what they make of its own.
//! Never here: a key.

use crate::config::Upkeep;
use std::sync::Arc;
use troupe_machines::cluster::{ClusterImage, ClusterPolicy, Overrides};
use troupe_machines::config::{BrokerKeys, ConfigError, Scope};

/// The settings of brokers, as whoever started the controller has them.
pub trait ClusterSettings: BrokerKeys {
    /// What the controller goes by once these are set for the cluster.
    fn policy(&self, cluster: &Overrides) -> ClusterPolicy;

    /// What it does of itself then.
    fn upkeep(&self, cluster: &Overrides) -> Upkeep;
}

/// Clones are the same.
#[derive(Clone, Default)]
pub struct Settings {
    policy: ClusterPolicy,
    upkeep: Upkeep,
    /// `None`: nothing can be set.
    cluster: Option<Arc<dyn ClusterSettings>>,
}

impl Settings {
    /// What can be set, and what holds while nothing is.
    pub fn new(cluster: Arc<dyn ClusterSettings>) -> Settings {
        let nothing = Overrides::new();
        let (policy, upkeep) = (cluster.policy(&nothing), cluster.upkeep(&nothing));
        Settings { policy, upkeep, cluster: Some(cluster) }
    }

    /// These, and nothing can be set.
    pub fn fixed(policy: ClusterPolicy, upkeep: Upkeep) -> Settings {
        Settings { policy, upkeep, cluster: None }
    }

    pub(crate) fn policy(&self, image: &ClusterImage) -> ClusterPolicy {
        match &self.cluster {
            Some(cluster) if !image.cluster_overrides().is_empty() => {
                cluster.policy(image.cluster_overrides())
            }
            Some(_) | None => self.policy.clone(),
        }
    }

    pub(crate) fn upkeep(&self, image: &ClusterImage) -> Upkeep {
        match &self.cluster {
            Some(cluster) if !image.cluster_overrides().is_empty() => {
                cluster.upkeep(image.cluster_overrides())
            }
            Some(_) | None => self.upkeep,
        }
    }

    pub(crate) fn keys(&self) -> &dyn BrokerKeys {
        match &self.cluster {
            Some(cluster) => cluster.as_ref(),
            None => &NoKeys,
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// There are none.
struct NoKeys;

impl BrokerKeys for NoKeys {
    fn canonical(&self, scope: Scope, key: &str, _value: &str) -> Result<String, ConfigError> {
        self.check_key(scope, key).map(|()| String::new())
    }

    fn check_key(&self, _scope: Scope, key: &str) -> Result<(), ConfigError> {
        Err(ConfigError::UnknownOfBroker { key: key.to_owned(), suggestion: None })
    }

    fn default_list(&self, _key: &str) -> Option<String> {
        None
    }

    fn check(&self, _cluster: &Overrides, _own: &Overrides) -> Result<(), ConfigError> {
        Ok(())
    }
}
