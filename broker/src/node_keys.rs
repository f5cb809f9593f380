//! The keys of nodes, as whoever decides about settings is given them.
//!
//! Never here: which keys there are, or where settings are kept.

use crate::NodeConfig;
use crate::config::ConfigFaults;
use std::collections::BTreeMap;
use troupe_machines::config::{BrokerKeys, ConfigError, Scope};

type Overrides = BTreeMap<String, String>;

/// All that can be set while nodes run.
#[derive(Clone, Copy, Debug)]
pub struct NodeKeys;

impl BrokerKeys for NodeKeys {
    fn canonical(&self, scope: Scope, key: &str, value: &str) -> Result<String, ConfigError> {
        self.check_key(scope, key)?;
        let mut config = NodeConfig::default();
        let invalid =
            |reason| ConfigError::Invalid { key: key.to_owned(), value: value.to_owned(), reason };
        config.set(key, value.trim()).map_err(invalid)?;
        Ok(config.get(key).unwrap_or_default())
    }

    fn check_key(&self, scope: Scope, key: &str) -> Result<(), ConfigError> {
        NodeConfig::check_settable(scope, key)
    }

    fn default_list(&self, key: &str) -> Option<String> {
        NodeConfig::is_list(key).then(|| NodeConfig::default().get(key)).flatten()
    }

    fn check(&self, cluster: &Overrides, own: &Overrides) -> Result<(), ConfigError> {
        let faults = match NodeConfig::default().with_overrides(cluster, own) {
            Ok(_) => return Ok(()),
            Err(ConfigFaults(faults)) => faults.join("; "),
        };
        let (key, reason) = faults.split_once(": ").unwrap_or(("", &faults));
        let value = own.get(key).or_else(|| cluster.get(key)).cloned().unwrap_or_default();
        Err(ConfigError::Invalid { key: key.to_owned(), value, reason: reason.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_set_while_nodes_run_is_told_from_what_cannot() {
        let set = |scope, key, value| NodeKeys.canonical(scope, key, value);
        let told = |scope, key, value| set(scope, key, value).unwrap_err().to_string();
        assert_eq!(
            set(Scope::OneBroker, "log.retention.bytes", " 1MiB "),
            Ok("1048576".to_owned())
        );
        assert_eq!(set(Scope::Cluster, "num.partitions", "03"), Ok("3".to_owned()));
        for (scope, key, value, words) in [
            (Scope::OneBroker, "num.partitions", "3", "set it for the cluster"),
            (Scope::Cluster, "shards", "3", "start it again"),
            (Scope::Cluster, "log.retention.byte", "3", "did you mean 'log.retention.bytes'?"),
            (Scope::Cluster, "log.retention.bytes", "much", "no value for 'log.retention.bytes'"),
        ] {
            let refused = told(scope, key, value);
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_refused_with_the_key() {
        let overrides = |pairs: &[(&str, &str)]| -> Overrides {
            pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let cluster = overrides(&[("group.min.session.timeout.ms", "9000")]);
        let own = overrides(&[("group.max.session.timeout.ms", "8000")]);
        assert_eq!(NodeKeys.check(&cluster, &Overrides::new()), Ok(()));
        let refused = NodeKeys.check(&cluster, &own).unwrap_err().to_string();
        assert!(
            refused.starts_with("'9000' is no value for 'group.min.session.timeout.ms'"),
            "{refused}"
        );
        let zero = overrides(&[("log.cleaner.threads", "0")]);
        let refused = NodeKeys.check(&zero, &Overrides::new()).unwrap_err().to_string();
        assert!(refused.contains("0 is too small"), "{refused}");
    }
}
