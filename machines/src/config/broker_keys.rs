//! What has to be known of the settings of brokers by whoever decides about them. Which there are, the node knows that
//! has them, and gives this to the decision.

use super::ConfigError;
use std::collections::BTreeMap;

/// For whom something is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    OneBroker,
    /// Every broker that has no setting of its own.
    Cluster,
}

/// The settings of brokers that can be changed while they run.
pub trait BrokerKeys: Send + Sync {
    /// The value in canonical form: two ways of writing are one value.
    ///
    /// # Errors
    /// There is no such key, it cannot be set for that while nodes run, or it has no such value.
    fn canonical(&self, scope: Scope, key: &str, value: &str) -> Result<String, ConfigError>;

    /// Whether the key can be set for that at all.
    ///
    /// # Errors
    /// As above.
    fn check_key(&self, scope: Scope, key: &str) -> Result<(), ConfigError>;

    /// Of a list, what it is where nobody sets it; `None`: the key is no list.
    fn default_list(&self, key: &str) -> Option<String>;

    /// Whether a broker can live with these: the cluster's, and its own.
    ///
    /// # Errors
    /// They make no sense together.
    fn check(
        &self,
        cluster: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError>;
}
